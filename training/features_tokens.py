"""Features of token requests and of service accounts, by the definitions of `src/domain/features/derive/`."""

import numpy as np

import additive
import features
from features import F
from features import HOUR_MS
from features import NEWNESS_AGE_MS
from features import Raw
from features import aged
from features import as_seconds
from features import known
from features import log_count
from features import since_ms

DAY_MS = 24 * HOUR_MS
MINUTE_MS = 60_000
FACTOR_STRONG = 2
RATE_MS, VOLUME_MS, HABIT_MS = 5 * MINUTE_MS, HOUR_MS, 2 * DAY_MS
PEAK_MS, STRETCH_MS = 7 * DAY_MS, DAY_MS // 2


def short(value: int | None) -> int | None:
    """The part of a hash that a token family keeps."""
    return None if value is None else value >> 32


def decayed(value: float, gap_ms: int, half_life_ms: int) -> np.float32:
    """A count that halves every `half_life_ms`."""
    return max(F(value), F(0.0)) * np.exp2(-(as_seconds(gap_ms) / as_seconds(half_life_ms)))


def log_gap(start: int, end: int) -> np.float32:
    """The log of the seconds between two moments, one second at least."""
    return np.log(max(as_seconds(since_ms(end, start)), F(1.0)))


def first_use(values: list[Raw], value: int) -> int | None:
    """When a family first used `value`."""
    found = next((entry for entry in values if entry["value"] == short(value)), None)
    return None if found is None else found["first"] * MINUTE_MS


def weight(evidence: int) -> np.float32:
    return np.log1p(F(evidence)) / F(5.0)


def token(raw: Raw) -> dict[str, float]:
    """The features of a request that presents a code or a token."""
    link, seen, history = raw["link"], raw["seen"], raw["history"]
    family = link["family"] if link else None
    confidential = raw["grant"]["client_authenticates"]
    if family:
        at_home = seen["asn"] is not None and first_use(family["asns"], seen["asn"]) is not None
    else:
        at_home = confidential
    row = features.network_kind(raw, at_home) | features.rarity(raw, ("asn", "country"))
    if history is not None:
        row |= features.sources(history) | features.address_trust(history)
    row["token_public_client"] = float(not confidential)
    if link is None:
        return row
    row |= against_login(raw)
    if family:
        row |= against_family(raw)
    elif confidential:
        return row
    else:
        row |= against_issue(raw)
    profile = raw["profile"]
    if profile is not None and profile["successes"] > 0:
        for name, values, otherwise in (("asn", "asns", "many"), ("country", "countries", "few")):
            if seen[name] is not None and profile[values]:
                share = features.share_of(raw["population"], seen[name])
                row[f"llr_{name}"] = features.likelihood_ratio(profile, profile[values], seen[name], share, otherwise)
    return row


def against_login(raw: Raw) -> dict[str, float]:
    """What the login says under which the code or token was given."""
    link, redeemed = raw["link"], raw["link"]["redeemed"]
    replayed = False
    if redeemed is not None:
        same = redeemed["address"] is not None and short(raw["seen"]["address"]) == redeemed["address"]
        replayed = not (same and since_ms(raw["now"], redeemed["at"]) <= 5_000)
    row = {"token_reuse": float(replayed)}
    # Who has passed a stronger factor has answered for the risk of the login.
    if link["login_score"] is not None and not link["factors"] & FACTOR_STRONG:
        row["token_login_risk"] = F(link["login_score"]) / F(100.0)
    if link["scopes"]:
        row["token_scope_widening"] = float(sum(short(scope) not in link["scopes"] for scope in raw["grant"]["scopes"]))
    return row


