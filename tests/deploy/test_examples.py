"""The Dockerfile, the compose file, the Kubernetes example and the systemd unit are valid, agree with each other, and hold configurations
that riskgate takes. They start nothing: scripts/test-image.sh does. The program to ask is named by RISKGATE_BIN."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest

import compose_spec
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.33.0"
# Seconds beyond drain and grace that ending may take: connections, last observations, the files.
TOP = 10


# MiB that a node takes for itself, address databases twice (docs/guides/planning.md), and for each client that sends all that it may
# (docs/SECURITY-TESTS.md, R27).
OWN, EACH = 850, 0.28


def mib(size):
    number, unit = re.fullmatch(r"([0-9]+)(Mi|M|m|Gi|G|g)", size).groups()
    return int(number) * (1 if unit.lower().startswith("m") else 1024)


def held(configuration):
    """The most that clients and the node itself can take, in MiB."""
    return OWN + EACH * tomllib.loads(configuration)["server"]["connections_max"]


def drain(configuration):
    server = tomllib.loads(configuration).get("server", {})
    return server.get("drain_seconds", 5) + server.get("grace_seconds", 5)


class Configurations(unittest.TestCase):
    """Each with files where it names some, as `riskgate check` is the one that knows."""

    def check(self, text, replaced, tls=True):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            certificate(folder)
            (folder / "secret.key").write_bytes(bytes(range(32)))
            (folder / "secret.key").chmod(0o600)
            (folder / "policy.toml").write_bytes((ROOT / "conf/policy.toml").read_bytes())
            self.assertGreater(len(replaced), 0)
            for path, file in replaced.items():
                self.assertIn(f'"{path}"', text)
                text = text.replace(f'"{path}"', f'"{folder / file}"')
            file = folder / "riskgate.toml"
            file.write_text(text)
            command = [os.environ["RISKGATE_BIN"], "check", "-c", str(file)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        # No path of the container is left over, or it would have been looked for here.
        self.assertEqual(re.findall(r'"/(?:etc|var)/[^"]*"', text), [])
        # Where several could share a Redis, each has the same secret.
        self.assertNotIn("keys.secret_file", done.stdout)
        return done.stdout

    def test_that_of_the_image(self):
        text = (DEPLOY / "image/riskgate.toml").read_text()
        self.check(text, {"/var/lib/riskgate": "data"})

    def test_that_of_compose(self):
        said = self.check(
            (DEPLOY / "compose/riskgate.toml").read_text(),
            {
                "/var/lib/riskgate": "data",
                "/etc/riskgate/certs/dev-server.crt": "server.crt",
                "/etc/riskgate/certs/dev-server.key": "server.key",
                "/etc/riskgate/certs/riskgate.key": "secret.key",
            },
        )
        self.assertIn("passwords can be read on the way", said, "the one danger is told")

    def test_that_of_systemd(self):
        self.check(
            (DEPLOY / "systemd/riskgate.toml").read_text(),
            {
                "/var/lib/riskgate": "data",
                "/etc/riskgate/server.crt": "server.crt",
                "/etc/riskgate/server.key": "server.key",
                "/etc/riskgate/wso2-ca.pem": "server.crt",
                "/etc/riskgate/policy.toml": "policy.toml",
            },
        )

    def test_that_of_kubernetes(self):
        (configuration,) = documents("ConfigMap")
        text = configuration["data"]["riskgate.toml"]
        # The flag of the deployment's command line.
        text = text.replace("[state]", '[state]\nurl = "rediss://redis.example.com:6379"')
        said = self.check(
            text,
            {
                "/var/lib/riskgate": "data",
                "/etc/riskgate-tls/tls.crt": "server.crt",
                "/etc/riskgate-tls/tls.key": "server.key",
                "/etc/riskgate-ca/wso2-ca.pem": "server.crt",
                "/etc/riskgate-ca/redis-ca.pem": "server.crt",
                "/etc/riskgate-secret/secret.key": "secret.key",
            },
        )
        self.assertNotIn("passwords can be read", said)

    def test_a_wrong_one_is_seen(self):
        with self.assertRaises(AssertionError):
            self.check('[server]\nlisten = "nowhere"\n[state]\ndata_dir = "/x"\n', {"/x": "data"})


def certificate(folder):
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "server.key", "-out", "server.crt"]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True)


class Dockerfile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")

    def test_what_it_is_built_on_is_pinned(self):
        bases = re.findall(r"^FROM (\S+)", self.text, re.MULTILINE)
        self.assertEqual(bases.pop(), "scratch")
        for base in bases:
            self.assertRegex(base, r"^[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$")
        asked = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
        given = re.search(r"^FROM rust:(\d+)\.(\d+)\.\d+-slim-bookworm@", self.text, re.MULTILINE)
        self.assertGreaterEqual(tuple(map(int, given.groups())), tuple(map(int, asked.split("."))))

    def test_the_page_says_of_every_step_whether_tests_run_it(self):
        page = (ROOT / "docs/DEPLOY.md").read_text()
        rows = [line for line in page.split("| step |")[1].splitlines()[2:] if line.startswith("|")]
        told = [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in rows]
        runs = " && ".join(re.findall(r"^RUN (.+)$", self.text, re.MULTILINE))
        steps = re.findall(r"scripts/[\w-]+\.sh|cargo build", runs)
        self.assertEqual([step for names in told for step in names if step in runs], steps)
        others = set(re.findall(r"^([A-Z]+) ", self.text, re.MULTILINE)) - {"RUN", "ARG", "WORKDIR", "LABEL"}
        self.assertEqual(others - {name for names in told for name in names}, set())


class Compose(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.text = (DEPLOY / "compose/compose.yaml").read_text()
        cls.services = yaml.safe_load(cls.text)["services"]

    def test_it_is_valid(self):
        compose_spec.PyCompose.from_yaml(self.text)
        for broken in [self.text.replace("image: redis", "imagee: redis"), self.text.replace("read_only: true", "read_only: maybe")]:
            self.assertNotEqual(broken, self.text)
            with self.assertRaises(ValueError):
                compose_spec.PyCompose.from_yaml(broken)

    def test_images_are_pinned_and_files_are_there(self):
        for name, service in self.services.items():
            if name != "riskgate":
                # Each exactly: by digest, or by a command that the page has, for want of one.
                self.assertRegex(service["image"], r"^[\w/]+(:[0-9]+\.[0-9]+\.[0-9]+|@sha256:[0-9a-f]{64})$", name)
                page = (ROOT / "docs/DEPLOY.md").read_text()
                self.assertTrue("@sha256:" in service["image"] or f"imagetools inspect {service['image']}" in page, name)
            for volume in service.get("volumes", []):
                if volume["type"] == "bind":
                    self.assertTrue((DEPLOY / "compose" / volume["source"]).exists(), volume)

    def test_only_riskgate_can_be_reached_and_operators_from_this_machine_alone(self):
        published = {name: service.get("ports", []) for name, service in self.services.items()}
        self.assertEqual(published.pop("riskgate"), ["127.0.0.1:8443:8443", "127.0.0.1:9090:9090"])
        self.assertEqual([port for ports in published.values() for port in ports], [])
        networks = yaml.safe_load(self.text)["networks"]
        self.assertEqual({name for name, network in networks.items() if not network.get("internal")}, {"edge"})

    def test_every_service_is_confined(self):
        for name, service in self.services.items():
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertEqual(service["security_opt"], ["no-new-privileges:true"], name)
            self.assertEqual(service.get("read_only", False), name != "wso2is", name)

    def test_riskgate_has_time_to_drain(self):
        service = self.services["riskgate"]
        self.assertNotIn("user", service, "the image's own user")
        seconds = int(service["stop_grace_period"].removesuffix("s"))
        self.assertGreaterEqual(seconds, drain((DEPLOY / "compose/riskgate.toml").read_text()) + TOP)

    def test_what_clients_may_hold_fits_into_the_memory(self):
        limit = mib(self.services["riskgate"]["mem_limit"])
        self.assertLessEqual(held((DEPLOY / "compose/riskgate.toml").read_text()), limit)


def documents(kind=None):
    found = []
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        found += [document for document in yaml.safe_load_all(path.read_text()) if document]
    return [document for document in found if kind in (None, document["kind"])]


class Kubernetes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        (cls.deployment,) = documents("Deployment")
        cls.pod = cls.deployment["spec"]["template"]["spec"]
        (cls.container,) = cls.pod["containers"]
        (cls.configuration,) = documents("ConfigMap")

    def test_every_document_is_valid_by_the_schema(self):
        kinds = []
        for document in documents():
            if document["kind"] == "Kustomization":
                continue
            kinds.append(document["kind"])
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        expected = {"ConfigMap", "Deployment", "Namespace", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
        self.assertEqual(set(kinds), expected)
        broken = {**self.deployment, "spec": {**self.deployment["spec"], "replica": 2}}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, KUBERNETES, strict=True)

    def test_kustomize_takes_every_file(self):
        (kustomization,) = documents("Kustomization")
        files = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
        self.assertEqual(set(kustomization["resources"]), files)

    def test_selectors_and_ports_meet_the_pods(self):
        labels = self.deployment["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(self.deployment["spec"]["selector"]["matchLabels"], labels)
        (service,) = documents("Service")
        (budget,) = documents("PodDisruptionBudget")
        self.assertEqual(service["spec"]["selector"], labels)
        self.assertEqual(budget["spec"]["selector"]["matchLabels"], labels)
        self.assertLess(budget["spec"]["minAvailable"], self.deployment["spec"]["replicas"])
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.assertEqual([port["targetPort"] for port in service["spec"]["ports"]], ["https"])
        settings = tomllib.loads(self.configuration["data"]["riskgate.toml"])
        self.assertEqual(settings["server"]["listen"], f"0.0.0.0:{ports['https']}")
        self.assertEqual(settings["admin"]["listen"], f"0.0.0.0:{ports['operators']}")
        self.assertEqual(settings["upstream"]["url"].rsplit(":", 1)[1], "9443")

    def test_only_prometheus_reaches_the_operators_listener(self):
        policy = next(p for p in documents("NetworkPolicy") if p["metadata"]["namespace"] == "riskgate")
        self.assertEqual(set(policy["spec"]["policyTypes"]), {"Ingress", "Egress"})
        open_to_all = [port["port"] for rule in policy["spec"]["ingress"] if "from" not in rule for port in rule["ports"]]
        self.assertEqual(open_to_all, ["https"])
        self.assertTrue(all("to" in rule and "ports" in rule for rule in policy["spec"]["egress"]))

    def test_probes_ask_the_operators_listener(self):
        paths = {}
        for name in ["startupProbe", "readinessProbe", "livenessProbe"]:
            request = self.container[name]["httpGet"]
            self.assertEqual(request["port"], "operators")
            paths[name] = request["path"]
        self.assertEqual(paths["readinessProbe"], "/health/ready")
        self.assertEqual(paths["livenessProbe"], "/health/live")

    def test_pods_have_time_to_drain(self):
        text = self.configuration["data"]["riskgate.toml"]
        self.assertGreaterEqual(self.pod["terminationGracePeriodSeconds"], drain(text) + TOP)
        # Readiness is seen to be gone well before requests are no longer taken.
        probe = self.container["readinessProbe"]
        seen = probe["periodSeconds"] * probe["failureThreshold"]
        self.assertGreaterEqual(tomllib.loads(text)["server"]["drain_seconds"], 2 * seen)
        self.assertEqual(self.deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0)

    def test_what_clients_may_hold_and_records_take_fits(self):
        text = self.configuration["data"]["riskgate.toml"]
        self.assertLessEqual(held(text), mib(self.container["resources"]["limits"]["memory"]))
        (data,) = [volume for volume in self.pod["volumes"] if volume["name"] == "data"]
        shipped = tomllib.loads((ROOT / "conf/riskgate.toml").read_text())["audit"]
        audit = {**shipped, **tomllib.loads(text)["audit"]}
        self.assertGreater(audit["keep_files"], 0, "a pod whose volume grows beyond its limit is evicted")
        # Beside records the console may keep 256 MiB of other nodes (docs/CONSOLE.md).
        files = (audit["keep_files"] + 1) * audit["rotate_mib"] + 256
        self.assertLess(files, mib(data["emptyDir"]["sizeLimit"]))

    def test_pods_are_confined_as_the_restricted_profile_asks(self):
        security = {**self.pod["securityContext"], **self.container["securityContext"]}
        self.assertIs(security["runAsNonRoot"], True)
        self.assertIs(security["readOnlyRootFilesystem"], True)
        self.assertIs(security["allowPrivilegeEscalation"], False)
        self.assertEqual(security["capabilities"], {"drop": ["ALL"]})
        self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertIs(self.pod["automountServiceAccountToken"], False)
        image = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        self.assertEqual((str(security["runAsUser"]), str(security["runAsGroup"])), image.groups())

    def test_secrets_are_referred_to_and_never_held(self):
        self.assertEqual(documents("Secret"), [])
        volumes = {volume["name"]: volume for volume in self.pod["volumes"]}
        for name in ["tls", "secret"]:
            self.assertEqual(volumes[name]["secret"]["defaultMode"], 0o440)
        mounted = {mount["name"] for mount in self.container["volumeMounts"]}
        self.assertEqual(mounted, set(volumes))
        writable = [mount["name"] for mount in self.container["volumeMounts"] if not mount.get("readOnly")]
        self.assertEqual(writable, ["data"])
        self.assertFalse(any("subPath" in mount for mount in self.container["volumeMounts"]), "it would never change")


class Systemd(unittest.TestCase):
    def analyze(self, *arguments, text=None):
        unit = (DEPLOY / "systemd/riskgate.service").read_text() if text is None else text
        # What it starts is not installed here.
        unit = unit.replace("ExecStart=/opt/riskgate/riskgate", "ExecStart=/bin/true")
        unit = unit.replace("WorkingDirectory=/opt/riskgate", "WorkingDirectory=/")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "riskgate.service")
            path.write_text(unit)
            done = subprocess.run(["systemd-analyze", *arguments, path], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def test_the_unit_is_valid(self):
        self.assertEqual(self.analyze("verify", "--man=no"), (0, ""))
        text = (DEPLOY / "systemd/riskgate.service").read_text()
        _, said = self.analyze("verify", "--man=no", text=text.replace("ProtectHome=yes", "ProtectHouse=yes"))
        self.assertIn("ProtectHouse", said)

    def test_the_unit_is_confined(self):
        # Tenths of systemd's measure of exposure: 0 is none, 10 is all.
        code, said = self.analyze("security", "--offline=true", "--threshold=20", "--no-pager")
        self.assertEqual(code, 0, said[-300:])
        code, _ = self.analyze("security", "--offline=true", "--threshold=10", "--no-pager")
        self.assertNotEqual(code, 0, "systemd-analyze does not judge")

    def test_it_has_time_and_memory_and_starts_what_is_documented(self):
        text = (DEPLOY / "systemd/riskgate.service").read_text()
        seconds = int(re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)[1])
        self.assertGreaterEqual(seconds, drain((DEPLOY / "systemd/riskgate.toml").read_text()) + TOP)
        memory = re.search(r"^MemoryMax=(\w+)$", text, re.MULTILINE)[1]
        self.assertLessEqual(held((DEPLOY / "systemd/riskgate.toml").read_text()), mib(memory))
        self.assertIn("\nExecStart=/opt/riskgate/riskgate run -c /etc/riskgate/riskgate.toml\n", text)


if __name__ == "__main__":
    if "RISKGATE_BIN" not in os.environ:
        sys.exit("error: RISKGATE_BIN names no program")
    unittest.main()
