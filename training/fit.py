"""Fits the additive piecewise-linear model: knots, bounded least log-loss, calibration, folding.

A feature contributes `sum of w_b * clip((x - lo_b) / width_b, 0, 1)`; with `w_b >= 0` (or `<= 0`) it is monotone, so that
the directions of the schema are bounds of the optimiser and not hopes. Knows matrices and weights only: where rows come
from and what is done with the model is somebody else's business.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse

import additive

# A value that is this common gets a knot of its own; with no more distinct values than this each gets one.
DISTINCT_MAX = 12
# A feature contributes at most so many segments (the gateway's native evaluator allows 64).
SEGMENTS_MAX = 24
TAILS = (0.99, 0.995, 0.999)


@dataclass(frozen=True)
class Floor:
    """The contribution from `x[i]` to `x[i+1]` is at least `y[i+1] - y[i]` log-odds, whatever the data say."""

    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Ceiling:
    """The contribution from `x[i]` to `x[i+1]` moves by at most `y[i+1] - y[i]` log-odds, whatever the data say."""

    x: list[float]
    y: list[float]


@dataclass(frozen=True)
class Settings:
    """How hard the fit is pulled towards small and smooth shapes."""

    segments: int = 12
    shrink: float = 2e-5
    smooth: float = 2e-4
    iterations: int = 400


@dataclass(frozen=True)
class Fitted:
    """Shapes in log-odds, 0 at their first knot, and the bias that goes with them. Not yet calibrated."""

    knots: list[np.ndarray]
    heights: list[np.ndarray]
    bias: float
    iterations: int
    loss: float


@dataclass(frozen=True)
class Flat:
    """Between `low` and `high` the values of a feature are told apart by nothing."""

    low: float
    high: float


def fill(rows: np.ndarray, cold_start: list[float]) -> np.ndarray:
    """The rows as the graph sees them: missing values replaced."""
    return np.where(np.isnan(rows), np.array(cold_start, np.float32), rows)


def knots_of(values: np.ndarray, weight: np.ndarray, segments: int, extra: list[float]) -> np.ndarray:
    """Ascending knots of one feature: every value if they are few, else weighted quantiles, the upper tails and `extra`."""
    distinct = np.unique(values)
    if len(distinct) <= DISTINCT_MAX:
        found = distinct
    else:
        order = np.argsort(values)
        cumulated = np.cumsum(weight[order])
        at = np.concatenate([np.linspace(0.0, 1.0, segments + 1), TAILS]) * cumulated[-1]
        found = values[order][np.minimum(np.searchsorted(cumulated, at), len(values) - 1)]
        # Quantiles of a lopsided feature coincide; the space beyond them still needs a few knots.
        top, low = float(distinct[-1]), float(distinct[0])
        found = np.concatenate([found, low + (top - low) * np.array([0.0, 0.25, 0.5, 0.75, 1.0])])
    # The given knots stay; a found one that is closer to its neighbours than a hundredth of the range says nothing new.
    given = np.unique(np.round(np.array(extra, np.float64), 4))
    found = np.unique(found.astype(np.float64))
    low, high = min([found[0], *given]), max([found[-1], *given])
    gap = 0.01 * (high - low)
    kept = list(given)
    for knot in [low, high, *found]:
        if not kept or np.abs(np.array(kept) - knot).min() >= max(gap, 1e-4):
            kept.append(float(knot))
    kept = np.sort(np.array(kept))
    while len(kept) - 1 > SEGMENTS_MAX:
        room = kept[2:] - kept[:-2]
        room[np.isin(kept[1:-1], given)] = np.inf
        if not np.isfinite(room).any():
            break
        kept = np.delete(kept, 1 + int(np.argmin(room)))
    return kept


class Basis:
    """The rows in hat functions: two numbers per feature and row, none where the feature rests at its first knot."""

    def __init__(self, knots: list[np.ndarray]) -> None:
        self.knots = knots
        sizes = [max(len(k) - 1, 0) for k in knots]
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        self.columns = int(self.starts[-1])
        # Heights at the knots are running sums of the segments' weights.
        self.running = scipy.linalg.block_diag(*[np.tril(np.ones((n, n))) for n in sizes if n])

    def rows(self, x: np.ndarray) -> scipy.sparse.csr_matrix:
        """`x` [N, F] without missing values, as a matrix [N, columns] that is multiplied with the heights."""
        parts = []
        for f, knots in enumerate(self.knots):
            n = len(knots) - 1
            if n < 1:
                continue
            value = np.clip(x[:, f].astype(np.float64), knots[0], knots[-1])
            segment = np.clip(np.searchsorted(knots, value, side="right") - 1, 0, n - 1)
            t = (value - knots[segment]) / (knots[segment + 1] - knots[segment])
            index = np.arange(len(value))
            lower = segment >= 1
            parts.append(
                scipy.sparse.csr_matrix(
                    (
                        np.concatenate([t, (1.0 - t)[lower]]),
                        (np.concatenate([index, index[lower]]), np.concatenate([segment, segment[lower] - 1])),
                    ),
                    shape=(len(value), n),
                )
            )
        made = scipy.sparse.hstack(parts, format="csr")
        made.eliminate_zeros()
        return made


def fit(
    rows: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    monotone: list[int],
    floors: dict[int, Floor],
    frozen: set[int],
    settings: Settings,
    flats: dict[int, Flat] | None = None,
    prior: list[additive.Shape] | None = None,
    ceilings: dict[int, Ceiling] | None = None,
) -> Fitted:
    """Fits shapes to `rows` (no missing values). Features in `frozen` stay at 0; `floors` keep a least slope, `ceilings` a
    greatest, `flats` none.

    Where the rows say little, a shape stays near that of `prior`, or near 0 without one.
    """
    weight = weight / weight.sum()
    flats = flats or {}
    ceilings = ceilings or {}
    knots = []
    for f in range(rows.shape[1]):
        extra = list(floors[f].x) if f in floors else []
        extra += ceilings[f].x if f in ceilings else []
        if prior:
            extra += prior[f].x
        if f in flats:
            extra += [flats[f].low, flats[f].high]
        found = knots_of(rows[:, f], weight, settings.segments, extra)
        if f in flats:
            found = found[(found <= flats[f].low) | (found >= flats[f].high)]
        knots.append(found[:1] if f in frozen else found)
    basis = Basis(knots)
    lower = np.full(basis.columns, -np.inf)
    upper = np.full(basis.columns, np.inf)
    expected = np.zeros(basis.columns)
    smooth = []
    for f, k in enumerate(knots):
        start, end = basis.starts[f], basis.starts[f + 1]
        if monotone[f] > 0:
            lower[start:end] = 0.0
        elif monotone[f] < 0:
            upper[start:end] = 0.0
        if f in floors and end > start:
            # Spread over the finer knots between the floor's own.
            at_least = np.interp(k, floors[f].x, floors[f].y)
            if monotone[f] < 0:
                upper[start:end] = np.diff(at_least)
            else:
                lower[start:end] = np.diff(at_least)
        if f in ceilings and end > start:
            at_most = np.diff(np.interp(k, ceilings[f].x, ceilings[f].y))
            if monotone[f] < 0:
                lower[start:end] = np.minimum(at_most, upper[start:end])
            else:
                upper[start:end] = np.maximum(at_most, lower[start:end])
        if f in flats and end > start:
            still = start + np.flatnonzero((k[:-1] >= flats[f].low) & (k[1:] <= flats[f].high))
            lower[still] = upper[still] = 0.0
        if prior and end > start:
            expected[start:end] = np.diff(np.interp(k, prior[f].x, prior[f].y))
        smooth += [(i, i + 1) for i in range(start, end - 1)]
    left = np.array([a for a, _ in smooth], int)
    right = np.array([b for _, b in smooth], int)
    matrix = basis.rows(rows)
    transposed = matrix.T.tocsr()
    target = label.astype(np.float64)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        w, bias = parameters[:-1], parameters[-1]
        z = matrix @ (basis.running @ w) + bias
        value = float(weight @ (np.logaddexp(0.0, z) - target * z))
        residual = weight * (1.0 / (1.0 + np.exp(-np.clip(z, -60.0, 60.0))) - target)
        gradient = basis.running.T @ (transposed @ residual)
        away = w - expected
        value += settings.shrink * float(away @ away)
        gradient = gradient + 2.0 * settings.shrink * away
        step = away[right] - away[left]
        value += settings.smooth * float(step @ step)
        np.add.at(gradient, right, 2.0 * settings.smooth * step)
        np.add.at(gradient, left, -2.0 * settings.smooth * step)
        return value, np.append(gradient, residual.sum())

    share = float(np.clip(weight @ target, 1e-6, 1.0 - 1e-6))
    expected = np.clip(expected, lower, upper)
    start = np.append(expected, np.log(share / (1.0 - share)))
    bounds = scipy.optimize.Bounds(np.append(lower, -np.inf), np.append(upper, np.inf))
    found = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": settings.iterations, "maxcor": 30}
    )
    heights = basis.running @ found.x[:-1]
    return Fitted(
        knots=knots,
        heights=[np.concatenate([[0.0], heights[basis.starts[f] : basis.starts[f + 1]]]) for f in range(len(knots))],
        bias=float(found.x[-1]),
        iterations=int(found.nit),
        loss=float(found.fun),
    )


def contributions(fitted: Fitted, rows: np.ndarray) -> np.ndarray:
    """Log-odds per feature, not centred."""
    return np.stack([np.interp(rows[:, f], k, h) for f, (k, h) in enumerate(zip(fitted.knots, fitted.heights))], axis=1)


def logits(fitted: Fitted, rows: np.ndarray) -> np.ndarray:
    """Log-odds, not calibrated."""
    return contributions(fitted, rows).sum(axis=1) + fitted.bias


def platt(logit: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope and intercept that make sigmoid(slope * logit + intercept) a frequency (Platt 1999, by Newton's method)."""
    weight = weight / weight.sum()
    x = np.stack([logit, np.ones_like(logit)], axis=1)
    # A pull towards slope 1, intercept 0 that only counts when classes can be separated.
    beta, prior = np.array([1.0, 0.0]), 1e-6
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ beta, -40.0, 40.0)))
        gradient = x.T @ (weight * (p - label)) + prior * (beta - [1.0, 0.0])
        hessian = (x * (weight * p * (1.0 - p))[:, None]).T @ x + prior * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        beta = beta - step
        if np.abs(step).max() < 1e-10:
            break
    return float(max(beta[0], 0.05)), float(beta[1])


def folded(fitted: Fitted, slope: float, intercept: float, typical: np.ndarray, weight: np.ndarray) -> tuple[list, float]:
    """Shapes and bias with the calibration inside: each shape's mean over the `typical` rows (legitimate ones) is 0."""
    means = np.average(contributions(fitted, typical), axis=0, weights=weight)
    shapes = []
    for knots, heights, mean in zip(fitted.knots, fitted.heights, means):
        if len(knots) == 1:
            knots, heights = np.array([knots[0], knots[0] + 1.0]), np.zeros(2)
        shapes.append(additive.Shape([float(v) for v in knots], [float(v) for v in slope * (heights - mean)]))
    return shapes, float(slope * (fitted.bias + means.sum()) + intercept)