def against_family(raw: Raw) -> dict[str, float]:
    """What the family's first request and the uses learnt since say."""
    row: dict[str, float] = {}
    link, seen, now = raw["link"], raw["seen"], raw["now"]
    family, origin = link["family"], link["family"]["origin"]
    evidence = weight(link["evidence"] + family["uses"])
    for name, values in (("address", "addresses"), ("asn", "asns"), ("country", "countries")):
        if seen[name] is not None and family[values]:
            first = first_use(family[values], seen[name])
            row[f"token_{name}_new"] = aged(first, origin["at"], now, NEWNESS_AGE_MS) * evidence
    if seen["asn"] is not None and family["asns"]:
        latest = max(entry["last"] for entry in family["asns"])
        used = next((entry for entry in family["asns"] if entry["value"] == short(seen["asn"])), None)
        row["token_asn_change"] = float(used is None or used["last"] != latest)
    if origin["agent"] is not None and seen["agent"] is not None:
        if origin["agent"] == short(seen["agent"]):
            row["token_agent_change"] = 0.0
        else:
            row["token_agent_change"] = 0.3 if origin["browser"] == short(raw["browser"]) else 1.0
    if origin["tls"] is not None and seen["tls"] is not None:
        row["token_tls_change"] = float(origin["tls"] != short(seen["tls"]))
    here = features.place(raw)
    if here is not None:
        if origin["coordinates"] is not None:
            row["token_issue_km"] = np.log1p(features.distance_km(origin["coordinates"], here))
        travelled = features.speed(link["used_from"] or origin["coordinates"], family["last"], here, now)
        if travelled is not None:
            row["geo_speed"] = travelled
    if family["uses"] > 2:
        row["token_gap_ratio"] = F(family["gap"]) - log_gap(family["last"], now)
    row["token_rate_10m"] = log_count(decayed(family["rate"], since_ms(now, family["counted"]), 10 * MINUTE_MS))
    lately = {e["value"] for e in family["networks"] if since_ms(now, e["last"] * MINUTE_MS) < DAY_MS}
    others = lately - {short(seen["asn"])}
    row["token_asns_24h"] = log_count(min(len(others) + (seen["asn"] is not None), 6))
    if origin["proof_key"] is None:
        row["token_key_binding"] = 0.5
    else:
        row["token_key_binding"] = float(origin["proof_key"] != short(raw["grant"]["proof_key"]))
    return row


def against_issue(raw: Raw) -> dict[str, float]:
    """What the request says to which a code was issued."""
    row: dict[str, float] = {}
    link, seen = raw["link"], raw["seen"]
    issued, evidence = link["issued_to"], weight(link["evidence"])
    for name in ("address", "asn", "country"):
        if seen[name] is not None and issued[name] is not None:
            row[f"token_{name}_new"] = float(seen[name] != issued[name]) * evidence
    if seen["asn"] is not None and issued["asn"] is not None:
        row["token_asn_change"] = float(seen["asn"] != issued["asn"])
    here = features.place(raw)
    if here is not None and link["coordinates"] is not None:
        row["token_issue_km"] = np.log1p(features.distance_km(link["coordinates"], here))
        travelled = features.speed(link["coordinates"], link["at"], here, raw["now"])
        if travelled is not None:
            row["geo_speed"] = travelled
    return row


