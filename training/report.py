"""training/REPORT.md and its plots, written from the figures of a run. Every number in the report comes from there."""

from pathlib import Path

import additive
import compare
import levels
import plots
from replay import KINDS

BUDGET_BARS = {
    "naive": 0.99, "vpn": 0.92, "targeted": 0.60, "stuffing": 0.995, "spraying": 0.995, "brute_force": 0.995,
}
ONE_PER_CENT_BARS = {"token_replay": 0.90, "refresh_theft": 0.90, "secret_theft": 0.85}
ECE_BAR = 0.01
COHORT_BAR = 3.0
COHORTS = ("new", "vpn", "mobile", "cookie_blocking")
OWN = "this model"
LITERATURE = "Freeman et al. 2016"


def rate(entry: dict, digits: int = 1) -> str:
    """A share as per cent with its interval."""
    if not entry["rows"]:
        return "-"
    return f"{100 * entry['value']:.{digits}f} ({100 * entry['low']:.{digits}f}-{100 * entry['high']:.{digits}f})"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table; all columns but the first are right-aligned."""
    return [
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def bars(kinds: dict) -> list[list[str]]:
    """Each figure that was asked for, with what was reached."""
    found = []

    def row(what: str, reached: str, wanted: str, holds: bool) -> None:
        found.append([what, reached, wanted, "yes" if holds else "**no**"])

    login = kinds["login"]["budget"][OWN]["kinds"]
    for name, bar in BUDGET_BARS.items():
        if name in login:
            row(f"`{name}` at 2 % of established users' logins", rate(login[name]), f"{100 * bar:g}", login[name]["value"] >= bar)
    for kind in ("token", "m2m"):
        models = kinds[kind]["models"][OWN]
        for name, bar in ONE_PER_CENT_BARS.items():
            if name in models:
                row(f"`{name}` at 1 %", rate(models[name]["t1"]), f"{100 * bar:g}", models[name]["t1"]["value"] >= bar)
            elsewhere = kinds[kind]["variants"].get(f"{name}, elsewhere")
            if elsewhere and kind == "token":
                reached = elsewhere["at 1 %"]
                row(f"`{name}` from elsewhere at 1 %", rate(reached), f"{100 * bar:g}", reached["value"] >= bar)
    for kind in KINDS:
        error = kinds[kind]["calibration"]["ece"]
        row(f"calibration error, {kind}, at the stated share of attacks", f"{error:.4f}", f"at most {ECE_BAR}", error <= ECE_BAR)
        rare = kinds[kind]["calibration_rare"]["ece"]
        row("the same, attacks 70 times rarer, the bias moved for it", f"{rare:.4f}", f"at most {ECE_BAR}", rare <= ECE_BAR)
    for where, groups in kinds["login"]["cohorts"].items():
        sized = {name: entry for name, entry in groups.items() if entry["rows"] >= 100}
        for what, names in (("of the groups asked for", set(COHORTS) & set(sized)), ("of all groups", set(sized))):
            name = max(names, key=lambda n: sized[n]["ratio"])
            ratio = sized[name]["ratio"]
            row(f"most challenged {what} {where}: {name}", f"{ratio:.1f} x the mean", f"at most {COHORT_BAR:g} x", ratio <= COHORT_BAR)
    models = kinds["login"]["models"]
    if LITERATURE in models:
        losing = [
            f"{name} ({figure})"
            for name in models[OWN]
            if name in models[LITERATURE]
            for figure, own, other in (
                ("AUC", models[OWN][name]["auc"], models[LITERATURE][name]["auc"]),
                ("1 %", models[OWN][name]["t1"]["value"], models[LITERATURE][name]["t1"]["value"]),
                ("0.1 %", models[OWN][name]["t01"]["value"], models[LITERATURE][name]["t01"]["value"]),
            )
            if not own > other
        ]
        row("above Freeman et al. on every kind, by AUC, 1 %, 0.1 %", "all" if not losing else ", ".join(losing), "all", not losing)
    return found


def section_kind(kind: str, found: dict) -> list[str]:
    """Everything about one kind of request."""
    models = found["models"]
    own = models[OWN]
    names = {"login": "Logins", "token": "Tokens of users' apps", "m2m": "Service accounts"}
    lines = [f"## {names[kind]}", ""]
    lines += [f"{found['rows']['legitimate']} legitimate requests. Share of attacks found, in per cent with 95 % intervals:", ""]
    budget = found["budget"][OWN]["kinds"]
    rows = []
    for name, entry in own.items():
        at = budget.get(name)
        rows.append([
            name, f"{entry['rows']} ({entry['groups']})", f"{entry['auc']:.4f}", rate(entry["t1"]), rate(entry["incidents"]), rate(entry["t01"]),
            rate(at) if at else "-", rate(at["established"]) if at else "-",
            rate(found["budget_with_failures"]["kinds"][name]) if at else "-", rate(found["medium"][name]) if at else "-",
        ])
    lines += table(["attacker", "requests (incidents)", "AUC", "at 1 %", "incidents at 1 %", "at 0.1 %", "at 2 % of established", "the same, accounts with 5 or more logins", "at 2 % with wrong passwords counted", f"from {levels.MEDIUM} points"], rows)
    if found["variants"]:
        lines += ["By the way in which they went about it, and by what was known of the victim (the model alone):", ""]
        where = list(next(iter(found["variants"].values())))
        lines += table(
            ["attacker", "requests (incidents)", *where],
            [
                [name, f"{e[where[0]]['rows']} ({e[where[0]]['groups']})", *(rate(e[w]) for w in where)]
                for name, e in found["variants"].items()
            ],
        )
    lines += ["On the same rows (AUC / at 1 % / at 0.1 %):", ""]
    head = ["score", *own]
    lines += table(head, [
        [
            other,
            *(
                f"{e['auc']:.3f} / {100 * e['t1']['value']:.0f} / {100 * e['t01']['value']:.0f}" if e else "-"
                for e in (entries.get(name) for name in own)
            ),
        ]
        for other, entries in models.items()
    ])
    lines += [f"![ROC and precision-recall, {kind}](plots/roc-{kind}.svg)", ""]
    if "hardest" in found:
        lines += section_hardest(kind, found["hardest"])
    if "ablations" in found:
        lines += ["What parts are worth (AUC over all / at 1 % per kind of attacker; each line is a model trained anew on a third of the rows; compare with the first):", ""]
        kinds = [name for name in own if name != "all"]
        lines += table(
            ["model", "AUC", *kinds],
            [
                [name, f"{e['attackers']['all']['auc']:.4f}", *(f"{100 * e['attackers'][n]['t1']['value']:.1f}" for n in kinds)]
                for name, e in found["ablations"].items()
            ],
        )
    return lines


def section_hardest(kind: str, found: dict) -> list[str]:
    """Whether anything could tell the hardest kind of attacker from good users."""
    attacker = compare.HARDEST[kind]
    lines = [
        f"Is `{attacker}` to be told from good requests at all? Trees that were trained on good requests and this one kind of attack,",
        "and so give up all others for it, say how much the features hold (AUC / at 1 %):",
        "",
    ]
    names = list(found[""])
    return lines + table(
        ["attacker", "requests (incidents)", *names],
        [
            [
                f"{attacker}, {part}" if part else attacker,
                f"{entries[OWN]['rows']} ({entries[OWN]['groups']})",
                *(f"{entries[name]['auc']:.3f} / {rate(entries[name])}" for name in names),
            ]
            for part, entries in found.items()
        ],
    )


def section_latency(latency: dict) -> list[str]:
    """One row through the shipped form and through trees."""
    if not latency:
        return []
    times = latency["microseconds"]
    return [
        "## One row: this form and trees",
        "",
        f"The login model and {latency['trees']} monotone trees of the same run, as ONNX files of {latency['bytes']['additive'] / 1024:.0f} and"
        f" {latency['bytes']['trees'] / 1024:.0f} KiB, one row at a time in one thread",
        "from Python, whose own share of some microseconds is in every line; the gateway's own figures are in",
        "[docs/MODEL.md](../docs/MODEL.md). Trees have no contributions in ONNX; LightGBM's own are the last line. The largest",
        f"difference between the trees in ONNX and LightGBM's own answer is {latency['difference']:.1e} of the probability.",
        "",
        *table(["one row, microseconds", "p50", "p90"], [[name, f"{t['p50']:.1f}", f"{t['p90']:.1f}"] for name, t in times.items()]),
    ]


def section_users(found: dict) -> list[str]:
    """What good users notice."""
    lines = ["## What good users notice", ""]
    for where, groups in found["cohorts"].items():
        lines += [f"Share of good logins challenged {where} ({levels.MEDIUM} points and more are medium):" if where == "at medium" else f"Share of good logins challenged {where} of 2 % for established users:", ""]
        lines += table(
            ["group", "logins", "challenged, %", "times the mean"],
            [[name, str(e["rows"]), rate(e, 2), f"{e['ratio']:.2f}"] for name, e in groups.items()],
        )
    lines += ["By the number of confirmed logins before, each score at its own budget of 2 % for established users:", ""]
    own = found["history"][OWN]
    label = [str(e["from"]) if e["from"] == e["to"] else f"{e['from']}-{e['to']}" if e["to"] < 10**6 else f"{e['from']}+" for e in own]
    lines += table(["score", *label], [[name, *(f"{100 * e['value']:.1f}" for e in entries)] for name, entries in found["history"].items()])
    return lines + ["![Challenges by history](plots/history.svg)", ""]


def write(target: Path, figures: dict, trained: dict, schema: additive.Schema) -> None:
    """Writes REPORT.md and plots/ into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    kinds = figures["kinds"]
    for kind in KINDS:
        curves = kinds[kind]["curves"]
        plots.curves(target / "plots" / f"roc-{kind}.svg", f"{kind}: all attackers", {n: c["roc"] for n, c in curves.items()}, {n: c["pr"] for n, c in curves.items()})
        model = trained[kind]
        drawn = [(n, s.x, s.y) for n, s in zip(schema.names, model.shapes) if max(s.y) > min(s.y)]
        plots.shapes(target / "plots" / f"shapes-{kind}.svg", 6, drawn)
    plots.calibration(target / "plots" / "calibration.svg", {kind: kinds[kind]["calibration"]["bins"] for kind in KINDS})
    history = kinds["login"]["history"]
    shown = {name: history[name] for name in (LITERATURE, "fixed rules", "LightGBM, free") if name in history}
    plots.by_history(target / "plots" / "history.svg", history[OWN], shown, 0.02)
    seeds = figures["seeds"]
    traffic = figures["traffic"]
    lines = [
        "# How good the shipped models are",
        "",
        "Written by training/report.py from one run; do not edit.",
        "",
        "**All traffic is simulated** (training/traffic/): one author's users, attackers and features. The figures say that the",
        "definitions, the state and the fit work together, and they are upper bounds of what real traffic will show: an independent",
        "study of the public RBA data found that models trained on simulated attackers caught none of its real takeovers at 1 %",
        "false positives. What follows from that is in [the limits](#what-this-cannot-show).",
        "",
        f"Trained on seeds {seeds['train']}, choices were made on seed {seeds['look']}, the figures are of seeds {seeds['test']}, which were run once",
        f"after all choices ({traffic['users']} users, {traffic['days']} days each; users, addresses, networks and campaigns differ between seeds).",
        "",
        "## What was asked for",
        "",
        *table(["figure", "reached", "wanted", "holds"], bars(kinds)),
    ]
    for kind in KINDS:
        lines += section_kind(kind, kinds[kind])
    lines += section_users(kinds["login"])
    lines += ["## Calibration", ""]
    lines += [
        "The probability refers to the mix of attackers that trainer.toml states, not to the volumes that the generator happens to send:",
        "the number of requests of one stuffing campaign says nothing about how likely the next login is an attack. Slope and intercept",
        "come from later rows of the training seeds, those of logins judged by fits of other seeds. The error is measured on the test seeds,",
        "over 15 bins of the probability, each bin by its share of requests. The second column has as many attacks as the generator sends;",
        "the third a seventieth of the stated ones, with the bias moved by the logarithm of the odds and nothing else.",
        "",
        *table(
            ["kind", "expected calibration error, stated mix", "the same, the generator's volumes", "the same, attacks 70 times rarer"],
            [
                [k, *(f"{kinds[k][which]['ece']:.4f}" for which in ("calibration", "calibration_as_it_comes", "calibration_rare"))]
                for k in KINDS
            ],
        ),
        "![Calibration](plots/calibration.svg)",
        "",
    ]
    if "joint" in kinds["login"]:
        lines += ["## One model for each kind of request, or one for all", ""]
        lines += table(
            ["kind, attacker", "three models: AUC / 1 % / 0.1 %", "one model with the kind as a feature"],
            [
                [f"{kind}, {name}", *(f"{e['auc']:.4f} / {100 * e['t1']['value']:.1f} / {100 * e['t01']['value']:.1f}" for e in (own, kinds[kind]["joint"][name]))]
                for kind in KINDS
                for name, own in kinds[kind]["models"][OWN].items()
            ],
        )
    lines += section_latency(figures.get("latency") or {})
    lines += cold_start_section(target, figures.get("cold_start") or {})
    lines += ["## Shapes", ""] + [f"![Shapes, {kind}](plots/shapes-{kind}.svg)" for kind in KINDS] + [""]
    lines += (Path(__file__).resolve().parent / "LIMITS.md").read_text().splitlines()
    (target / "REPORT.md").write_text("\n".join(lines).rstrip() + "\n")


def cold_start_section(target: Path, cold: dict) -> list[str]:
    """The first thirty days of an installation."""
    if not cold:
        return []
    days = list(range(1, len(next(iter(cold["series"].values()))) + 1))
    plots.lines(target / "plots" / "cold-start.svg", "day of the installation", "good logins challenged, %", {name: (days, [100 * v for v in y]) for name, y in cold["series"].items()})
    lines = ["## The first thirty days of an installation", "", cold["text"], ""]
    weeks = [(1, 1), (2, 3), (4, 7), (8, 14), (15, 30)]
    lines += table(
        [f"good logins challenged from {levels.MEDIUM} points, %", *(f"day {a}" if a == b else f"days {a}-{b}" for a, b in weeks)],
        [[name, *(f"{100 * share(cold['counts'][name], a, b):.2f}" for a, b in weeks)] for name in cold["counts"]],
    )
    return lines + ["![Cold start](plots/cold-start.svg)", ""]


def share(counts: list[list[int]], first: int, last: int) -> float:
    """Challenged over all in the days given."""
    hit = sum(c[0] for c in counts[first - 1 : last])
    total = sum(c[1] for c in counts[first - 1 : last])
    return hit / total if total else float("nan")
