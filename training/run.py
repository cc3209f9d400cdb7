"""The whole way from nothing to a model and its report: `make train` runs it, `make train-quick` a small copy of it.

    python training/run.py            generate, replay, train twice, export to conf/model/, measure, write REPORT.md
    python training/run.py --quick    the same on little traffic into training/.cache/quick/, touching nothing else
    python training/run.py --look     figures of the seeds that choices are made by; leaves test seeds and conf/model/ alone
    python training/run.py --plan other.toml --look    the same under other choices

What an event's features are depends on what was learnt before it, and that depends on the model's own scores. So the
model is trained twice: on a replay under the starter, and on a replay under the first result.
"""

import argparse
import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import additive
import card
import cold
import compare
import evaluate
import export_model
import export_starter
import levels
import measure
import replay
import report
import train
import trees
from replay import KINDS
from replay import Rows

# How much rarer than stated attacks are in the second figure of calibration: about one request in five hundred.
RARER = 70.0
# Where the levels of the hand-set model begin, see starter.toml.
STARTER_LEVELS = (30, 71)
FROM_MEDIUM = f"from {levels.MEDIUM} points"


def log(text: str) -> None:
    print(f"--> {text}", flush=True)


def rows_of(plan: train.Plan, seed: int, model: Path) -> Rows:
    """The rows of one seed, its groups told apart from those of other seeds."""
    found = replay.rows(replay.generated(replay.traffic_of(plan, seed)), model)
    return Rows(**{**vars(found), "group": np.char.add(f"{seed} ", found.group), "user": np.char.add(f"{seed} ", found.user)})


def prepare(plan: train.Plan, seeds: list[int], model: Path) -> None:
    """Generates and replays several seeds, as many at once as there are cores."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done in [pool.submit(lambda s: replay.packed(replay.generated(replay.traffic_of(plan, s)), model), seed) for seed in seeds]:
            done.result()


def split_of(plan: train.Plan, model: Path, seeds: list[int]) -> tuple[Rows, Rows]:
    """Rows to fit and rows to calibrate on, of the seeds."""
    prepare(plan, seeds, model)
    parts = [train.split(rows_of(plan, seed, model), plan) for seed in seeds]
    return Rows.joined([a for a, _ in parts]), Rows.joined([b for _, b in parts])


def of_kind(rows: Rows, kind: str) -> Rows:
    return rows.where(rows.kind == kind)


def trained_on(
    plan: train.Plan, schema: additive.Schema, model: Path, seeds: list[int]
) -> tuple[dict[str, train.Trained], Rows, Rows]:
    """Trains all kinds on the seeds as replayed under `model`."""
    fitting, calibrating = split_of(plan, model, seeds)
    found = {}
    for kind in KINDS:
        begun = time.monotonic()
        found[kind] = train.train(kind, of_kind(fitting, kind), of_kind(calibrating, kind), schema, plan, across=kind in plan.across and len(seeds) > 1)
        log(f"{kind}: {found[kind].counts}, {found[kind].iterations} steps, slope {found[kind].slope:.2f}, {time.monotonic() - begun:.0f} s")
    return found, fitting, calibrating


def starter(folder: Path) -> Path:
    """The hand-set model, written anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, content in export_starter.outputs().items():
        if path.suffix != ".md":
            (folder / path.name).write_bytes(content)
    (folder / "policy.toml").write_text(levels.policy_of(*STARTER_LEVELS))
    return folder


def measured(rows: Rows, scores: dict[str, np.ndarray], weight: dict[str, float], probability: np.ndarray) -> dict:
    """Everything that the report says of one kind of request."""
    own = next(iter(scores))
    # A score that says nothing of some rows (the literature's knows no sessions) is measured on the others.
    said = {name: (rows.where(np.isfinite(score)), score[np.isfinite(score)]) for name, score in scores.items()}
    found = {"models": {name: evaluate.by_attacker(*both) for name, both in said.items()}}
    found["curves"] = {name: evaluate.curves(*both) for name, both in said.items()}
    found["calibration"] = evaluate.calibration(rows, probability, train.mix(rows, weight))
    found["calibration_rare"] = evaluate.at_base_rate(rows, scores[own], train.mix(rows, weight), RARER)
    found["calibration_as_it_comes"] = evaluate.calibration(rows, probability, np.ones(len(rows)))
    budget = {name: evaluate.at_budget(*both) for name, both in said.items()}
    found["budget"] = budget
    found["budget_with_failures"] = evaluate.at_budget(rows, scores[own], with_failures=True)
    medium = levels.log_odds(levels.MEDIUM)
    found["cohorts"] = {
        "at the budget": evaluate.cohorts(rows, scores[own], budget[own]["threshold"]),
        "at medium": evaluate.cohorts(rows, scores[own], medium),
    }
    found["history"] = {
        name: evaluate.by_history(*both, budget[name]["threshold"]) for name, both in said.items()
    }
    found["history"]["at medium"] = evaluate.by_history(rows, scores[own], medium)
    found["medium"] = {
        kind_of: vars(measure.detection(scores[own][here], medium, rows.group[here]))
        for kind_of in evaluate.attackers(rows)
        for here in [rows.label & (rows.attacker == kind_of)]
    }
    found["variants"] = evaluate.by_variant(
        rows,
        scores[own],
        {"at 1 %": measure.threshold(scores[own][~rows.label], 0.01), "at 2 % of established": budget[own]["threshold"], FROM_MEDIUM: medium},
    )
    found["rows"] = {
        "legitimate": int((~rows.label).sum()),
        "attacks": {name: int((rows.attacker == name).sum()) for name in evaluate.attackers(rows)},
        "groups": {name: len(set(rows.group[rows.attacker == name])) for name in evaluate.attackers(rows)},
    }
    return found


