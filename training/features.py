"""The features by the same definitions as the gateway's `src/domain/features`, from the same raw inputs.

For whoever prepares rows without the gateway (from an audit log's signals, or in a notebook), and as a second opinion:
two implementations that agree on golden vectors in both directions define the features better than one. Arithmetic is in
float32 and in the gateway's order, so that the two agree within 1e-6. The raw inputs are described in
docs/how-to/train-a-model.md; `None` is a missing value.
"""

from typing import Any

import numpy as np

import additive

F = np.float32
HOUR_MS = 3_600_000
NEWNESS_AGE_MS = 6 * HOUR_MS
PROBATION_MS = 30 * 24 * HOUR_MS
NETWORK_KIND = {"residential": 0.0, "vpn": 1.0, "hosting": 2.0, "tor": 3.0}
# What a value's share among all logins is taken to be while the population is too small to say.
SHARE = {"address": 1e-4, "many": 0.02, "few": 0.2}

Raw = dict[str, Any]
# What weighs on its own for a name without a confirmed login.
NEWCOMER = {
    "asn": "asn_rarity",
    "country": "country_rarity",
    "language": "language_rarity",
    "tls": "tls_rarity",
    "agent_failures": "agent_failure_ratio_24h",
}


def kept(value: int) -> int:
    """The part of a value's hash that a profile keeps: its first 32 bits."""
    return value & 0xFFFF_FFFF_0000_0000


def known(values: list[Raw], value: int | None) -> Raw | None:
    """What a profile knows of `value`."""
    if value is None:
        return None
    return next((entry for entry in values if entry["value"] == kept(value)), None)


def since_ms(later: int, earlier: int) -> int:
    """Milliseconds from `earlier` to `later`; 0 for a clock that went backwards."""
    return max(later - earlier, 0)


def as_seconds(ms: int) -> np.float32:
    """A span in seconds, rounded as the gateway does."""
    return F(ms / 1000.0)


def share_of(population: Raw, value: int | None) -> np.float32 | None:
    """The share of `value` among all confirmed logins; `None` while too little is known to say."""
    if value is None or population["total"] < 200:
        return None
    count = population["counts"].get(str(value), 0)
    return F((count + 1.0) / (population["total"] + 1.0))


def log_count(count: float) -> np.float32:
    return np.log1p(max(F(count), F(0.0)))


def ratio(counts: Raw, prior: float) -> np.float32:
    """(failures + prior / 10) / (attempts + prior)."""
    failures = max(F(counts["failures"]), F(0.0))
    return (failures + F(0.1) * F(prior)) / (max(F(counts["attempts"]), failures) + F(prior))


def distance_km(a: Raw, b: Raw) -> np.float32:
    """Great-circle distance by the haversine formula."""
    one, two = np.radians(F(a["latitude"])), np.radians(F(b["latitude"]))
    half_lat = (two - one) / F(2.0)
    half_lon = np.radians(F(b["longitude"]) - F(a["longitude"])) / F(2.0)
    h = np.sin(half_lat) ** 2 + np.cos(one) * np.cos(two) * np.sin(half_lon) ** 2
    return F(2.0) * F(6371.0) * np.arcsin(np.sqrt(np.clip(h, F(0.0), F(1.0))))


def place(raw: Raw) -> Raw | None:
    """Where the request comes from; the place of a VPN, a data centre or a Tor exit says nothing."""
    return raw["coordinates"] if raw["network_kind"] in (None, "residential") else None


def speed(start: Raw | None, left: int, here: Raw, now: int) -> np.float32 | None:
    """log(1 + km/h) from where the subject was at `left`; 0 for distances that databases cannot tell."""
    if start is None:
        return None
    km = distance_km(start, here)
    if km <= 100.0:
        return F(0.0)
    if now < left:
        return None
    hours = max(as_seconds(now - left) / F(3600.0), F(1.0) / F(60.0))
    return np.log1p(km / hours)


def likelihood_ratio(profile: Raw, values: list[Raw], value: int, share: np.float32 | None, otherwise: str) -> np.float32:
    """log p(x) / p(x | subject), smoothed by one pseudo-login from the population."""
    everywhere = np.clip(share if share is not None else F(SHARE[otherwise]), F(1e-6), F(1.0))
    entry = known(values, value)
    local = (F(entry["count"] if entry else 0) + everywhere) / (F(profile["successes"]) + F(1.0))
    return np.log(everywhere / local)


def aged(first: int | None, began: int, now: int, age_ms: int) -> np.float32:
    """1 for a value never seen, falling with its age; 0 for what the account or family began with."""
    if first is None:
        return F(1.0)
    if first <= began:
        return F(0.0)
    return np.exp(-(as_seconds(since_ms(now, first)) / as_seconds(age_ms)))


