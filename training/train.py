"""Trains the additive model of one kind of request from rows that the gateway computed.

Reads trainer.toml for every choice that is not in the data. Splits by time, fits within the directions of the schema,
calibrates on later rows, folds the calibration in. Writes nothing: export.py does.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import numpy as np

import additive
import export_starter
import fit
from replay import Rows

HERE = Path(__file__).resolve().parent
DAY = 86400.0
# The seeds are left out in so many parts when the model is calibrated.
FOLDS = 3


@dataclass(frozen=True)
class Plan:
    """trainer.toml."""

    version: str
    traffic: dict
    settings: dict[str, fit.Settings]
    rows_max: int
    newcomers: float
    weight: dict[str, dict[str, float]]
    attacks: dict[str, float]
    floors: list[dict]
    ceilings: list[dict]
    silent: tuple[str, ...]
    flats: list[dict]
    directions: dict[str, int]
    across: tuple[str, ...]

    @staticmethod
    def read(path: Path = HERE / "trainer.toml", quick: bool = False) -> "Plan":
        data = tomllib.loads(path.read_text())
        traffic = dict(data["traffic"])
        small = traffic.pop("quick")
        chosen = dict(data["fit"])
        own = {kind: dict(chosen.pop(kind, {})) for kind in additive.KINDS}
        across = tuple(kind for kind in additive.KINDS if own[kind].pop("across", False))
        return Plan(
            version=data["version"],
            traffic=traffic | small if quick else traffic,
            rows_max=int(chosen.pop("legitimate_rows_max")),
            newcomers=float(chosen.pop("newcomers")),
            settings={kind: fit.Settings(**(chosen | own[kind])) for kind in additive.KINDS},
            weight=data["weight"],
            attacks=data["attacks"],
            floors=data["floor"],
            ceilings=data["ceiling"],
            silent=tuple(data["silent"]["features"]),
            flats=data["flat"],
            directions=data["direction"],
            across=across,
        )

    def mix(self, kind: str) -> dict[str, float]:
        """The mix that a probability refers to: attackers in the proportions of `weight`, `attacks` in all."""
        weight = self.weight[kind]
        return {name: share * self.attacks[kind] / sum(weight.values()) for name, share in weight.items()}

    def flats_of(self, schema: additive.Schema) -> dict[int, fit.Flat]:
        """The ranges without slope by the position of their feature."""
        return {schema.names.index(e["feature"]): fit.Flat(float(e["low"]), float(e["high"])) for e in self.flats}

    def monotone(self, schema: additive.Schema) -> list[int]:
        """The directions of the schema, with those that it leaves free and the plan does not."""
        return [self.directions.get(name, d) if d == 0 else d for name, d in zip(schema.names, schema.monotone)]

    def floors_of(self, schema: additive.Schema, kind: str) -> dict[int, fit.Floor]:
        """The floors of a kind by the position of their feature."""
        return {f: fit.Floor(x, y) for f, x, y in bounds(schema, kind, self.floors, "floor")}

    def ceilings_of(self, schema: additive.Schema, kind: str) -> dict[int, fit.Ceiling]:
        """The ceilings of a kind by the position of their feature."""
        return {f: fit.Ceiling(x, y) for f, x, y in bounds(schema, kind, self.ceilings, "ceiling")}


def bounds(schema: additive.Schema, kind: str, entries: list[dict], what: str) -> Iterator[tuple[int, list[float], list[float]]]:
    """The entries that hold for `kind`: those that name it in `kinds`, and those that name none."""
    for entry in entries:
        if kind not in entry.get("kinds", [kind]):
            continue
        f = schema.names.index(entry["feature"])
        if (entry["x"][0], entry["x"][-1]) != schema.clip[f]:
            low, high = schema.clip[f]
            raise ValueError(f"the {what} of `{entry['feature']}` must span {low} to {high}")
        yield f, [float(v) for v in entry["x"]], [float(v) for v in entry["y"]]


@dataclass(frozen=True)
class Choices:
    """What an ablation changes."""

    without: tuple[str, ...] = ()
    weighted: bool = True
    bounded: bool = True
    floors: bool = True
    prior: bool = True


@dataclass(frozen=True)
class Trained:
    """The model of one kind of request and how it came about."""

    kind: str
    shapes: list[additive.Shape]
    bias: float
    slope: float
    intercept: float
    iterations: int
    counts: dict[str, int]
    frozen: list[str] = field(default_factory=list)

    def weights(self, schema: additive.Schema) -> additive.Additive:
        """The arrays of the graph."""
        return additive.Additive.of(schema, self.shapes, self.bias)


def split(rows: Rows, plan: Plan) -> tuple[Rows, Rows]:
    """Rows of a training seed: the earlier part to fit, the later part to calibrate; the warm-up belongs to neither."""
    begin = rows.time.min()
    days = (rows.time - begin) / DAY
    cut = plan.traffic["warm_up_days"] + plan.traffic["calibrate_from"] * (
        plan.traffic["days"] - plan.traffic["warm_up_days"]
    )
    warm = days >= plan.traffic["warm_up_days"]
    return rows.where(warm & (days < cut)), rows.where(warm & (days >= cut))


def after_warm_up(rows: Rows, plan: Plan) -> Rows:
    """Rows of a seed that is only looked at or tested on."""
    return rows.where((rows.time - rows.time.min()) / DAY >= plan.traffic["warm_up_days"])


def mix(rows: Rows, shares: dict[str, float] | None) -> np.ndarray:
    """A weight per row: 1 for legitimate ones, and for each kind of attacker as much as makes its total the given share of
    them. Rows of one campaign count together no more than the square root of their number would, so that the largest
    does not speak for all. `None` is the mix as it comes."""
    weight = np.ones(len(rows))
    if shares is None:
        return weight
    legitimate = float((~rows.label).sum())
    for kind, share in shares.items():
        here = np.flatnonzero(rows.label & (rows.attacker == kind))
        if not len(here):
            continue
        _, index, sizes = np.unique(rows.group[here], return_inverse=True, return_counts=True)
        raw = 1.0 / np.sqrt(sizes[index])
        weight[here] = raw * (share * legitimate / raw.sum())
    unknown = set(rows.attacker[rows.label]) - set(shares)
    if unknown:
        raise ValueError(f"trainer.toml gives no weight to {sorted(unknown)}")
    return weight


def fit_weight(rows: Rows, shares: dict[str, float] | None, plan: Plan) -> np.ndarray:
    """The weight of each row in a fit: that of `mix`, and more for the first logins of good users."""
    first = ~rows.label & (rows.kind == "login") & (rows.logins == 0)
    return mix(rows, shares) * np.where(first, plan.newcomers, 1.0)


def sampled(rows: Rows, legitimate_max: int) -> tuple[Rows, float]:
    """The rows with at most so many legitimate ones, evenly taken, and how many each of them stands for."""
    legitimate = np.flatnonzero(~rows.label)
    if len(legitimate) <= legitimate_max:
        return rows, 1.0
    kept = legitimate[np.linspace(0, len(legitimate) - 1, legitimate_max).astype(int)]
    mask = rows.label.copy()
    mask[kept] = True
    return rows.where(mask), len(legitimate) / legitimate_max


def frozen(schema: additive.Schema, kind: str, without: tuple[str, ...]) -> set[int]:
    """Features that have no part in a model of `kind`."""
    return {
        f
        for f, (name, kinds) in enumerate(zip(schema.names, schema.kinds))
        if kind not in kinds or name in without
    }


def shapes_of(
    kind: str, fitting: Rows, schema: additive.Schema, plan: Plan, choices: Choices
) -> tuple[fit.Fitted, np.ndarray, set[int]]:
    """Shapes fitted to `fitting`, not yet calibrated; its legitimate rows as the graph sees them; what has no part."""
    shares = plan.weight[kind] if choices.weighted else None
    rows, _ = sampled(fitting, plan.rows_max)
    x = fit.fill(rows.features, schema.cold_start)
    off = frozen(schema, kind, plan.silent + choices.without)
    floors = {f: floor for f, floor in plan.floors_of(schema, kind).items() if f not in off} if choices.floors else {}
    ceilings = {f: ceiling for f, ceiling in plan.ceilings_of(schema, kind).items() if f not in off} if choices.floors else {}
    monotone = plan.monotone(schema) if choices.bounded else [0] * len(schema.names)
    weight = fit_weight(rows, shares, plan)
    prior = export_starter.read_starter(schema, kind)[1] if choices.prior else None
    fitted = fit.fit(x, rows.label, weight, monotone, floors, off, plan.settings[kind], plan.flats_of(schema), prior, ceilings)
    return fitted, x[~rows.label], off


def logits_across(
    kind: str, fitting: Rows, calibrating: Rows, schema: additive.Schema, plan: Plan, choices: Choices
) -> np.ndarray:
    """What a fit of other seeds says of each seed's later rows: users, networks and campaigns that it has not seen.

    Judged by the fit of its own seed a row is surer than the next installation's will be.
    """
    taken, _ = sampled(fitting, plan.rows_max)
    of_fit, of_later = seeds_of(taken), seeds_of(calibrating)
    found = np.zeros(len(calibrating))
    seeds = np.unique(of_later)
    for some in np.array_split(seeds, min(FOLDS, len(seeds))):
        here = np.isin(of_later, some)
        fitted, _, _ = shapes_of(kind, taken.where(~np.isin(of_fit, some)), schema, plan, choices)
        found[here] = fit.logits(fitted, fit.fill(calibrating.features[here], schema.cold_start))
    return found


def seeds_of(rows: Rows) -> np.ndarray:
    """The seed of each row, with which run.py begins the names of groups."""
    return np.array([group.partition(" ")[0] for group in rows.group])


def train(
    kind: str,
    fitting: Rows,
    calibrating: Rows,
    schema: additive.Schema,
    plan: Plan,
    choices: Choices = Choices(),
    across: bool = False,
) -> Trained:
    """Fits and calibrates the model of `kind`. Both sets hold rows of that kind only. With `across` each seed is calibrated
    by a fit of the others, of which there must be two at least."""
    fitted, good, off = shapes_of(kind, fitting, schema, plan, choices)
    if across:
        logit = logits_across(kind, fitting, calibrating, schema, plan, choices)
    else:
        logit = fit.logits(fitted, fit.fill(calibrating.features, schema.cold_start))
    slope, intercept = fit.platt(logit, calibrating.label.astype(float), mix(calibrating, plan.mix(kind)))
    # A floor is meant in log-odds of the finished model: a slope below 1 would undercut it.
    shapes, bias = fit.folded(fitted, slope, intercept, good, np.ones(len(good)))
    return Trained(
        kind=kind,
        shapes=shapes,
        bias=bias,
        slope=slope,
        intercept=intercept,
        iterations=fitted.iterations,
        counts={
            "fit legitimate": int((~fitting.label).sum()),
            "fit attacks": int(fitting.label.sum()),
            "calibrate legitimate": int((~calibrating.label).sum()),
            "calibrate attacks": int(calibrating.label.sum()),
        },
        frozen=[schema.names[f] for f in sorted(off)],
    )