def compared(
    kind: str,
    rows: Rows,
    fitting: Rows,
    calibrating: Rows,
    trained: train.Trained,
    schema: additive.Schema,
    plan: train.Plan,
    model: Path,
    seeds: list[int],
    with_others: bool,
    with_literature: bool,
) -> tuple[dict, dict]:
    """The figures of one kind of request on the `rows` of `seeds`, other models and ablations with it on request; and how
    long one row takes, for logins. All rows are of that kind."""
    own = compare.logit_of(trained, schema)(rows)
    scores = {"this model": own}
    latency: dict = {}
    if with_others:
        log(f"{kind}: other models")
        found, booster = compare.others(kind, fitting, schema, plan)
        for name, score in found.items():
            scores[name] = score(rows)
        if kind == "login":
            [own_file] = model.glob(f"risk-{kind}-*.onnx")
            latency = trees.latencies(own_file.read_bytes(), booster, rows.features, compare.fields(kind, schema))
    if kind == "login" and with_literature:
        scores["fixed rules"] = compare.fixed_rules(rows, schema)
        literature = []
        for seed in seeds:
            scored = compare.literature(replay.traffic_of(plan, seed))
            part = train.after_warm_up(rows_of(plan, seed, model), plan)
            literature.append(scored[of_kind(part, kind).event])
        scores["Freeman et al. 2016"] = np.concatenate(literature)
    result = measured(rows, scores, plan.mix(kind), 1.0 / (1.0 + np.exp(-own)))
    if with_others:
        log(f"{kind}: the hardest alone")
        able = {"this model": own} | {n: s(rows) for n, s in compare.alone(kind, fitting, schema, plan).items()}
        result["hardest"] = evaluate.hardest(rows, able, compare.HARDEST[kind])
        log(f"{kind}: ablations")
        less = {name: score(rows) for name, score in compare.ablations(kind, fitting, calibrating, schema, plan).items()}
        result["ablations"] = {
            name: {"attackers": evaluate.by_attacker(rows, score), "budget": evaluate.at_budget(rows, score)}
            for name, score in less.items()
        }
    return result, latency


def summary(results: dict) -> str:
    """The few figures that choices are made by."""
    lines = []
    for kind, found in results.items():
        own = next(iter(found["models"]))
        lines.append(f"{kind}: {found['rows']['legitimate']} good, ECE {found['calibration']['ece']:.4f} ({found['calibration_as_it_comes']['ece']:.4f} as it comes)")
        for name, entry in found["models"][own].items():
            budget = found["budget"][own]["kinds"].get(name)
            strict = found["budget_with_failures"]["kinds"].get(name)
            rest = f"  at 2 % of established {100 * budget['value']:.1f} (established victims {100 * budget['established']['value']:.1f}; with failures {100 * strict['value']:.1f})  at medium {100 * found['medium'][name]['value']:.1f}" if budget else ""
            lines.append(f"  {name:14} n {entry['rows']:6} ({entry['groups']:4})  AUC {entry['auc']:.4f}  1 % {100 * entry['t1']['value']:.1f} (incidents {100 * entry['incidents']['value']:.1f})  0.1 % {100 * entry['t01']['value']:.1f}{rest}")
        for name, entry in found["variants"].items():
            lines.append(f"    {name:40} n {entry['at 1 %']['rows']:5}  " + "  ".join(f"{where} {100 * e['value']:.1f}" for where, e in entry.items()))
        for other, models in found["models"].items():
            if other != own:
                lines.append(f"    {other:38} " + "  ".join(f"{n} {e['auc']:.3f}/{100 * e['t1']['value']:.0f}/{100 * e['t01']['value']:.0f}" for n, e in models.items()))
        for where, cohorts in found["cohorts"].items():
            lines.append(f"  {where}: " + "  ".join(f"{n} {100 * c['value']:.2f} % (x{c['ratio']:.1f})" for n, c in cohorts.items()))
        lines.append("  history: " + "  ".join(f"{e['from']}+ {100 * e['value']:.1f}" for e in found["history"]["at medium"]))
    return "\n".join(lines)


