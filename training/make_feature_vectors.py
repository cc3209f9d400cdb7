"""Writes tests/data/features/from-trainer.json: requests drawn at random with their features as the trainer computes them.

The gateway's tests compare its own features with these; the other direction is `from-gateway.json`. Every run gives the
same bytes; `--check` compares instead of writing.

    training/.venv/bin/python training/make_feature_vectors.py [--check]
"""

import argparse
import json
import sys

import numpy as np

import additive
import features_tokens

FILE = additive.ROOT / "tests" / "data" / "features" / "from-trainer.json"
HOUR = 3_600_000
START = 1_742_000_000_000
DAY = 24 * HOUR
ATTRIBUTES = ("address", "asn", "country", "agent", "platform", "language", "device", "tls")
LISTS = ("addresses", "asns", "countries", "agents", "platforms", "languages", "devices", "tls")
PLACES = [(59.91, 10.75), (60.1, 11.0), (48.85, 2.35), (40.71, -74.0), (-33.87, 151.2), (1.29, 103.85)]


class Drawn:
    """Random raw inputs that a gateway could have loaded."""

    def __init__(self, seed: int) -> None:
        self.chance = np.random.Generator(np.random.PCG64(seed))

    def one_in(self, n: int) -> bool:
        return bool(self.chance.integers(n) == 0)

    def below(self, n: int) -> int:
        return int(self.chance.integers(n))

    def number(self, scale: float) -> float:
        """A float that is the same in 32 bits."""
        return 0.0 if self.one_in(3) else float(np.float32(self.chance.exponential(scale)))

    def value(self, attribute: int, most: int = 6) -> int:
        return (attribute * 100 + self.below(most) + 1) << 32 | 5

    def place(self) -> dict | None:
        if self.one_in(5):
            return None
        latitude, longitude = PLACES[self.below(len(PLACES))]
        return {"latitude": float(np.float32(latitude)), "longitude": float(np.float32(longitude))}

    def seen(self) -> dict:
        return {name: None if self.one_in(9) else self.value(a) for a, name in enumerate(ATTRIBUTES)}

    def known(self, attribute: int, begun: int, now: int) -> list[dict]:
        found = []
        for n in sorted(self.chance.choice(6, self.below(6), replace=False)):
            first = begun + self.below(max(now - begun, 1))
            first = first // 600_000 * 600_000
            last = min(first + self.below(10 * DAY), now) // 600_000 * 600_000
            if self.one_in(4):
                first = begun // 600_000 * 600_000
            found.append({"value": (attribute * 100 + int(n) + 1) << 32, "count": 1 + self.below(30), "first": first, "last": max(first, last)})
        return found

    def profile(self, now: int) -> dict:
        begun = (now - HOUR - self.below(120 * DAY)) // 60_000 * 60_000
        last = (now - self.below(20 * DAY)) // 60_000 * 60_000
        return {
            "successes": self.below(60),
            "first": begun,
            "last": max(last, begun),
            "last_coordinates": self.place(),
            **{name: self.known(a, begun, now) for a, name in enumerate(LISTS)},
            "places": [{"coordinates": p, "count": 1, "last": begun} for p in (self.place() for _ in range(self.below(4))) if p],
            "hours": [self.below(9) if self.one_in(3) else 0 for _ in range(24)],
            "habit": {name: self.below(9) for name in ("cookie", "address", "agent", "asn", "tls")},
            "forgotten": now - self.below(40 * DAY) if self.one_in(4) else 0,
        }

    def ratio(self) -> dict:
        failures = self.number(6.0)
        return {"failures": failures, "attempts": float(np.float32(failures + self.number(40.0)))}

    def history(self) -> dict:
        return {
            "address": {n: self.number(12.0) for n in ("failures_10m", "failures_24h", "attempts_24h", "users_1h", "trusted_subjects")},
            "subject": {n: self.number(5.0) for n in ("failures_10m", "failures_24h", "addresses_24h")},
            "prefix_failures_1h": self.number(20.0),
            "asn": self.ratio(),
            "asn_24h": self.ratio(),
            "agent": self.ratio(),
            "agent_24h": self.ratio(),
            "tenant": self.ratio(),
            "client": None,
        }

    def short_values(self, attribute: int, now: int, most: int) -> list[dict]:
        found = []
        for n in self.chance.choice(6, self.below(most + 1), replace=False):
            first = (now - self.below(30 * DAY)) // 60_000
            last = first + self.below(max(now // 60_000 - first, 1))
            found.append({"value": attribute * 100 + int(n) + 1, "first": first, "last": last})
        return found

    def family(self, now: int) -> dict:
        origin = (now - HOUR - self.below(30 * DAY)) // 60_000 * 60_000
        last = now - self.below(12 * HOUR)
        return {
            "origin": {
                "at": origin,
                "agent": None if self.one_in(6) else self.value(3, 3) >> 32,
                "browser": None if self.one_in(6) else self.value(10, 2) >> 32,
                "tls": None if self.one_in(4) else self.value(7, 3) >> 32,
                "proof_key": self.value(11, 2) >> 32 if self.one_in(2) else None,
                "coordinates": self.place(),
            },
            "last": last,
            "uses": self.below(40),
            "gap": float(np.float32(self.chance.normal(8.0, 2.0))),
            "addresses": self.short_values(0, now, 4),
            "asns": self.short_values(1, now, 4),
            "countries": self.short_values(2, now, 4),
            "counted": last,
            "rate": self.number(2.0),
            "networks": self.short_values(1, now, 6),
        }

    def link(self, now: int) -> dict:
        at = now - 30_000 - self.below(20 * DAY)
        return {
            "decision_id": "00000000-0000-7000-8000-000000000000",
            "at": at,
            "tenant": 1 << 32,
            "client": None,
            "subject": None,
            "score": None,
            "reasons": [],
            "demanded": False,
            "demanded_at": 0,
            "barred": False,
            "approves": None,
            "factors": 3 if self.one_in(5) else 1,
            "demand_keys": [],
            "application": None,
            "confirmed": True,
            "issued_to": self.seen(),
            "coordinates": self.place(),
            "used_by": self.seen(),
            "used_from": self.place(),
            "evidence": self.below(50),
            "login_score": None if self.one_in(5) else self.below(101),
            "scopes": [500 + n for n in range(self.below(4))],
            "family": None if self.one_in(3) else self.family(now),
            "redeemed": {"at": now - self.below(9_000), "address": self.value(0) >> 32} if self.one_in(3) else None,
        }

    def client(self, now: int) -> dict:
        first = (now - HOUR - self.below(60 * DAY)) // 60_000 * 60_000
        rate = self.number(3.0)
        return {
            "requests": self.below(400),
            "first": first,
            "last": now - (self.below(600_000) if self.one_in(2) else self.below(2 * DAY)),
            "rate": rate,
            "mean": float(np.float32(0.4 * rate)),
            "mean_square": float(np.float32(0.7 * rate * rate)),
            "peak": self.highest(),
            "volume": float(np.float32(rate + self.number(9.0))),
            "volume_peak": self.highest(),
            "stretch": now - self.below(DAY),
            "scopes": self.known(12, first, now),
            "prefixes": self.known(9, first, now),
            "tls": self.known(7, first, now),
            "networks": [None if self.one_in(2) else first + self.below(3) * HOUR for _ in range(4)],
            "gap": float(np.float32(self.chance.normal(6.0, 2.0))),
            "weekdays": [self.below(40) for _ in range(24)],
            "weekends": [self.below(10) for _ in range(24)],
        }

    def highest(self) -> dict:
        return {"usual": self.number(5.0), "current": self.number(5.0)}

    def raw(self, kind: str) -> dict:
        now = START + self.below(300 * DAY)
        login = kind == "login"
        state = ("absent", "forged", "unsendable", "valid", "valid")[self.below(5)] if login else "absent"
        subjects = self.below(4) if state == "valid" else 0
        scripted = self.one_in(5)
        link = self.link(now) if kind == "token" and not self.one_in(6) else None
        raw = {
            "kind": kind,
            "now": now,
            "subject": "client" if kind == "m2m" else ("named", "named", "named", "client", "anonymous")[self.below(5)],
            "browser_door": login and not self.one_in(6),
            "scripted": scripted,
            "tls_contradicts": None if self.one_in(3) else not scripted and self.one_in(3),
            "parameters_hidden": self.one_in(5),
            "network_kind": (None, "residential", "residential", "vpn", "hosting", "tor")[self.below(6)],
            "coordinates": self.place(),
            "device": {"state": state, "names_subject": subjects > 0 and not self.one_in(3), "subjects": subjects, "issued": now - self.below(60 * DAY)},
            "seen": self.seen() | ({} if state == "valid" else {"device": None}),
            "prefix": self.value(9),
            "browser": self.value(10, 2),
            "grant": {
                "scopes": [self.value(12) if kind == "m2m" else (500 + n) << 32 for n in range(self.below(5))],
                "client_authenticates": kind == "m2m" or self.one_in(2),
                "proof_key": self.value(11, 2) if self.one_in(2) else None,
            },
            "history": None if self.one_in(8) else self.history(),
            "profile": None if self.one_in(3 if login else 6) else self.profile(now),
            "link": link,
            "population": {"total": 100 if self.one_in(4) else 9_000, "counts": {str(self.value(a)): 3 + self.below(4_000) for a in (1, 2, 3, 5, 7) for _ in range(6)}},
        }
        if kind == "m2m" and raw["history"] is not None and not self.one_in(6):
            raw["history"]["client"] = self.client(now)
        return raw


def content() -> bytes:
    """The whole file."""
    schema = additive.Schema.read()
    drawn = Drawn(20250304)
    lines = []
    for kind in ("login", "token", "m2m"):
        for n in range(40 if kind == "login" else 20):
            raw = drawn.raw(kind)
            row = features_tokens.vector(raw, schema)
            values = [None if np.isnan(v) else float(v) for v in row]
            lines.append(json.dumps({"name": f"{kind} {n}", "raw": raw, "features": values}, separators=(",", ":")))
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the file in place instead of writing it")
    check = parser.parse_args().check
    wanted = content()
    if FILE.exists() and FILE.read_bytes() == wanted:
        print("the feature vectors were up to date")
        return 0
    if check:
        print("run training/make_feature_vectors.py without --check", file=sys.stderr)
        return 1
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_bytes(wanted)
    print(f"written: {FILE.relative_to(additive.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