def newness(profile: Raw, entry: Raw | None, now: int) -> np.float32:
    """The same for a value of a profile."""
    return aged(None if entry is None else entry["first"], profile["first"], now, NEWNESS_AGE_MS)


def surprise(is_new: bool, times_new: int, successes: int) -> np.float32:
    """Minus log of the subject's own rate of this novelty."""
    if not is_new or successes == 0:
        return F(0.0)
    rate = (F(times_new) + F(0.5)) / (F(successes) + F(1.0))
    return -np.log(min(rate, F(1.0)))


def hour_surprise(hours: list[int], hour: int) -> np.float32:
    """Minus log of the smoothed share of logins around this hour."""
    near = (F(hours[hour]) + F(0.5) * F(hours[(hour + 1) % 24]) + F(0.5) * F(hours[(hour + 23) % 24])) / F(2.0)
    return -np.log((near + F(6.0) / F(24.0)) / (F(sum(hours)) + F(6.0)))


def standing(raw: Raw) -> str:
    """How the device cookie stands to the subject: `known`, `none` or `foreign`."""
    device, profile = raw["device"], raw["profile"]
    if device["state"] in ("absent", "unsendable"):
        return "none"
    if device["state"] == "forged":
        return "foreign"
    if raw["subject"] == "anonymous":
        return "none"
    if profile is not None and known(profile["devices"], raw["seen"]["device"]) is not None:
        return "known"
    if device["names_subject"]:
        forgotten = profile is not None and device["issued"] < profile["forgotten"]
        return "none" if forgotten else "known"
    return "none" if device["subjects"] == 0 else "foreign"


def probation(raw: Raw) -> np.float32:
    """How much a known device lacks of an old one: a quarter at first, nothing after thirty days."""
    device, profile = raw["device"], raw["profile"]
    if device["state"] != "valid":
        return F(0.0)
    entry = known(profile["devices"], raw["seen"]["device"]) if profile is not None else None
    if entry is not None and entry["first"] <= profile["first"]:
        return F(0.0)
    began = entry["first"] if entry is not None else device["issued"]
    age = as_seconds(since_ms(raw["now"], began)) / as_seconds(PROBATION_MS)
    return F(0.25) * max(F(1.0) - age, F(0.0))


def from_request(raw: Raw, device: str) -> dict[str, float]:
    """What needs no history."""
    row: dict[str, float] = {}
    profile, seen = raw["profile"], raw["seen"]
    if device == "known":
        row["device_cookie"] = probation(raw)
    elif device == "foreign":
        row["device_cookie"] = 1.0
    elif raw["browser_door"] and raw["subject"] != "anonymous":
        row["device_cookie"] = 0.5
    at_home = raw["subject"] == "client" and (profile is None or known(profile["asns"], seen["asn"]) is not None)
    row |= network_kind(raw, at_home)
    row["scripted_agent"] = float(raw["browser_door"] and raw["scripted"])
    if raw["tls_contradicts"] is not None and raw["browser_door"]:
        row["tls_mismatch"] = float(raw["tls_contradicts"])
    row["parameters_hidden"] = float(raw["parameters_hidden"])
    return row | rarity(raw, ("asn", "country", "agent", "language", "tls"))


def network_kind(raw: Raw, at_home: bool) -> dict[str, float]:
    """The kind of network; a data centre counts as home where `at_home` says that it is."""
    kind = raw["network_kind"]
    if kind is None:
        return {}
    return {"network_kind": 0.0 if kind == "hosting" and at_home else NETWORK_KIND[kind]}


def rarity(raw: Raw, names: tuple[str, ...]) -> dict[str, float]:
    """How few of all confirmed logins show what this request shows."""
    shares = {name: share_of(raw["population"], raw["seen"][name]) for name in names}
    return {f"{name}_rarity": -np.log(share) for name, share in shares.items() if share is not None}


def sources(history: Raw) -> dict[str, float]:
    """What is counted of the sources of every kind of request."""
    address = history["address"]
    return {
        "address_failures_10m": log_count(address["failures_10m"]),
        "address_failures_24h": log_count(address["failures_24h"]),
        "prefix_failures_1h": log_count(history["prefix_failures_1h"]),
        "address_users_1h": log_count(address["users_1h"]),
        "asn_failure_ratio": ratio(history["asn"], 20.0),
        "tenant_failure_ratio": ratio(history["tenant"], 20.0),
    }


def address_trust(history: Raw) -> dict[str, float]:
    return {"address_trust": log_count(history["address"]["trusted_subjects"])}