def finish(
    plan: train.Plan, schema: additive.Schema, model: Path, trained: dict, figures: dict, work: Path, quick: bool
) -> int:
    """Writes the report; puts the models in their place if they judge the known situations as they must."""
    target = work / "report" if quick else additive.ROOT / "training"
    report.write(target, figures, trained, schema)
    log(f"report in {target}")
    if quick:
        return 0
    if wrong := export_model.check_situations(trained, schema):
        sys.exit("refused: known situations are judged out of their range:\n" + "\n".join(wrong))
    export_model.publish(model, card.text(trained, schema, plan, figures))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little traffic, into training/.cache/quick/")
    parser.add_argument("--look", action="store_true", help="only the figures of the seeds that choices are made by")
    parser.add_argument("--full", action="store_true", help="with --look: other models and ablations as well")
    parser.add_argument("--brief", action="store_true", help="without other models and ablations, which take the most time")
    parser.add_argument("--reuse", action="store_true", help="do not measure again: take the figures of the last run")
    parser.add_argument("--rounds", type=int, default=2, help="how often to train on a replay under the model before")
    parser.add_argument("--plan", type=Path, default=train.HERE / "trainer.toml", help="the file of choices (trainer.toml)")
    arguments = parser.parse_args()
    begun = time.monotonic()
    plan = train.Plan.read(arguments.plan, arguments.quick)
    schema = additive.Schema.read()
    work = replay.CACHE / ("quick" if arguments.quick else "work")

    model = starter(work / "starter")
    fitting = calibrating = None
    trained: dict[str, train.Trained] = {}
    for number in range(arguments.rounds):
        log(f"round {number + 1}: replay under {model.name}, train")
        last = number == arguments.rounds - 1
        seeds = plan.traffic["train"][: None if last else plan.traffic["bootstrap"]]
        trained, fitting, calibrating = trained_on(plan, schema, model, seeds)
        for wrong in export_model.check_situations(trained, schema):
            log(f"situation out of its range: {wrong}")
        model = export_model.write(work / f"round-{number + 1}", trained, schema, plan, fitting, calibrating)
    assert fitting is not None and calibrating is not None

    if arguments.reuse:
        return finish(plan, schema, model, trained, json.loads((work / "figures.json").read_text()), work, arguments.quick)

    seeds = plan.traffic["look"] if arguments.look else plan.traffic["test"]
    log(f"measuring on seeds {seeds}")
    prepare(plan, seeds, model)
    tested = Rows.joined([train.after_warm_up(rows_of(plan, seed, model), plan) for seed in seeds])
    with_others = arguments.full or not (arguments.look or arguments.brief)
    results, latency = {}, {}
    for kind in KINDS:
        parts = [of_kind(found, kind) for found in (tested, fitting, calibrating)]
        results[kind], taken = compared(kind, *parts, trained[kind], schema, plan, model, seeds, with_others, not arguments.look)
        latency |= taken
    if with_others:
        log("one model for all kinds")
        joint = compare.joint(fitting, calibrating, schema, plan)
        for kind in KINDS:
            rows = of_kind(tested, kind)
            results[kind]["joint"] = evaluate.by_attacker(rows, joint(rows))
    print(summary(results))
    for wrong in export_model.check_situations(trained, schema):
        print(f"  situation {wrong}")
    figures = {
        "seeds": {name: plan.traffic[name] for name in ("train", "look", "test")},
        "traffic": plan.traffic,
        "kinds": results,
        "latency": latency,
        "trained": {kind: {"counts": t.counts, "slope": t.slope, "intercept": t.intercept, "iterations": t.iterations} for kind, t in trained.items()},
    }
    if not arguments.look:
        figures["cold_start"] = cold.measured(plan, model, trained["login"], schema)
        figures["minutes"] = (time.monotonic() - begun) / 60.0
        (work / "figures.json").write_text(json.dumps(figures, indent=1))
        finish(plan, schema, model, trained, figures, work, arguments.quick)
    else:
        (work / "look.json").write_text(json.dumps(figures, indent=1))
    log(f"done in {(time.monotonic() - begun) / 60.0:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
