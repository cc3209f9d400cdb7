"""Runs the image's root file system as an engine would: as the image's own user, on a read-only root, with the image's own
command line; with a request through to a simulated WSO2, the image's health check, and SIGTERM.

    python3 tests/image/check_image.py ROOT SIMULATOR

ROOT is what scripts/image-root.sh has written. Linux' own means stand in for an engine (bubblewrap: user, process and mount
namespaces, no privileges); the network is the host's, on free loopback ports. Exit code 1 when something is not so.
"""

import contextlib
import http.client
import json
import os
import pathlib
import platform
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

import unit_filter

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 60.0
# Seconds; the drain as configured below, and what may come on top of it: end of requests, last observations, the file.
DRAIN, TOP = 6, 12


class Image:
    """What the Dockerfile says of the image."""

    def __init__(self):
        text = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ")
        last = text[text.index("FROM scratch") :]
        self.user, self.group = map(int, self.word(last, "USER").split(":"))
        self.folder = self.word(last, "WORKDIR")
        (self.volume,) = json.loads(self.word(last, "VOLUME"))
        self.entry = json.loads(self.word(last, "ENTRYPOINT"))
        self.command = self.entry + json.loads(self.word(last, "CMD"))
        self.health = json.loads(self.word(last, "HEALTHCHECK").partition("CMD")[2])
        self.stop = getattr(signal, self.word(last, "STOPSIGNAL"))

    @staticmethod
    def word(text, name):
        return re.search(rf"^{name} +(.+)$", text, re.MULTILINE)[1].strip()


class Container:
    """One set of mounts: the root, a volume, a folder of configuration."""

    def __init__(self, image, root, volume, configuration):
        self.image = image
        self.sandbox = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
        self.sandbox += ["--uid", str(image.user), "--gid", str(image.group), "--cap-drop", "ALL", "--clearenv"]
        self.sandbox += ["--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev", "--bind", volume, image.volume]
        self.sandbox += ["--ro-bind", configuration, "/etc/riskgate", "--chdir", image.folder, "--die-with-parent"]
        if os.geteuid() == 0:
            # Root would stay root outside of its namespace: it becomes the image's user first.
            ids = [f"--reuid={image.user}", f"--regid={image.group}", "--clear-groups"]
            self.sandbox = ["setpriv", *ids, *self.sandbox]

    def run(self, *arguments):
        """Another process in it, as `docker exec`."""
        done = subprocess.run([*self.sandbox, "--", *arguments], capture_output=True, text=True, timeout=PATIENCE)
        return done.returncode, done.stdout + done.stderr

    @contextlib.contextmanager
    def start(self, log, filter=None):
        """The image's command as the first process, as an engine starts it: the process and its id outside."""
        reading, writing = os.pipe()
        arguments = [*self.sandbox, "--as-pid-1", "--info-fd", str(writing)]
        with open(log, "ab") as out, tempfile.TemporaryFile() as calls:
            if filter is not None:
                calls.write(filter)
                calls.seek(0)
                arguments += ["--seccomp", str(calls.fileno())]
            arguments += ["--", *self.image.command]
            process = subprocess.Popen(arguments, stdout=out, stderr=out, pass_fds=[writing, calls.fileno()])
        os.close(writing)
        with os.fdopen(reading) as told:
            said = told.read()
        try:
            check(said, f"the container did not start: {pathlib.Path(log).read_text()[-2000:]}")
            yield process, json.loads(said)["child-pid"]
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def check(holds, what):
    if not holds:
        print(f"FAILED  {what}", file=sys.stderr)
        sys.exit(1)


def passed(what):
    print(f"ok      {what}", flush=True)


def until(condition, what, log):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.1)
    check(False, f"{what}, within {PATIENCE:.0f} s; the log ends:\n{pathlib.Path(log).read_text()[-2000:]}")