def m2m(raw: Raw) -> dict[str, float]:
    """The features of a service account that asks for itself."""
    seen, profile, history, now = raw["seen"], raw["profile"], raw["history"], raw["now"]
    at_home = profile is None or known(profile["asns"], seen["asn"]) is not None
    row = features.network_kind(raw, at_home) | features.rarity(raw, ("asn", "country"))
    if history is None:
        return row
    row |= features.sources(history) | features.subject_failures(history)
    client = history["client"]
    if client is None or not (
        client["requests"] >= 5 or (client["requests"] > 0 and since_ms(now, client["first"]) >= DAY_MS)
    ):
        return row
    evidence = np.log1p(F(client["requests"])) / F(7.0)

    def judge(feature: str, values: list[Raw], value: int | None, began: int) -> None:
        if value is not None and values:
            entry = known(values, value)
            row[feature] = aged(entry["first"] if entry else None, began, now, 12 * HOUR_MS) * evidence

    judge("m2m_prefix_new", client["prefixes"], raw["prefix"], client["first"])
    judge("m2m_tls_new", client["tls"], seen["tls"], client["first"])
    if profile is not None:
        for name, values in (("address", "addresses"), ("asn", "asns"), ("country", "countries"), ("agent", "agents")):
            judge(f"m2m_{name}_new", profile[values], seen[name], profile["first"])
    if raw["network_kind"] is not None and any(since is not None for since in client["networks"]):
        since = client["networks"][list(features.NETWORK_KIND).index(raw["network_kind"])]
        row["m2m_network_kind_new"] = aged(since, client["first"], now, 12 * HOUR_MS) * evidence

    fresh, surprise = F(0.0), F(0.0)
    for scope in raw["grant"]["scopes"]:
        entry = known(client["scopes"], scope)
        fresh += aged(entry["first"] if entry else None, client["first"], now, 12 * HOUR_MS)
        share = (F(entry["count"] if entry else 0) + F(0.5)) / (F(client["requests"]) + F(1.0))
        surprise = max(surprise, -np.log(share))
    row["m2m_scopes_new"], row["m2m_scope_surprise"] = fresh, surprise

    gap = since_ms(now, client["last"])
    rate, volume = decayed(client["rate"], gap, RATE_MS), decayed(client["volume"], gap, VOLUME_MS)
    mean = over_gap(client["mean"], F(client["rate"]), RATE_MS, gap)
    square = over_gap(client["mean_square"], F(client["rate"]) ** 2, RATE_MS // 2, gap)
    spread = np.sqrt(max(square - mean**2, F(0.0)))
    row["m2m_rate_z"] = np.log1p(max((rate - mean) / max(spread, F(1.0)), F(0.0)))
    for name, value, highest in (("rate", rate, client["peak"]), ("volume", volume, client["volume_peak"])):
        usual = usual_highest(highest, since_ms(now, client["stretch"]))
        if usual > 0.0:
            row[f"m2m_{name}_ratio"] = np.log((value + F(1.0)) / (usual + F(1.0)))
    row["m2m_gap_short"] = max(F(client["gap"]) - log_gap(client["last"], now), F(0.0))
    # The epoch was a Thursday.
    hours = client["weekends"] if (now // DAY_MS + 3) % 7 >= 5 else client["weekdays"]
    row["m2m_hour_surprise"] = features.hour_surprise(hours, now // HOUR_MS % 24)
    return row


def usual_highest(highest: Raw, age_ms: int) -> np.float32:
    """The highest value of the stretches before the present one, which began `age_ms` ago and counts once it is over."""
    before = decayed(highest["usual"], age_ms, PEAK_MS)
    return max(before, F(highest["current"])) if age_ms >= STRETCH_MS else before


def over_gap(mean: float, value: np.float32, half_life_ms: int, gap_ms: int) -> np.float32:
    """The running mean of something that stood at `value` at the last request and has halved since."""
    if gap_ms == 0:
        return F(mean)
    lives = as_seconds(gap_ms) / as_seconds(half_life_ms)
    average = value * (F(1.0) - np.exp2(-lives)) / (lives * F(np.log(2.0)))
    kept = decayed(1.0, gap_ms, HABIT_MS)
    return F(mean) * kept + average * (F(1.0) - kept)


DERIVE = {"login": features.login, "token": token, "m2m": m2m}


def vector(raw: Raw, schema: additive.Schema) -> np.ndarray:
    """The row of any kind of request, in the schema's order and ranges; NaN where a value is missing."""
    row = DERIVE[raw["kind"]](raw)
    unknown = set(row) - set(schema.names)
    if unknown:
        raise ValueError(f"the schema has no {sorted(unknown)}")
    values = np.array([row.get(name, np.nan) for name in schema.names], np.float32)
    low, high = np.array(schema.clip, np.float32).T
    return np.where(np.isfinite(values), np.clip(values, low, high), np.float32(np.nan))
