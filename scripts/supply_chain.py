#!/usr/bin/env python3
"""What riskgate is made of, from Cargo.lock and `cargo metadata`: bill of materials, licences, known flaws.

    scripts/supply_chain.py sbom [--debian DIR] [--out FILE]    CycloneDX 1.6, JSON: crates, models, ONNX Runtime, Debian packages
    scripts/supply_chain.py licences [--out FILE]               names and licence texts of every crate that is linked, in one file
    scripts/supply_chain.py policy                              licences, crates and sources are such as deny.toml allows
    scripts/supply_chain.py advisories DIR                      no locked crate has an advisory in the RustSec folder DIR

Needs cargo and nothing else; contacts no network once the crates are fetched. The output is the same byte for byte for
the same sources. Exit codes: 0 done, 1 something is found, 2 the command or the data cannot be used.
"""

import argparse
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
# A namespace of our own for ids that depend on the content alone.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:riskgate:sbom")
# Files of a package that hold its licence or what the licence asks to pass on.
LICENCE_FILE = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)([-._].*)?$", re.IGNORECASE)
LICENCE_BYTES_MAX = 200_000


class Unusable(Exception):
    """What was given cannot be used."""


# --- what is linked ---------------------------------------------------------------------------------------------------


def metadata():
    """The packages as cargo resolves them for this platform, with the lock file as it is."""
    host = re.search(r"^host: (\S+)$", run("rustc", "-vV"), re.MULTILINE)
    if host is None:
        raise Unusable("rustc does not name its host")
    command = ("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host[1])
    return json.loads(run(*command))


def run(*command):
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unusable(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        raise Unusable(f"{' '.join(command[:2])}: {done.stderr.strip()[-400:]}")
    return done.stdout


def linked(resolved, name="riskgate"):
    """The packages that go into the program, by id, and what each names; neither tests nor build scripts' needs."""
    packages = {package["id"]: package for package in resolved["packages"]}
    nodes = {node["id"]: node for node in resolved["resolve"]["nodes"]}
    root = next(key for key, package in packages.items() if package["name"] == name)
    edges, waiting = {}, [root]
    while waiting:
        at = waiting.pop()
        if at in edges:
            continue
        edges[at] = sorted(
            dependency["pkg"]
            for dependency in nodes[at]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
        )
        waiting.extend(edges[at])
    return root, {key: packages[key] for key in edges}, edges


def locked(text=None):
    """(name, version) -> checksum of everything in Cargo.lock that comes from a registry."""
    lock = tomllib.loads(text if text is not None else (ROOT / "Cargo.lock").read_text())
    return {(p["name"], p["version"]): p.get("checksum") for p in lock["package"] if "source" in p}


# --- bill of materials ------------------------------------------------------------------------------------------------


def sbom(debian=None):
    root, packages, edges = linked(metadata())
    checksums = locked()
    components, dependencies = [], []

    def reference(key):
        return f"pkg:cargo/{packages[key]['name']}@{packages[key]['version']}"

    for key, package in sorted(packages.items(), key=lambda item: reference(item[0])):
        dependencies.append({"ref": reference(key), "dependsOn": sorted({reference(on) for on in edges[key]})})
        if key == root:
            continue
        entry = {
            "type": "library",
            "bom-ref": reference(key),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(key),
            "licenses": [{"expression": expression(package)}],
        }
        if package.get("description"):
            entry["description"] = " ".join(package["description"].split())
        checksum = checksums.get((package["name"], package["version"]))
        if checksum:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        if re.match(r"^https?://\S+$", package.get("repository") or ""):
            entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
        components.append(entry)
    beside = [runtime_library(), *models(), *(debian_packages(debian) if debian else [])]
    components.extend(beside)
    program = packages[root]
    own = next(entry for entry in dependencies if entry["ref"] == reference(root))
    own["dependsOn"] = sorted(own["dependsOn"] + [entry["bom-ref"] for entry in beside])
    dependencies.extend({"ref": entry["bom-ref"], "dependsOn": []} for entry in beside)
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": reference(root),
                "name": program["name"],
                "version": program["version"],
                "description": program["description"],
                "purl": reference(root),
                "licenses": [{"expression": program["license"]}],
            }
        },
        "components": components,
        "dependencies": dependencies,
    }
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(NAMESPACE, json.dumps(document, sort_keys=True))}"
    return document


def runtime_library():
    """ONNX Runtime as scripts/fetch-onnxruntime.sh pins it."""
    script = (ROOT / "scripts/fetch-onnxruntime.sh").read_text()
    version = re.search(r"^version=(\S+)$", script, re.MULTILINE)
    if version is None:
        raise Unusable("scripts/fetch-onnxruntime.sh names no version")
    entry = {
        "type": "library",
        "bom-ref": f"pkg:pypi/onnxruntime@{version[1]}",
        "name": "onnxruntime",
        "version": version[1],
        "purl": f"pkg:pypi/onnxruntime@{version[1]}",
        "description": "ONNX Runtime's shared library, out of the published wheel; loaded at start",
        "licenses": [{"expression": "MIT"}],
    }
    library = ROOT / f"vendor/onnxruntime/libonnxruntime.so.{version[1]}"
    if library.is_file():
        entry["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(library.read_bytes()).hexdigest()}]
    return entry


def models():
    """The shipped models, with the digests of their manifest."""
    manifest = tomllib.loads((ROOT / "conf/model/manifest.toml").read_text())
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"model:{model['kind']}@{model['version']}",
            "name": f"riskgate-{model['kind']}",
            "version": model["version"],
            "hashes": [{"alg": "SHA-256", "content": model["sha256"]}],
        }
        for model in manifest["model"]
    ]


