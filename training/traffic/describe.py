"""What is in a file of login events, beside the figures that were published for real traffic.

Reads the CSV form, so that generated and converted data are described alike. Memory grows with accounts, not events.
"""

import csv
from collections import Counter, defaultdict
from typing import Iterable, Iterator

# Wiefling et al. 2022, the published data set (31.3 million logins of a Norwegian single sign-on service); without the
# account that gathers attempts at accounts that do not exist.
PUBLISHED = {
    "login.success_share": "0.78",
    "login.new_address": "0.41",
    "login.new_agent_string": "0.52, synthetic strings; 0.20 to 0.50 taken as plausible",
    "login.per_user_median": "2 over 13 months",
    "login.per_user_p90": "9 over 13 months",
    "login.per_user_p99": "28 over 13 months",
    "login.once_share": "0.40",
    "login.round_trip_share": "0.041",
    "login.attack_address_share": "0.10",
    "takeover.without_history": "0.35",
    "login.mobile_share": "0.66 of rows with a device",
}


class Description:
    """Figures of one stream of rows; `add` each, then `figures`."""

    def __init__(self) -> None:
        self.rows = 0
        self.kinds: Counter[str] = Counter()
        self.attacks: Counter[str] = Counter()
        self.campaigns: dict[str, set[str]] = defaultdict(set)
        self.networks: Counter[str] = Counter()
        self.devices: Counter[str] = Counter()
        self.cohorts: Counter[str] = Counter()
        self.countries: Counter[str] = Counter()
        self.known: dict[str, tuple[set[str], set[str], set[str], set[str], set[str]]] = {}
        self.novel: Counter[str] = Counter()
        self.returning = 0
        self.good = self.good_right = self.logins = self.round_trips = self.flagged = 0
        self.takeovers = self.takeovers_fresh = 0
        self.successes: Counter[str] = Counter()

    def add(self, row: dict[str, str]) -> None:
        """One event."""
        self.rows += 1
        kind = row.get("Event Kind") or "login"
        attacker = row.get("Attacker Kind") or ("takeover" if row.get("Is Account Takeover") == "True" else "")
        self.kinds[kind] += 1
        if attacker:
            self.attacks[attacker] += 1
            if row.get("Campaign"):
                self.campaigns[attacker].add(row["Campaign"])
        if kind == "login":
            self._login(row, attacker)

    def figures(self) -> dict[str, float]:
        """Everything by name."""
        counts = sorted(self.successes.values()) or [0]
        at = lambda q: float(counts[min(len(counts) - 1, int(q * len(counts)))])  # noqa: E731
        share = lambda part, whole: part / whole if whole else 0.0  # noqa: E731
        found: dict[str, float] = {
            "rows": self.rows,
            "login.rows": self.logins,
            "login.success_share": share(self.good_right, self.good),
            "login.per_user_median": at(0.5),
            "login.per_user_p90": at(0.9),
            "login.per_user_p99": at(0.99),
            "login.per_user_mean": share(sum(counts), len(counts)),
            "login.once_share": share(sum(n == 1 for n in counts), len(counts)),
            "login.round_trip_share": share(self.round_trips, self.logins),
            "login.attack_address_share": share(self.flagged, self.logins),
            "login.mobile_share": share(self.devices["mobile"] + self.devices["tablet"], self.good_right),
            "takeover.count": self.takeovers,
            "takeover.without_history": share(self.takeovers_fresh, self.takeovers),
        }
        for name in ("address", "operator", "country", "agent_string", "device"):
            found[f"login.new_{name}"] = share(self.novel[name], self.returning)
        for prefix, counter in (
            ("kind", self.kinds),
            ("attack", self.attacks),
            ("network", self.networks),
            ("cohort", self.cohorts),
        ):
            found |= {f"{prefix}.{name}": n for name, n in sorted(counter.items())}
        found |= {f"campaigns.{name}": len(ids) for name, ids in sorted(self.campaigns.items())}
        found |= {f"country.{name}": share(n, self.good_right) for name, n in self.countries.most_common(5)}
        return found

    def _login(self, row: dict[str, str], attacker: str) -> None:
        right, user = row["Login Successful"] == "True", row["User ID"]
        self.logins += 1
        self.round_trips += bool(row.get("Round-Trip Time [ms]"))
        self.flagged += row.get("Is Attack IP") == "True"
        if attacker:
            if right:
                self.takeovers += 1
                self.takeovers_fresh += user not in self.known
            return
        self.good += 1
        if not right:
            return
        self.good_right += 1
        self.successes[user] += 1
        self.countries[row.get("Country", "")] += 1
        self.devices[row.get("Device Type", "")] += 1
        self.networks[row.get("Network Kind") or "unknown"] += 1
        for word in (row.get("Cohort") or "").split():
            self.cohorts[word] += 1
        shown = (
            row["IP Address"],
            row.get("ASN", ""),
            row.get("Country", ""),
            row["User Agent String"],
            row.get("Device ID", ""),
        )
        known = self.known.get(user)
        if known is None:
            self.known[user] = tuple({value} for value in shown)
            return
        self.returning += 1
        for name, value, before in zip(("address", "operator", "country", "agent_string", "device"), shown, known):
            if value not in before or (name == "device" and not value):
                self.novel[name] += 1
                before.add(value)


def describe(lines: Iterable[str]) -> Iterator[str]:
    """The report for CSV lines with a header."""
    description = Description()
    for row in csv.DictReader(lines):
        description.add(row)
    yield f"{'figure':34} {'here':>12}  published"
    for name, value in description.figures().items():
        shown = f"{value:12.3f}" if isinstance(value, float) and value != int(value) else f"{int(value):12}"
        yield f"{name:34} {shown}  {PUBLISHED.get(name, '')}".rstrip()
