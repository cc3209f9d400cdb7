"""Figures of merit: ranking, detection at a budget of false alarms, calibration, and how sure the figures are.

Pure functions of scores, labels and groups. A score is any number that grows with the risk; ties count as half.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval and what it was counted on."""

    value: float
    low: float
    high: float
    rows: int
    groups: int

    def text(self, digits: int = 1) -> str:
        """As per cent with the interval."""
        if self.rows == 0:
            return "-"
        return f"{100 * self.value:.{digits}f} ({100 * self.low:.{digits}f} to {100 * self.high:.{digits}f})"


def auc(good: np.ndarray, bad: np.ndarray) -> float:
    """The chance that a bad row scores above a good one."""
    if len(good) == 0 or len(bad) == 0:
        return float("nan")
    ordered = np.sort(good)
    below = np.searchsorted(ordered, bad, side="left")
    not_above = np.searchsorted(ordered, bad, side="right")
    return float((below + not_above).mean() / (2.0 * len(good)))


def roc(good: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates for every threshold, ascending."""
    scores = np.concatenate([good, bad])
    is_bad = np.concatenate([np.zeros(len(good)), np.ones(len(bad))])
    order = np.argsort(-scores, kind="stable")
    scores, is_bad = scores[order], is_bad[order]
    last = np.append(np.diff(scores) != 0, True)
    tp, fp = np.cumsum(is_bad)[last], np.cumsum(1.0 - is_bad)[last]
    return np.append(0.0, fp / max(len(good), 1)), np.append(0.0, tp / max(len(bad), 1))


def precision_recall(good: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Precision, recall and the area below, with the rows' own mix."""
    fpr, tpr = roc(good, bad)
    tp, fp = tpr * len(bad), fpr * len(good)
    precision = tp[1:] / np.maximum(tp[1:] + fp[1:], 1e-12)
    return precision, tpr[1:], float(np.sum(np.diff(tpr) * precision))


def threshold(good: np.ndarray, budget: float) -> float:
    """The score that at most the share `budget` of `good` exceeds."""
    if len(good) == 0:
        return float("inf")
    ordered = np.sort(good)
    allowed = int(np.floor(budget * len(good) + 1e-9))
    return float(ordered[len(good) - 1 - allowed]) if allowed < len(good) else float("-inf")


def detection(bad: np.ndarray, above: float, group: np.ndarray, seed: int = 1) -> Rate:
    """The share of `bad` above a threshold. The interval resamples groups (campaigns), since rows of one are alike; with
    one row per group it is Wilson's."""
    hit = (bad > above).astype(np.float64)
    n = len(hit)
    if n == 0:
        return Rate(float("nan"), float("nan"), float("nan"), 0, 0)
    names, index = np.unique(group, return_inverse=True)
    if len(names) == n or len(names) < 2:
        low, high = wilson(hit.sum(), n)
        return Rate(float(hit.mean()), low, high, n, len(names))
    hits, sizes = np.bincount(index, hit), np.bincount(index)
    chance = np.random.Generator(np.random.PCG64(seed))
    drawn = chance.integers(0, len(names), (1000, len(names)))
    rates = hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(rates, [0.025, 0.975])
    if low == high:
        # Every group alike: the resampling is blind, the number of groups still bounds what can be said.
        low, high = wilson(hit.mean() * len(names), len(names))
    return Rate(float(hit.mean()), float(low), float(high), n, len(names))


def caught(bad: np.ndarray, above: float, group: np.ndarray) -> Rate:
    """The share of groups (incidents) of which any row is above a threshold."""
    if len(bad) == 0:
        return Rate(float("nan"), float("nan"), float("nan"), 0, 0)
    names, index = np.unique(group, return_inverse=True)
    hit = np.bincount(index, bad > above) > 0
    low, high = wilson(float(hit.sum()), len(names))
    return Rate(float(hit.mean()), low, high, len(names), len(names))


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, p = 1.959964, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def calibration(p: np.ndarray, label: np.ndarray, weight: np.ndarray, bins: int = 15) -> tuple[float, list]:
    """Expected calibration error over equally wide bins, and the bins as (mean p, frequency, share of weight)."""
    index = np.minimum((p * bins).astype(int), bins - 1)
    total = weight.sum()
    rows, error = [], 0.0
    for b in range(bins):
        here = index == b
        mass = weight[here].sum()
        if mass <= 0:
            continue
        said = float(np.average(p[here], weights=weight[here]))
        seen = float(np.average(label[here], weights=weight[here]))
        rows.append((said, seen, float(mass / total)))
        error += mass / total * abs(said - seen)
    return float(error), rows


def stability(expected: np.ndarray, found: np.ndarray) -> float:
    """Population stability index of two lists of shares over the same bins."""
    a, b = np.maximum(expected, 1e-4), np.maximum(found, 1e-4)
    a, b = a / a.sum(), b / b.sum()
    return float(np.sum((b - a) * np.log(b / a)))