def debian_packages(folder):
    """The packages of an image, from the control files that scripts/image-root.sh leaves in it."""
    found = []
    for path in sorted(pathlib.Path(folder).iterdir()):
        fields = dict(re.findall(r"^(Package|Version|Architecture): (.+)$", path.read_text(), re.MULTILINE))
        if len(fields) != 3:
            raise Unusable(f"{path} is no control file")
        version = fields["Version"].replace("+", "%2B").replace(":", "%3A")
        purl = f"pkg:deb/debian/{fields['Package']}@{version}?arch={fields['Architecture']}"
        found.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": fields["Package"],
                "version": fields["Version"],
                "purl": purl,
            }
        )
    if not found:
        raise Unusable(f"{folder} names no package")
    return found


# --- licences ---------------------------------------------------------------------------------------------------------


def expression(package):
    """The SPDX expression. A slash between two names is the old way to write OR."""
    text = package.get("license") or ""
    return re.sub(r"\s*/\s*", " OR ", text).strip() or "NOASSERTION"


def is_allowed(text, allowed):
    """Whether one can comply with an SPDX expression by licences of the list. An exception (WITH) only adds rights."""
    tokens = re.findall(r"\(|\)|[A-Za-z0-9.+-]+", text)
    position = 0

    def either():
        nonlocal position
        value = both()
        while position < len(tokens) and tokens[position] == "OR":
            position += 1
            right = both()
            value = value or right
        return value

    def both():
        nonlocal position
        value = one()
        while position < len(tokens) and tokens[position] == "AND":
            position += 1
            right = one()
            value = value and right
        return value

    def one():
        nonlocal position
        if position >= len(tokens):
            raise Unusable(f"`{text}` is no licence expression")
        token = tokens[position]
        position += 1
        if token == "(":
            value = either()
            if position >= len(tokens) or tokens[position] != ")":
                raise Unusable(f"`{text}` is no licence expression")
            position += 1
            return value
        if token in {")", "AND", "OR", "WITH"}:
            raise Unusable(f"`{text}` is no licence expression")
        if position < len(tokens) and tokens[position] == "WITH":
            position += 2
        return token in allowed

    value = either()
    if position != len(tokens):
        raise Unusable(f"`{text}` is no licence expression")
    return value


def policy(lock=None):
    """What deny.toml does not allow, a line each: licences and banned crates among the linked, sources among the locked."""
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed = set(rules["licenses"]["allow"])
    banned = {entry["crate"]: entry["reason"] for entry in rules["bans"]["deny"]}
    _, packages, _ = linked(metadata())
    found = []
    for package in packages.values():
        name = f"{package['name']} {package['version']}"
        if not is_allowed(expression(package), allowed):
            found.append(f"{name}: licence {expression(package)}")
        if package["name"] in banned:
            found.append(f"{name}: {banned[package['name']]}")
    return sorted(found) + foreign_sources(lock)


def foreign_sources(text=None):
    """Locked crates that come from anywhere but the one registry, or whose content is not pinned."""
    lock = tomllib.loads(text if text is not None else (ROOT / "Cargo.lock").read_text())
    found = []
    for package in lock["package"]:
        source = package.get("source")
        if source is not None and (not source.startswith("registry+") or "checksum" not in package):
            found.append(f"{package['name']} {package['version']}: from {source}")
    registries = {package["source"] for package in lock["package"] if "source" in package}
    return found + ([f"more than one registry: {sorted(registries)}"] if len(registries) > 1 and not found else [])


def licences():
    """One text: every linked crate, then every licence text once, with the crates that carry it."""
    root, packages, _ = linked(metadata())
    crates = sorted(
        (package for key, package in packages.items() if key != root),
        key=lambda package: (package["name"], package["version"]),
    )
    texts, without = {}, []
    for package in crates:
        name = f"{package['name']} {package['version']}"
        folder = pathlib.Path(package["manifest_path"]).parent
        files = sorted(path for path in folder.iterdir() if path.is_file() and LICENCE_FILE.match(path.name))
        named = folder / (package.get("license_file") or "")
        if named.is_file() and named not in files:
            files.append(named)
        for path in files:
            text = path.read_bytes()[:LICENCE_BYTES_MAX].decode("utf-8", errors="replace")
            text = "\n".join(line.rstrip() for line in text.splitlines()).strip()
            if text:
                texts.setdefault(text, []).append(name)
        if not files:
            without.append(f"{name}: {expression(package)}, {package.get('repository') or 'no address given'}")
    lines = [
        "Crates that are linked into riskgate, and their licences.",
        "Written by scripts/supply_chain.py from Cargo.lock; docs/THIRD_PARTY.md names what else is shipped.",
        "",
        *(f"{package['name']} {package['version']}: {expression(package)}" for package in crates),
    ]
    if without:
        lines += ["", "Of these the published package holds no licence text; it is at the address named:", "", *without]
    for text, names in sorted(texts.items(), key=lambda item: (item[1][0], item[0])):
        lines += ["", "=" * 100, f"Of {', '.join(sorted(set(names)))}:", "", text]
    return "\n".join(lines) + "\n"


