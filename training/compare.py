"""The shipped form beside others on the same rows: literature, rules, trees, an unsupervised detector, and itself with
parts left out. Trains what it compares; the figures come from evaluate.py.
"""

from collections.abc import Callable
from dataclasses import replace

import lightgbm
import numpy as np

import additive
import challengers
import fit
import freeman
import rules
from replay import Rows
from replay import Traffic
from replay import events_of
from replay import generated
from train import Choices
from train import Plan
from train import Trained
from train import fit_weight
from train import frozen
from train import sampled
from train import seeds_of
from train import train

# What is left out together, because it stands for one thing that a deployment may lack.
GROUPS = {
    "device cookie": ("device_cookie", "surprise_cookie", "novelty_combined"),
    "TLS fingerprint": ("tls_mismatch", "llr_tls", "surprise_tls", "token_tls_change", "m2m_tls_new", "tls_rarity", "newcomer_tls"),
    "device cookie and TLS fingerprint": (
        "device_cookie", "surprise_cookie", "novelty_combined", "tls_mismatch", "llr_tls", "surprise_tls",
    ),
    "likelihood ratios": (
        "llr_address", "llr_asn", "llr_country", "llr_agent", "llr_platform", "llr_language", "llr_tls", "llr_browser",
    ),
    "habits (surprise)": ("surprise_cookie", "surprise_address", "surprise_agent", "surprise_asn", "surprise_tls"),
    "places": ("geo_km", "geo_speed", "country_concurrent"),
    "failures and velocity": (
        "asn_failure_ratio_24h", "agent_failure_ratio_24h", "newcomer_agent_failures", "address_failures_10m", "address_failures_24h", "prefix_failures_1h", "address_users_1h", "address_failure_ratio",
        "asn_failure_ratio", "agent_failure_ratio", "tenant_failure_ratio", "user_failures_10m", "user_failures_24h",
        "user_addresses_24h",
    ),
    "rarity": (
        "asn_rarity", "country_rarity", "agent_rarity", "language_rarity", "tls_rarity",
        "newcomer_asn", "newcomer_country", "newcomer_language", "newcomer_tls",
    ),
    "network kind": ("network_kind",),
    "newcomers": ("newcomer_asn", "newcomer_country", "newcomer_language", "newcomer_tls", "newcomer_agent_failures"),
    "hour": ("hour_surprise",),
    "history and gap": ("user_history", "user_gap_hours"),
}

Score = Callable[[Rows], np.ndarray]


def logit_of(trained: Trained, schema: additive.Schema) -> Score:
    """The model's own score, as log-odds so that nothing is lost near 0 and 1."""
    weights = trained.weights(schema)

    def score(rows: Rows) -> np.ndarray:
        _, contributions = weights.evaluate(rows.features)
        return contributions.sum(axis=1) + trained.bias

    return score


def fields(kind: str, schema: additive.Schema) -> list[int]:
    """The positions of the features of `kind`."""
    off = frozen(schema, kind, ())
    return [f for f in range(len(schema.names)) if f not in off]


# The kinds of attacker of which it is asked whether anything could tell them from good users.
HARDEST = {"login": "targeted", "token": "refresh_theft", "m2m": "secret_theft"}


def alone(kind: str, fitting: Rows, schema: additive.Schema, plan: Plan) -> dict[str, Score]:
    """Trees trained on good requests and nothing but the hardest kind of attack: about the most that these features can say
    of it to anybody."""
    rows, _ = sampled(fitting, plan.rows_max)
    rows = rows.where(~rows.label | (rows.attacker == HARDEST[kind]))
    weight = fit_weight(rows, plan.weight[kind], plan)
    columns = fields(kind, schema)
    x = rows.features[:, columns]
    found = {}
    for name, monotone in (("trees for it alone, monotone", [schema.monotone[f] for f in columns]), ("trees for it alone, free", None)):
        model = challengers.boosted(x, rows.label, weight, monotone)
        found[name] = lambda taken, model=model: challengers.margin(model, taken.features[:, columns])
    return found


