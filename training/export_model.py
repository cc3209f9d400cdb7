"""Writes trained models: one ONNX file per kind of request, their golden vectors, the manifest and the model card.

The graph is that of additive.py; what the gateway checks at load is checked here first. `write` makes a folder that the
gateway can load; `publish` copies it to conf/model/ and writes the card beside it.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx

import additive
import evaluate
import export_starter
import levels
import measure
import replay
import train
from replay import KINDS
from replay import Rows

HEAD = "The models that the gateway loads. Written by training/export_model.py."
BINS_MAX = 8
GOLDEN_FROM_TRAFFIC = 24


def bins_of(shape: additive.Shape) -> list[float]:
    """Edges between which values are counted for drift: where the model tells values apart, thinned."""
    inner = np.array(shape.x[1:-1] if len(shape.x) > 3 else shape.x)
    if len(inner) > BINS_MAX - 1:
        inner = inner[np.unique(np.linspace(0, len(inner) - 1, BINS_MAX - 1).astype(int))]
    return [round(float(v), 5) for v in inner]


def baseline(rows: Rows, model: train.Trained, schema: additive.Schema) -> dict:
    """How each feature is distributed among legitimate training rows: `shares` holds the share of missing values first,
    then of the values below, between and above `edges`."""
    good = rows.features[~rows.label]
    found = {}
    for f, (name, shape) in enumerate(zip(schema.names, model.shapes)):
        if name in model.frozen:
            continue
        values = good[:, f]
        missing = np.isnan(values)
        edges = bins_of(shape)
        counts = np.bincount(np.searchsorted(edges, values[~missing], side="right"), minlength=len(edges) + 1)
        found[name] = {
            "edges": edges,
            "shares": [round(float(v) / len(values), 5) for v in [missing.sum(), *counts]],
            "mean": round(float(values[~missing].mean()), 5) if (~missing).any() else None,
        }
    return found


def score_baseline(probability: np.ndarray) -> dict:
    """How the scores of legitimate training rows are distributed, in bins of points."""
    edges = sorted({1, 3, 5, 10, 30, 70, levels.MEDIUM, levels.HIGH})
    points = np.floor(100.0 * probability + 0.5)
    counts = np.bincount(np.searchsorted(edges, points, side="right"), minlength=len(edges) + 1)
    return {"edges": edges, "shares": [round(float(v) / max(len(points), 1), 5) for v in counts]}


def thresholds(rows: Rows, probability: np.ndarray) -> list[dict]:
    """What several budgets of false alarms cost in points and find, on the rows that the model was calibrated on."""
    found = []
    for budget in (0.001, 0.005, 0.01, 0.02, 0.05):
        bar = measure.threshold(probability[~rows.label], budget)
        found.append({
            "share_of_legitimate": budget,
            "probability": round(bar, 6),
            "found": {k: round(float((probability[rows.label & (rows.attacker == k)] > bar).mean()), 4) for k in evaluate.attackers(rows)},
        })
    return found


def properties(
    model: train.Trained, schema: additive.Schema, plan: train.Plan, fitting: Rows, calibrating: Rows, data: str
) -> dict[str, str]:
    """What the file says of itself beyond what the gateway compares."""
    weights = model.weights(schema)
    fit_probability, _ = weights.evaluate(fitting.features[~fitting.label])
    later, _ = weights.evaluate(calibrating.features)
    ranking = evaluate.by_attacker(calibrating, later)

    def packed(value: object) -> str:
        return json.dumps(value, separators=(",", ":"))

    return {
        "training_data_sha256": data,
        "training_window": packed({"seeds": plan.traffic["train"], "days": plan.traffic["days"], "warm_up_days": plan.traffic["warm_up_days"]}),
        "calibration": packed({"slope": round(model.slope, 6), "intercept": round(model.intercept, 6), "mix": plan.mix(model.kind)}),
        "thresholds": packed(thresholds(calibrating, later)),
        "metrics": packed({k: {"auc": round(e["auc"], 5), "found_at_1_per_cent": round(e["t1"]["value"], 4)} for k, e in ranking.items()}),
        "baseline": packed(baseline(fitting, model, schema)),
        "score_baseline": packed(score_baseline(fit_probability)),
    }


def golden_rows(schema: additive.Schema, kind: str, fitting: Rows) -> tuple[list[str], np.ndarray, list]:
    """Situations, extremes, drawn rows, and rows of the traffic it was trained on."""
    _, _, _, typical = export_starter.read_starter(schema, kind)
    scenarios = export_starter.read_scenarios(schema, typical, kind)
    names, rows = export_starter.golden_rows(schema, typical, scenarios)
    taken = np.concatenate([
        np.flatnonzero(mask)[np.linspace(0, mask.sum() - 1, GOLDEN_FROM_TRAFFIC // 2).astype(int)]
        for mask in (fitting.label, ~fitting.label)
        if mask.any()
    ])
    names = names + [f"traffic {i}: {fitting.attacker[i] or 'legitimate'}" for i in taken]
    return names, np.concatenate([rows, fitting.features[taken]]), scenarios


def files(
    model: train.Trained, schema: additive.Schema, plan: train.Plan, fitting: Rows, calibrating: Rows, data: str
) -> tuple[bytes, str]:
    """The ONNX file and the golden vectors of one model."""
    weights = model.weights(schema)
    nodes, initializers = weights.nodes()
    note = "trained on simulated traffic; see conf/model/CARD.md and training/REPORT.md"
    props = additive.metadata(schema, plan.version, note, model.kind, **properties(model, schema, plan, fitting, calibrating, data))
    made = additive.model(nodes, initializers, len(schema.names), props)
    onnx.checker.check_model(made, full_check=True)
    encoded = additive.serialize(made)
    names, rows, _ = golden_rows(schema, model.kind, fitting)
    probability, contributions = weights.evaluate(rows)
    export_starter.check_runtime(encoded, rows, probability, contributions)
    return encoded, additive.golden(plan.version, names, rows, probability, contributions)


def situations(model: train.Trained, schema: additive.Schema) -> tuple[list, np.ndarray]:
    """The known situations of a kind, with what the model says of them."""
    _, _, _, typical = export_starter.read_starter(schema, model.kind)
    scenarios = export_starter.read_scenarios(schema, typical, model.kind, "trained")
    probability, _ = model.weights(schema).evaluate(np.array([row for _, row, *_ in scenarios], np.float32))
    return scenarios, probability


def data_digest(plan: train.Plan) -> str:
    """What the events were that a model was trained on."""
    return replay.digest(*(replay.generated(replay.traffic_of(plan, seed)) for seed in plan.traffic["train"]))


def write(
    folder: Path, trained: dict[str, train.Trained], schema: additive.Schema, plan: train.Plan, fitting: Rows, calibrating: Rows
) -> Path:
    """Writes the models of all kinds with their manifest into `folder`, emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = data_digest(plan)
    listed = []
    for kind, model in trained.items():
        encoded, golden = files(
            model, schema, plan, fitting.where(fitting.kind == kind), calibrating.where(calibrating.kind == kind), data
        )
        entry = additive.Listed(kind, plan.version, f"risk-{kind}-{plan.version}.onnx", encoded, export_starter.GOLDEN[kind])
        (folder / entry.file).write_bytes(encoded)
        (folder / entry.golden).write_text(golden)
        listed.append(entry)
    (folder / "manifest.toml").write_text(additive.manifest(schema, listed, HEAD))
    return folder


def check_situations(trained: dict[str, train.Trained], schema: additive.Schema) -> list[str]:
    """The known situations that a model judges out of their range."""
    wrong = []
    for kind, model in trained.items():
        scenarios, probability = situations(model, schema)
        for (name, _, low, high), p in zip(scenarios, probability):
            if not low <= export_starter.points(p) <= high:
                wrong.append(f"{kind}: {name}: {export_starter.points(p)} is outside {low}..{high}")
    return wrong


def publish(folder: Path, card: str) -> None:
    """Puts the models of `folder` in the place of those that the gateway ships with."""
    target = additive.ROOT / "conf" / "model"
    for old in [*target.glob("*.onnx"), *target.glob("golden*.json")]:
        old.unlink()
    for file in sorted(folder.iterdir()):
        shutil.copyfile(file, target / file.name)
    (target / "CARD.md").write_text(card)