# --- advisories -------------------------------------------------------------------------------------------------------


def version(text):
    """A version as cargo orders it: a pre-release comes before its release."""
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+\S*)?", text.strip())
    if match is None:
        raise Unusable(f"`{text}` is no version")
    numbers = tuple(int(part or 0) for part in match.groups()[:3])
    if match[4] is None:
        return numbers, (1,)
    parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in match[4].split("."))
    return numbers, (0, parts)


def meets(found, requirement):
    """Whether a version meets a requirement of an advisory, such as `>= 1.2.3, < 2` or `^0.3.24`."""
    at = version(found)
    for part in requirement.split(","):
        match = re.fullmatch(r"\s*(>=|<=|>|<|=|\^|~|)\s*(\S+)\s*", part)
        if match is None:
            raise Unusable(f"`{requirement}` is no requirement")
        sign, text = match[1] or "^", match[2]
        bound = version(text)
        if sign in {"^", "~", "="}:
            holds = bound <= at < upper(sign, text, bound) if sign != "=" or text.count(".") < 2 else at == bound
        else:
            holds = {">=": at >= bound, "<=": at <= bound, ">": at > bound, "<": at < bound}[sign]
        if not holds:
            return False
    return True


def upper(sign, text, bound):
    """The first version that `^`, `~` or an incomplete `=` leaves out."""
    given = text.split("-")[0].count(".") + 1
    numbers = list(bound[0])
    if sign == "^":
        index = next((i for i, number in enumerate(numbers[:given]) if number > 0), given - 1)
    else:
        index = min(given, 2) - 1 if sign == "~" else given - 1
    numbers[index] += 1
    numbers[index + 1 :] = [0] * (2 - index)
    # Below every pre-release of it as well.
    return tuple(numbers), (0, ())


def advisories(folder, crates=None, ignored=None):
    """Two lists of lines: what must be acted on, and what deny.toml ignores with its reason."""
    folder = pathlib.Path(folder)
    if not (folder / "crates").is_dir():
        raise Unusable(f"{folder} holds no folder `crates`: expected the RustSec advisory database")
    if ignored is None:
        entries = tomllib.loads((ROOT / "deny.toml").read_text())["advisories"]["ignore"]
        ignored = {entry["id"]: entry["reason"] for entry in entries}
    found, known, read = [], [], 0
    for name, at in sorted(crates if crates is not None else locked()):
        for path in sorted((folder / "crates" / name).glob("*.md")):
            head = re.search(r"^```toml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
            if head is None:
                raise Unusable(f"{path} has no head")
            fields = tomllib.loads(head[1])
            advisory, versions = fields["advisory"], fields.get("versions", {})
            read += 1
            if "withdrawn" in advisory:
                continue
            safe = versions.get("patched", []) + versions.get("unaffected", [])
            if any(meets(at, requirement) for requirement in safe):
                continue
            line = f"{name} {at}: {advisory['id']}" + (
                f" ({advisory['informational']})" if "informational" in advisory else ""
            )
            if advisory["id"] in ignored:
                known.append(f"{line}: {ignored[advisory['id']]}")
            else:
                found.append(line)
    return found, known, read


# --- the command ------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    bill = commands.add_parser("sbom")
    bill.add_argument("--debian", metavar="DIR")
    bill.add_argument("--out", metavar="FILE")
    commands.add_parser("licences").add_argument("--out", metavar="FILE")
    commands.add_parser("policy")
    commands.add_parser("advisories").add_argument("folder", metavar="DIR")
    arguments = parser.parse_args()
    if arguments.command == "sbom":
        return write(arguments.out, json.dumps(sbom(arguments.debian), indent=2, ensure_ascii=False) + "\n")
    if arguments.command == "licences":
        return write(arguments.out, licences())
    if arguments.command == "policy":
        found = policy()
        print("\n".join(found) if found else "licences, crates and sources are such as deny.toml allows")
        return 1 if found else 0
    found, known, read = advisories(arguments.folder)
    print("\n".join([*(f"known    {line}" for line in known), *(f"found    {line}" for line in found)]))
    print(f"{read} advisories of locked crates read: {len(found)} found, {len(known)} known and ignored by deny.toml")
    return 1 if found else 0


def write(path, text):
    if path:
        pathlib.Path(path).write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unusable as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