def others(
    kind: str, fitting: Rows, schema: additive.Schema, plan: Plan
) -> tuple[dict[str, Score], lightgbm.Booster]:
    """Other models for the rows of `kind`, trained on the same rows with the same weights; the monotone trees themselves."""
    rows, _ = sampled(fitting, plan.rows_max)
    weight = fit_weight(rows, plan.weight[kind], plan)
    columns = fields(kind, schema)
    x = rows.features[:, columns]
    filled = fit.fill(rows.features, schema.cold_start)[:, columns]
    monotone = [schema.monotone[f] for f in columns]

    def taken(found: Rows) -> np.ndarray:
        return found.features[:, columns]

    def full(found: Rows) -> np.ndarray:
        return fit.fill(found.features, schema.cold_start)[:, columns]

    bounded = challengers.boosted(x, rows.label, weight, monotone)
    free = challengers.boosted(x, rows.label, weight, None)
    line, mean, spread = challengers.logistic(filled, rows.label, weight)
    forest = challengers.isolation(filled)
    scores = {
        "LightGBM, monotone": lambda found: challengers.margin(bounded, taken(found)),
        "LightGBM, free": lambda found: challengers.margin(free, taken(found)),
        "logistic regression": lambda found: line.decision_function((full(found) - mean) / spread),
        "isolation forest (no labels)": lambda found: -forest.score_samples(full(found)),
    }
    return scores, bounded.booster_


def fixed_rules(found: Rows, schema: additive.Schema) -> np.ndarray:
    """The score of the fixed rules."""
    return rules.scores(found.features, schema.names)


def literature(traffic: Traffic) -> np.ndarray:
    """The score of Freeman et al. for every event of `traffic`, by the event's position."""
    return freeman.scores(events_of(generated(traffic)))


def ablations(
    kind: str, fitting: Rows, calibrating: Rows, schema: additive.Schema, plan: Plan
) -> dict[str, Score]:
    """The model with parts left out or choices undone, each trained anew."""
    # They are compared with one another, so that fewer seeds, rows and steps do for all of them.
    seeds = np.unique(seeds_of(fitting))
    some = seeds[: max(1, len(seeds) // 3)]
    fitting, calibrating = (rows.where(np.isin(seeds_of(rows), some)) for rows in (fitting, calibrating))
    plan = replace(
        plan, rows_max=plan.rows_max // 3, settings={k: replace(s, iterations=120) for k, s in plan.settings.items()}
    )
    present = {name for f, name in enumerate(schema.names) if kind in schema.kinds[f]}
    found = {"everything": Choices()}
    for group, names in GROUPS.items():
        here = tuple(name for name in names if name in present)
        if here:
            found[f"without {group}"] = Choices(without=here)
    found["campaigns weighted as they come"] = Choices(weighted=False)
    found["without directions"] = Choices(bounded=False, floors=False)
    found["without floors"] = Choices(floors=False)
    return {
        name: logit_of(train(kind, fitting, calibrating, schema, plan, choices), schema)
        for name, choices in found.items()
    }


def joint(fitting: Rows, calibrating: Rows, schema: additive.Schema, plan: Plan) -> Callable[[Rows], np.ndarray]:
    """One model for all kinds of request with the kind as one more feature."""
    order = {"login": 0.0, "token": 1.0, "m2m": 2.0}

    def x_of(rows: Rows) -> np.ndarray:
        kinds = np.array([order[kind] for kind in rows.kind], np.float32)
        return np.column_stack([fit.fill(rows.features, schema.cold_start), kinds])

    def weight_of(rows: Rows) -> np.ndarray:
        weight = np.ones(len(rows))
        for kind in order:
            here = rows.kind == kind
            weight[here] = fit_weight(rows.where(here), plan.weight[kind], plan)
        return weight

    parts = [sampled(fitting.where(fitting.kind == kind), plan.rows_max)[0] for kind in order]
    rows = Rows.joined(parts)
    # What holds for one kind of request only is no rule for a model of all.
    floors = plan.floors_of(schema, "")
    fitted = fit.fit(x_of(rows), rows.label, weight_of(rows), [*schema.monotone, 0], floors, set(), plan.settings["token"])
    return lambda found: fit.logits(fitted, x_of(found))
