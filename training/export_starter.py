"""Writes the starter models to tests/data/models/starter/: ONNX files, manifest.toml, golden vectors, the tables of CARD.md.

They are what the trained models began from: the prior of the fit, the first model of the replay, and a fallback that can
be named in `[model] dir`.

The weights come from starter.toml, set by hand. Every run gives the same bytes; `--check` compares instead of writing.
Refuses weights that break the monotone directions of the schema or the scenarios of scenarios.toml.

    training/.venv/bin/python training/export_starter.py [--check]
"""

import argparse
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import additive

HERE = Path(__file__).resolve().parent
MODEL_DIR = additive.ROOT / "tests" / "data" / "models" / "starter"
NOTE = "weights set by hand, not trained"
GOLDEN = {"login": "golden.json", "token": "golden-token.json", "m2m": "golden-m2m.json"}
TITLES = {"login": "Logins", "token": "Codes and tokens", "m2m": "Service accounts"}
BEGIN, END = "<!-- scenarios: written by training/export_starter.py -->", "<!-- end of scenarios -->"


class Refused(Exception):
    """The weights do not keep a promise."""


def read_starter(schema: additive.Schema, kind: str = "login") -> tuple[str, list[additive.Shape], float, list[float]]:
    """Version, shapes (0 at the typical value), bias and the typical row of the model for `kind`.

    A feature of another kind is missing from its rows and weighs nothing.
    """
    data = tomllib.loads((HERE / "starter.toml").read_text())
    given = data["feature"]
    if list(given) != schema.names:
        raise Refused(f"starter.toml names {sorted(set(given) ^ set(schema.names))} differently or in another order")
    shapes, typical = [], []
    for name, kinds, clip, direction in zip(schema.names, schema.kinds, schema.clip, schema.monotone):
        entry = given[name]
        x, y = [float(v) for v in entry["x"]], [float(v) for v in entry["y"]]
        if len(x) != len(y) or len(x) < 2 or any(b <= a for a, b in zip(x, x[1:])):
            raise Refused(f"{name}: knots must ascend and have one value each")
        if (x[0], x[-1]) != clip:
            raise Refused(f"{name}: the knots must span the clip range {clip}")
        if any((b - a) * direction < 0 for a, b in zip(y, y[1:])):
            raise Refused(f"{name}: not monotone in direction {direction:+d}")
        if name.endswith("_rarity") and any(b <= a for a, b in zip(y, y[1:])):
            raise Refused(f"{name}: rarity keeps a weight above 0 everywhere")
        if kind not in kinds:
            shapes.append(additive.Shape(list(clip), [0.0, 0.0]))
            typical.append(float("nan"))
            continue
        base = float(np.interp(entry["typical"], x, y))
        shapes.append(additive.Shape(x, [v - base for v in y]))
        typical.append(float(entry["typical"]))
    return data["version"], shapes, float(data["bias"][kind]), typical


def read_scenarios(
    schema: additive.Schema, typical: list[float], kind: str = "login", points: str = "points"
) -> list[tuple[str, np.ndarray, int, int]]:
    """Name, row and permitted points of each scenario of `kind`; `points` is the key that holds them, if it is there."""
    rows = {"typical": np.array(typical, np.float32), "missing": np.full(len(schema.names), np.nan, np.float32)}
    scenarios = []
    for entry in tomllib.loads((HERE / "scenarios.toml").read_text())["scenario"]:
        if entry.get("kind", "login") != kind:
            continue
        row = rows[entry["base"]].copy()
        for name, value in entry["set"].items():
            f = schema.names.index(name)
            if kind not in schema.kinds[f]:
                raise Refused(f"{entry['name']}: {name} is no feature of {kind}")
            low, high = schema.clip[f]
            if value == value and not low <= value <= high:
                raise Refused(f"{entry['name']}: {name} = {value} is outside {low}..{high}")
            row[f] = value
        rows[entry["name"]] = row
        scenarios.append((entry["name"], row, *entry.get(points, entry["points"])))
    return scenarios


