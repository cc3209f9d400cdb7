"""The baseline of the literature: the score of Freeman et al. (NDSS 2016) in the form of das-group's rba-algorithm.

Keeps a state of its own, built from the raw events and nothing that the gateway computed:

    score = p(ip) / p(ip | user) * p(agent) / p(agent | user) * p(user | attack) / p(user | legitimate)

Each probability is a weighted sum over a hierarchy (address, network, country; agent string, browser, system, device),
with the published weights. A value that the user never showed counts as a quarter of its share among all users. It
learns every successful login of a legitimate user and no attack: better than any live system could, which favours it.
"""

from collections import Counter
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

ADDRESS = (("IP Address", 0.6), ("ASN", 0.3), ("Country", 0.1))
AGENT = (
    ("User Agent String", 0.5386653840551359),
    ("Browser Name and Version", 0.2680451498625666),
    ("OS Name and Version", 0.18818295100109536),
    ("Device Type", 0.0051065150812021525),
)
UNSEEN = 0.25


class Freeman:
    """The state: how often which value was seen, over all and per user."""

    def __init__(self) -> None:
        self.total = 0
        self.all = {name: Counter() for name, _ in ADDRESS + AGENT}
        self.logins: Counter = Counter()
        self.user: dict[str, dict[str, Counter]] = defaultdict(lambda: {name: Counter() for name, _ in ADDRESS + AGENT})

    def score(self, event: dict[str, str]) -> float:
        """The logarithm of the score; higher is riskier."""
        user = event["User ID"]
        known = self.logins[user]
        # Equally likely targets against a user's share of logins; one more of each, so that both exist.
        result = np.log((1.0 / (len(self.logins) + 1)) / ((known + 1) / (self.total + 1)))
        for hierarchy in (ADDRESS, AGENT):
            everywhere, here = 0.0, 0.0
            for level, (name, weight) in enumerate(hierarchy):
                value = event[name]
                counts = self.all[name]
                # Only the first level is smoothed: the others are hardly ever new.
                share = (counts[value] + 1) / (self.total + len(counts) + 1) if level == 0 else (
                    counts[value] / self.total if self.total else 0.0
                )
                seen = self.user[user][name][value] if known else 0
                everywhere += weight * share
                here += weight * (seen / known if seen else share * UNSEEN)
            result += np.log(max(everywhere, 1e-12) / max(here, 1e-12))
        return float(result)

    def learn(self, event: dict[str, str]) -> None:
        """Takes a legitimate successful login into the state."""
        user = event["User ID"]
        self.total += 1
        self.logins[user] += 1
        for name, _ in ADDRESS + AGENT:
            self.all[name][event[name]] += 1
            self.user[user][name][event[name]] += 1


def scores(events: Iterable[dict[str, str]]) -> np.ndarray:
    """One score per event that is a login, NaN for the others, in the order given."""
    state, found = Freeman(), []
    for event in events:
        if event.get("Event Kind") not in (None, "", "login"):
            found.append(np.nan)
            continue
        found.append(state.score(event))
        if event["Login Successful"] == "True" and not event.get("Attacker Kind"):
            state.learn(event)
    return np.array(found)