def subject_failures(history: Raw) -> dict[str, float]:
    subject = history["subject"]
    return {
        "user_failures_10m": log_count(subject["failures_10m"]),
        "user_failures_24h": log_count(subject["failures_24h"]),
    }


def from_counters(history: Raw, named: bool) -> dict[str, float]:
    """What the counters say of a login."""
    address = history["address"]
    counts = {"failures": address["failures_24h"], "attempts": address["attempts_24h"]}
    row = sources(history) | address_trust(history)
    row["address_failure_ratio"] = ratio(counts, 3.0)
    row["agent_failure_ratio"] = ratio(history["agent"], 20.0)
    row["agent_failure_ratio_24h"] = ratio(history["agent_24h"], 20.0)
    row["asn_failure_ratio_24h"] = ratio(history["asn_24h"], 20.0)
    if named:
        row |= subject_failures(history)
        row["user_addresses_24h"] = log_count(history["subject"]["addresses_24h"])
    return row


def from_profile(raw: Raw, device: str) -> dict[str, float]:
    """What the subject's own past says."""
    row: dict[str, float] = {}
    profile, seen, now = raw["profile"], raw["seen"], raw["now"]
    for feature, attribute, values, otherwise in (
        ("llr_address", "address", "addresses", "address"),
        ("llr_asn", "asn", "asns", "many"),
        ("llr_country", "country", "countries", "few"),
        ("llr_agent", "agent", "agents", "many"),
        ("llr_platform", "platform", "platforms", "few"),
        ("llr_language", "language", "languages", "few"),
        ("llr_tls", "tls", "tls", "many"),
    ):
        if seen[attribute] is not None and profile[values]:
            share = share_of(raw["population"], seen[attribute]) if attribute in ("asn", "country", "agent") else None
            row[feature] = likelihood_ratio(profile, profile[values], seen[attribute], share, otherwise)

    habit, successes = profile["habit"], profile["successes"]
    missing = raw["browser_door"] and device != "known" and raw["device"]["state"] != "unsendable"
    row["surprise_cookie"] = surprise(missing, habit["cookie"], successes)
    for name, values in (("address", "addresses"), ("agent", "agents"), ("asn", "asns")):
        is_new = seen[name] is not None and known(profile[values], seen[name]) is None
        row[f"surprise_{name}"] = surprise(is_new, habit[name], successes)

    def new(name: str, values: str) -> np.float32 | None:
        return None if seen[name] is None else newness(profile, known(profile[values], seen[name]), now)

    if seen["tls"] is not None and profile["tls"]:
        is_new = known(profile["tls"], seen["tls"]) is None
        row["surprise_tls"] = surprise(is_new, habit["tls"], successes)
    agent, platform = new("agent", "agents") or F(0.0), new("platform", "platforms") or F(0.0)
    address, asn = new("address", "addresses") or F(0.0), new("asn", "asns")
    device_novelty = F(0.0) if device == "known" else max(agent, platform)
    row["novelty_combined"] = min(device_novelty, min(address if asn is None else asn, address))

    if seen["country"] is not None:
        entry = known(profile["countries"], seen["country"])
        ten_minutes = profile["last"] // 600_000 * 600_000
        elsewhere = entry is None or entry["last"] < ten_minutes
        hours = as_seconds(since_ms(now, profile["last"])) / F(3600.0)
        fresh = newness(profile, entry, now)
        row["country_concurrent"] = fresh * np.exp(-hours / F(6.0)) if elsewhere else 0.0
    here = place(raw)
    if here is not None:
        if profile["places"]:
            row["geo_km"] = np.log1p(min(distance_km(known_place["coordinates"], here) for known_place in profile["places"]))
        travelled = speed(profile["last_coordinates"], profile["last"], here, now)
        if travelled is not None:
            row["geo_speed"] = travelled
    if raw["subject"] != "anonymous":
        if any(profile["hours"]):
            row["hour_surprise"] = hour_surprise(profile["hours"], now // HOUR_MS % 24)
        row["user_history"] = log_count(successes)
        row["user_gap_hours"] = np.log1p(as_seconds(since_ms(now, profile["last"])) / F(3600.0))
    return row


def login(raw: Raw) -> dict[str, float]:
    """The features of a login that are present, not yet clipped."""
    device = standing(raw)
    row = from_request(raw, device)
    if raw["history"] is not None:
        row |= from_counters(raw["history"], raw["subject"] != "anonymous")
    if raw["profile"] is not None and raw["profile"]["successes"] > 0:
        row |= from_profile(raw, device)
    elif raw["history"] is not None and raw["subject"] != "anonymous":
        row["user_history"] = 0.0
        for name, of in NEWCOMER.items():
            if of in row:
                row[f"newcomer_{name}"] = row[of]
    return row