def free_port():
    # Below those that the system gives to outgoing connections, so that none of them takes it before a program does.
    for port in random.sample(range(22_000, 32_000), 1_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise SystemExit("no port is free")


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body=body, headers={"Host": "localhost", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def configuration(folder, ports, authority):
    """The image's own file, with what an operator changes in it: addresses, WSO2's authority."""
    text = (REPOSITORY / "deploy/image/riskgate.toml").read_text()
    for before, after in [
        ('listen = "0.0.0.0:8080"', f'listen = "127.0.0.1:{ports["public"]}"\ndrain_seconds = {DRAIN}'),
        (
            'url = "https://wso2is:9443"',
            f'url = "https://localhost:{ports["sim"]}"\nca_file = "/etc/riskgate/wso2-ca.pem"\nconnect_timeout_ms = 5000',
        ),
    ]:
        check(text.count(before) == 1, f"deploy/image/riskgate.toml has no longer `{before}`")
        text = text.replace(before, after)
    # A debug build on a busy machine is no measure of speed.
    text += f'\n[admin]\nlisten = "127.0.0.1:{ports["admin"]}"\n\n[score]\nbudget_ms = 10000\n'
    (folder / "riskgate.toml").write_text(text)
    shutil.copy(authority, folder / "wso2-ca.pem")
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def contents(root):
    """Nothing in the image is writable by its user but the volume and /tmp, and nothing runs as somebody else."""
    writable, privileged, names = [], [], set()
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        if path.is_symlink() or path.is_file():
            names.add(path.name)
        if path.is_symlink():
            continue
        if mode & 0o022:
            writable.append(str(path.relative_to(root)))
        if mode & 0o6000:
            privileged.append(str(path.relative_to(root)))
    check(writable == ["tmp"], f"others may write: {writable}")
    check(not privileged, f"runs with the rights of its owner: {privileged}")
    strangers = names & {"sh", "bash", "dash", "busybox", "apt-get", "dpkg", "perl", "python3", "openssl"}
    check(not strangers, f"programs that the image does not need: {sorted(strangers)}")
    notices = root / "usr/share/doc/riskgate"
    bill = json.loads((notices / "sbom.cdx.json").read_text())
    named = {entry["name"] for entry in bill["components"]}
    check({"libc6", "libstdc++6", "onnxruntime", "pingora-core", "riskgate-login"} <= named, "the SBOM lacks parts")
    check("pingora-core 0.9" in (notices / "crates.txt").read_text(), "the licences lack crates")
    for name in ["LICENSE", "THIRD_PARTY.md", "onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"]:
        check((notices / name).stat().st_size > 0, f"{name} is missing")
    passed("nothing is writable, nothing is set-user-id, no shell; SBOM and licences are inside")


def serves(ports, container, log):
    """The demo's requests through to WSO2, scored by ONNX Runtime, and recorded."""
    status, body, _ = ask(ports["admin"], "GET", "/health/ready")
    parts = json.loads(body)["parts"]
    check(status == 200 and parts["model"] == {"status": "ok"}, f"the model is not as it should be: {body}")
    code, text = container.run(*container.image.entry, "model", "inspect", "/opt/riskgate/conf/model")
    check(code == 0 and text.count("ONNX Runtime: p50") == 3, f"ONNX Runtime is not loaded: {text[-900:]}")
    form = urllib.parse.urlencode({"grant_type": "client_credentials"})
    basic = {"Authorization": "Basic ZGVtby1zZXJ2aWNlOmRlbW8tc2VydmljZS1zZWNyZXQ="}
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    status, body, _ = ask(ports["public"], "POST", "/oauth2/token", form, basic | kind)
    check(status == 200 and json.loads(body)["access_token"], f"no token: {status} {body[:300]}")
    query = urllib.parse.urlencode(
        {
            "response_type": "code",
            "client_id": "demo-web",
            "redirect_uri": "http://localhost:9180/callback",
            "scope": "openid",
            "state": "s",
        }
    )
    status, body, headers = ask(ports["public"], "GET", f"/oauth2/authorize?{query}")
    check(status == 302 and headers["Location"], f"no login page: {status} {body[:300]}")
    status, _, _ = ask(ports["public"], "GET", "/carbon/admin/login.jsp")
    check(status == 404, f"a management door answers {status}")
    audit = pathlib.Path(container.volume) / "audit.jsonl"

    def scored():
        records = [json.loads(line) for line in audit.read_text().splitlines()] if audit.exists() else []
        return {record["door"] for record in records if record.get("score") is not None} >= {"token", "authorize"}

    until(scored, "both requests are recorded with a score", log)
    passed("a token and an authorize request pass to WSO2, scored by the image's model and recorded in the volume")


def confined(process_id, image, filter):
    status = pathlib.Path(f"/proc/{process_id}/status").read_text()
    fields = dict(re.findall(r"^(\w+):\s+(.+)$", status, re.MULTILINE))
    # As seen from outside: as root started it, the image's user; else who runs this.
    expected = image.user if os.geteuid() == 0 else os.geteuid()
    check({*fields["Uid"].split()} == {str(expected)}, f"runs as {fields['Uid']}")
    check(fields["NSpid"].split()[-1] == "1", "is not the first process of its container")
    check(int(fields["CapEff"], 16) == 0 and int(fields["CapBnd"], 16) == 0, f"has capabilities: {fields['CapEff']}")
    check(fields["NoNewPrivs"] == "1", "may gain privileges")
    check(fields["Seccomp"] == ("0" if filter is None else "2"), f"system calls: {fields['Seccomp']}")
    mounts = [line.split() for line in pathlib.Path(f"/proc/{process_id}/mountinfo").read_text().splitlines()]
    (own,) = [mount[5].split(",") for mount in mounts if mount[4] == "/"]
    check("ro" in own, f"the root is mounted {own}")
    passed("it is process 1, as the image's user, without capabilities, on a read-only root")


def drains(process, process_id, ports, image):
    """After SIGTERM: readiness says no at once, requests are still served, then it ends by itself."""
    begun = time.monotonic()
    os.kill(process_id, image.stop)
    seen = set()
    while time.monotonic() < begun + DRAIN / 2:
        ready, _, _ = ask(ports["admin"], "GET", "/health/ready")
        served, _, _ = ask(ports["public"], "GET", "/oauth2/jwks")
        seen.add((ready, served))
        time.sleep(0.1)
    # The first question may have overtaken the signal.
    check((503, 200) in seen and seen <= {(503, 200), (200, 200)}, f"while draining: {seen}")
    code = process.wait(timeout=DRAIN + PATIENCE)
    took = time.monotonic() - begun
    check(code == 0, f"it ended with {code}")
    check(took >= DRAIN, f"it ended after {took:.1f} s, before the drain was over")
    passed(f"it drains: not ready, still serving, ended with 0 after {took:.1f} s")


def main():
    root, simulator = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    image = Image()
    contents(root)
    ports = {name: free_port() for name in ["public", "admin", "sim"]}
    with contextlib.ExitStack() as stack:
        place = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.chmod(0o755)
        sim = stack.enter_context(
            subprocess.Popen(
                [simulator, "--listen", f"127.0.0.1:{ports['sim']}", "--tls", "--cert-out", place / "ca.pem"],
                stdout=subprocess.DEVNULL,
            )
        )
        stack.callback(sim.terminate)
        log = place / "log"
        log.touch()
        until((place / "ca.pem").exists, "the simulator is up", log)
        mounted, volume = place / "configuration", place / "volume"
        mounted.mkdir()
        volume.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(volume, image.user, image.group)
        configuration(mounted, ports, place / "ca.pem")
        container = Container(image, root, volume, mounted)
        container.volume = volume

        code, text = container.run(*image.entry, "--version")
        check(code == 0 and "\ncommit  " in text, f"--version: {code} {text}")
        code, text = container.run(*image.health)
        check(code == 1, f"the health check of what does not run: {code} {text}")
        code, text = container.run(*image.command, "--data", "/opt/riskgate/data")
        check(code == 2 and "ead-only file system" in text, f"it writes to the root: {code} {text[-500:]}")
        passed("the root cannot be written, and the health check fails where nothing runs")

        secret = None
        filters = [None, unit_filter.program() if platform.machine() == "x86_64" else None]
        for run, filter in enumerate(filters, 1):
            with container.start(log, filter) as (process, process_id):
                until(lambda: container.run(*image.health)[0] == 0, "the health check passes", log)
                how = "" if filter is None else " under the systemd unit's filter of system calls"
                passed(f"run {run}: `{shlex.join(image.command)}` starts{how}, and the image's health check passes")
                confined(process_id, image, filter)
                serves(ports, container, log)
                drains(process, process_id, ports, image)
            found = (volume / "secret.key").read_bytes()
            check(secret in (None, found), "the volume's secret was made anew")
            secret = found
    print(f"\n{len(filters)} runs of the image passed")


if __name__ == "__main__":
    main()
