"""Where the levels of the shipped policy begin, which is what a model is judged by and what decides in a replay.

Read from conf/policy.toml, so that no figure speaks of another threshold than the one that ships.
"""

import math
import re
import tomllib

import additive

POLICY = additive.ROOT / "conf" / "policy.toml"
CONTENT = tomllib.loads(POLICY.read_text())
# The first points that are medium, and the first that are high.
MEDIUM = int(CONTENT["thresholds"]["medium"])
HIGH = int(CONTENT["thresholds"]["high"])


def least(points: int) -> float:
    """The least probability that is shown as so many points."""
    return (points - 0.5) / 100.0


def log_odds(points: int) -> float:
    """The same in log-odds."""
    return math.log(least(points) / (1.0 - least(points)))


def policy_of(medium: int, high: int) -> str:
    """The shipped policy without its comments and with other levels, for a model whose points mean something else."""
    text = "".join(line for line in POLICY.read_text().splitlines(keepends=True) if not line.startswith("#"))
    for name, points in (("medium", medium), ("high", high)):
        text, count = re.subn(rf"^{name} = \d+$", f"{name} = {points}", text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"conf/policy.toml sets `{name}` {count} times")
    return text