def golden_rows(schema: additive.Schema, typical: list[float], scenarios: list) -> tuple[list[str], np.ndarray]:
    """The scenarios, the extremes, and rows drawn from a fixed seed with a tenth of the values missing."""
    names = [name for name, *_ in scenarios]
    rows = [row for _, row, *_ in scenarios]
    names += ["typical", "all lowest", "all highest"]
    rows += [np.array(typical), np.array([low for low, _ in schema.clip]), np.array([high for _, high in schema.clip])]
    chance = np.random.Generator(np.random.PCG64(20250101))
    low, high = np.array(schema.clip).T
    for i in range(24):
        row = low + (high - low) * chance.random(len(low))
        row[chance.random(len(low)) < 0.1] = np.nan
        names.append(f"drawn {i}")
        rows.append(row)
    return names, np.array(rows, np.float32)


def points(probability: float) -> int:
    """The outside score: half rounds up, as in the gateway."""
    return int(np.floor(100.0 * float(probability) + 0.5))


def table(scenarios: list, probability: np.ndarray) -> str:
    lines = ["| situation | points | permitted |", "| --- | ---: | --- |"]
    for (name, _, low, high), p in zip(scenarios, probability):
        lines.append(f"| {name} | {points(p)} | {low} to {high} |")
    return "\n".join(lines)


def check_scenarios(scenarios: list, probability: np.ndarray) -> None:
    wrong = [
        f"{name}: {points(p)} is outside {low}..{high}"
        for (name, _, low, high), p in zip(scenarios, probability)
        if not low <= points(p) <= high
    ]
    if wrong:
        raise Refused("\n".join(wrong))


def check_runtime(data: bytes, rows: np.ndarray, probability: np.ndarray, contributions: np.ndarray) -> None:
    """ONNX Runtime gives the same as the plain evaluation."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    got_probability, got_contributions = session.run(["probability", "contributions"], {"features": rows})
    for what, got, want in (
        ("probability", got_probability[:, 0], probability),
        ("contributions", got_contributions, contributions),
    ):
        difference = float(np.abs(got - want).max())
        if not difference < 1e-5:
            raise Refused(f"onnx runtime differs by {difference:g} in {what}")


def outputs() -> dict[Path, bytes]:
    """Every file with its content."""
    schema = additive.Schema.read()
    files, listed, tables = {}, [], []
    for kind in additive.KINDS:
        version, shapes, bias, typical = read_starter(schema, kind)
        weights = additive.Additive.of(schema, shapes, bias)
        scenarios = read_scenarios(schema, typical, kind)
        scenario_probability, _ = weights.evaluate(np.array([row for _, row, *_ in scenarios], np.float32))
        check_scenarios(scenarios, scenario_probability)

        nodes, initializers = weights.nodes()
        props = additive.metadata(schema, version, NOTE, kind)
        made = additive.model(nodes, initializers, len(schema.names), props)
        onnx.checker.check_model(made, full_check=True)
        data = additive.serialize(made)
        names, rows = golden_rows(schema, typical, scenarios)
        probability, contributions = weights.evaluate(rows)
        check_runtime(data, rows, probability, contributions)

        model = additive.Listed(kind, version, f"risk-{kind}-{version}.onnx", data, GOLDEN[kind])
        listed.append(model)
        files[MODEL_DIR / model.file] = data
        golden = additive.golden(version, names, rows, probability, contributions)
        files[MODEL_DIR / model.golden] = golden.encode()
        tables.append(f"### {TITLES[kind]}\n\n{table(scenarios, scenario_probability)}")
    card = (MODEL_DIR / "CARD.md").read_text()
    head, rest = card.split(BEGIN)
    _, tail = rest.split(END)
    tables = "\n\n".join(tables)
    files[MODEL_DIR / "CARD.md"] = f"{head}{BEGIN}\n\n{tables}\n\n{END}{tail}".encode()
    files[MODEL_DIR / "manifest.toml"] = additive.manifest(
        schema, listed, "The starter models. Written by training/export_starter.py."
    ).encode()
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files in place instead of writing them")
    check = parser.parse_args().check
    try:
        files = outputs()
    except Refused as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 1
    stale = [path for path, content in files.items() if not path.exists() or path.read_bytes() != content]
    for path in stale:
        print(f"{'differs' if check else 'written'}: {path.relative_to(additive.ROOT)}")
        if not check:
            path.write_bytes(files[path])
    if check and stale:
        print("run training/export_starter.py without --check", file=sys.stderr)
        return 1
    print(f"{len(files) - len(stale)} of {len(files)} files were up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
