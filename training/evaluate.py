"""What the report says of a score, as plain numbers: by kind of attacker, by cohort, by length of history.

Takes rows and one score per row; knows nothing of how the score came about, so that the model, the literature's baseline
and the fixed rules are measured by the same code.

Who types a wrong password is asked for no second factor, so that challenges are counted over good logins with the right
one, as in the literature; false positives at 1 % and 0.1 % are counted over every good request, failed ones included.
"""

import numpy as np

import measure
from replay import Rows

# Good users with at least this many logins are those whom the budget is about.
ESTABLISHED = 5
BUDGET = 0.02
HISTORIES = [(0, 0), (1, 1), (2, 4), (5, 9), (10, 19), (20, 49), (50, 99), (100, 10**9)]


def attackers(rows: Rows) -> list[str]:
    """The kinds of attacker in `rows`, in order of their names."""
    return sorted(set(rows.attacker[rows.label]))


def by_attacker(rows: Rows, score: np.ndarray) -> dict[str, dict]:
    """Ranking and detection of each kind of attacker against all legitimate rows; `all` is every attacker together."""
    good = score[~rows.label]
    bars = {"t1": measure.threshold(good, 0.01), "t01": measure.threshold(good, 0.001)}
    found = {}
    for kind in ["all", *attackers(rows)]:
        here = rows.label & ((rows.attacker == kind) | (kind == "all"))
        bad, group = score[here], rows.group[here]
        entry = {"auc": measure.auc(good, bad), "rows": int(here.sum()), "groups": len(set(group))}
        for name, bar in bars.items():
            entry[name] = vars(measure.detection(bad, bar, group))
        # What is caught early sends no more requests, so that requests alone count what was missed more often.
        entry["incidents"] = vars(measure.caught(bad, bars["t1"], group))
        found[kind] = entry
    return found


def challengeable(rows: Rows) -> np.ndarray:
    """Legitimate rows that could end in a challenge."""
    return ~rows.label & rows.succeeded


def established(rows: Rows, with_failures: bool = False) -> np.ndarray:
    """Legitimate logins of users with enough logins before; with their wrong passwords on request."""
    good = ~rows.label if with_failures else challengeable(rows)
    return good & (rows.logins >= ESTABLISHED)


def at_budget(rows: Rows, score: np.ndarray, budget: float = BUDGET, with_failures: bool = False) -> dict[str, dict]:
    """Detection where established good users are challenged at `budget` of their logins."""
    bar = measure.threshold(score[established(rows, with_failures)], budget)
    found = {}
    for kind in attackers(rows):
        here = rows.label & (rows.attacker == kind)
        found[kind] = vars(measure.detection(score[here], bar, rows.group[here]))
        known = here & (rows.logins >= ESTABLISHED)
        found[kind]["established"] = vars(measure.detection(score[known], bar, rows.group[known]))
    return {"threshold": bar, "kinds": found}


def by_variant(rows: Rows, score: np.ndarray, above: dict[str, float]) -> dict[str, dict]:
    """Detection of each way in which a kind of attacker goes about it (what a thief is near to, what is copied), and of
    victims by the logins that were known of them. `above` names thresholds."""
    found = {}
    for kind in attackers(rows):
        here = rows.label & (rows.attacker == kind)
        parts = {name: rows.variant == name for name in sorted(set(rows.variant[here]) - {""})}
        if (rows.kind[here] == "login").any():
            parts |= {
                "no login known": rows.logins == 0,
                f"1 to {ESTABLISHED - 1} logins known": (rows.logins > 0) & (rows.logins < ESTABLISHED),
                f"{ESTABLISHED} logins or more": rows.logins >= ESTABLISHED,
            }
        for name, part in parts.items():
            taken = here & part
            if taken.any():
                found[f"{kind}, {name}"] = {
                    where: vars(measure.detection(score[taken], bar, rows.group[taken])) for where, bar in above.items()
                }
    return found


def by_history(rows: Rows, score: np.ndarray, bar: float) -> list[dict]:
    """How often good users are challenged above `bar`, by their confirmed logins before."""
    found = []
    for low, high in HISTORIES:
        here = challengeable(rows) & (rows.logins >= low) & (rows.logins <= high)
        rate = measure.detection(score[here], bar, rows.user[here])
        found.append({"from": low, "to": high, **vars(rate)})
    return found


def cohorts(rows: Rows, score: np.ndarray, bar: float) -> dict[str, dict]:
    """How often each group of good users is challenged above `bar`, and as a multiple of the mean."""
    good = challengeable(rows)
    mean = float((score[good] > bar).mean()) if good.any() else float("nan")
    names = sorted({name for text in set(rows.cohort[good]) for name in text.split()})
    found = {"all good users": {**vars(measure.detection(score[good], bar, rows.user[good])), "ratio": 1.0}}
    members = {text: set(text.split()) for text in set(rows.cohort)}
    for name in names:
        here = good & np.array([name in members[text] for text in rows.cohort])
        rate = measure.detection(score[here], bar, rows.user[here])
        found[name] = {**vars(rate), "ratio": rate.value / mean if mean else float("nan")}
    return found


def calibration(rows: Rows, probability: np.ndarray, weight: np.ndarray) -> dict:
    """Expected calibration error and its bins."""
    error, bins = measure.calibration(probability, rows.label.astype(float), weight)
    return {"ece": error, "bins": bins}


def at_base_rate(rows: Rows, logit: np.ndarray, weight: np.ndarray, rarer: float) -> dict:
    """Calibration where attacks are so many times rarer than stated, the bias moved by the odds and nothing else."""
    moved = 1.0 / (1.0 + np.exp(-(logit - np.log(rarer))))
    return calibration(rows, moved, np.where(rows.label, weight / rarer, weight))


def hardest(rows: Rows, scores: dict[str, np.ndarray], attacker: str) -> dict[str, dict[str, dict]]:
    """How well several scores tell one kind of attacker from good requests, in all and by the way it goes about it."""
    found: dict[str, dict[str, dict]] = {}
    of_kind = rows.label & (rows.attacker == attacker)
    parts = {"": of_kind} | {name: of_kind & (rows.variant == name) for name in sorted(set(rows.variant[of_kind]) - {""})}
    for part, here in parts.items():
        found[part] = {
            name: {
                "auc": measure.auc(score[~rows.label], score[here]),
                **vars(measure.detection(score[here], measure.threshold(score[~rows.label], 0.01), rows.group[here])),
            }
            for name, score in scores.items()
        }
    return found


def curves(rows: Rows, score: np.ndarray) -> dict:
    """ROC and precision-recall of all attackers together, thinned for plots."""
    good, bad = score[~rows.label], score[rows.label]
    fpr, tpr = measure.roc(good, bad)
    precision, recall, area = measure.precision_recall(good, bad)
    return {"roc": thinned(fpr, tpr), "pr": thinned(recall, precision), "pr_auc": area, "auc": measure.auc(good, bad)}


def thinned(x: np.ndarray, y: np.ndarray, points: int = 400) -> list[list[float]]:
    """Fewer points of a curve, dense at both ends."""
    if len(x) > points:
        at = np.unique(np.concatenate([np.geomspace(1, len(x), points // 2), np.linspace(1, len(x), points // 2)]).astype(int) - 1)
        x, y = x[at], y[at]
    return [[float(v) for v in x], [float(v) for v in y]]
