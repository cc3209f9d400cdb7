"""The first thirty days of an installation: how often good users are challenged, and what keeps it low.

Replays a generated installation in which everybody's first login lies within the run. `monitor` is replayed by taking the
second factor from good users: then a medium score is not learnt from, as in `monitor`, where nobody is asked for one.
"""

import csv
from pathlib import Path

import numpy as np

import additive
import levels
import replay
import train
from replay import Rows

DAYS = 30
MONITORED = 14
MEDIUM = levels.least(levels.MEDIUM)
# Novelty that says as much on the second login as on the twenty-first.
SETTLED_LOGINS = 20


def without_factor(events: Path, days: int) -> Path:
    """A copy of `events` in which no good user has a second factor for the first `days`."""
    target = events.with_name(f"{events.stem}-monitor-{days}.csv")
    if target.exists():
        return target
    with events.open(newline="") as file, target.with_suffix(".part").open("w", newline="") as out:
        reader = csv.DictReader(file)
        writer = csv.DictWriter(out, reader.fieldnames or [], lineterminator="\n")
        writer.writeheader()
        begun = None
        for row in reader:
            moment = replay.seconds(row["Login Timestamp"])
            begun = moment if begun is None else begun
            if not row["Attacker Kind"] and moment < begun + days * train.DAY:
                row["Second Factor"] = "False"
            writer.writerow(row)
    target.with_suffix(".part").rename(target)
    return target


def daily(rows: Rows, challenged: np.ndarray) -> list[list[int]]:
    """Challenged and all good logins of each day."""
    day = ((rows.time - rows.time.min()) // train.DAY).astype(int)
    good = ~rows.label & rows.succeeded
    return [[int((good & challenged & (day == d)).sum()), int((good & (day == d)).sum())] for d in range(DAYS)]


def settled(rows: Rows, schema: additive.Schema) -> np.ndarray:
    """The features as if novelty did not wait for evidence."""
    features = rows.features.copy()
    full = np.float32(np.log1p(SETTLED_LOGINS))
    for name in schema.names:
        if name.startswith("llr_"):
            column = features[:, schema.names.index(name)]
            column[column > 0.1] = full
    history = features[:, schema.names.index("user_history")]
    history[~np.isnan(history)] = full
    return features


def measured(plan: train.Plan, model: Path, trained: train.Trained, schema: additive.Schema) -> dict:
    """Counts per day and a text."""
    seed = plan.traffic["cold"]
    traffic = replay.Traffic(seed, plan.traffic["users"], DAYS, ("--cold-start",))
    events = replay.generated(traffic)
    weights = trained.weights(schema)
    enforced = replay.rows(events, model)
    enforced = enforced.where(enforced.kind == "login")
    watched = replay.rows(without_factor(events, MONITORED), model)
    watched = watched.where(watched.kind == "login")
    day = (watched.time - watched.time.min()) / train.DAY
    rash, _ = weights.evaluate(settled(enforced, schema))
    counts = {
        "enforce from the first day": daily(enforced, enforced.probability >= MEDIUM),
        f"monitor for {MONITORED} days, then enforce": daily(watched, (watched.probability >= MEDIUM) & (day >= MONITORED)),
        "the scores during monitor": daily(watched, watched.probability >= MEDIUM),
        "without evidence weighting": daily(enforced, rash >= MEDIUM),
    }
    series = {name: [hit / all_ if all_ else 0.0 for hit, all_ in days] for name, days in counts.items()}
    text = (
        f"Seed {seed}, {traffic.users} users, nobody known at the start. Novelty weighs by the logins that it is measured against, so that"
        " the second login of an account is not held against it; the last line takes that away (every novelty as after"
        f" {SETTLED_LOGINS} logins, no account young). In `monitor` nobody is challenged; what is risky is not learnt from either."
    )
    return {"counts": counts, "series": series, "text": text}
