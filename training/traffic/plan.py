"""The plan file: all rates of a run, read from TOML and checked. A key that is missing, unknown or out of range is an
error that names it; there are no hidden defaults."""

import tomllib
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

PLANS = Path(__file__).resolve().parent / "plans"

Range = tuple[float, float]


class Wrong(Exception):
    """The plan cannot be used; the message says which key and why."""


class Share(float):
    """A probability."""


@dataclass(frozen=True)
class Places:
    misplaced: Share
    listed_vpn: Share
    carrier_own_address: Share


@dataclass(frozen=True)
class People:
    once: Share
    monthly: Share
    weekly: Share
    often: Share
    daily: Share
    existing: Share
    second_factor: Share
    office: Share
    office_size: float
    carrier: Share
    abroad: Share
    traveller: Share
    trip_every_days: float
    trip_days: float
    vpn_user: Share
    cookie_blocker: Share
    cookie_life_days: float
    night_worker: Share
    family_computer: Share
    devices_extra: float
    device_life_days: float
    lease_days: float
    lease_sigma: float
    elsewhere: Share
    borrowed: Share
    typo: Share
    forgotten: Share
    abandoned: Share
    wrong_name: Share
    stale_password: Share
    dormant: Share
    update_lag_days: float


@dataclass(frozen=True)
class Apps:
    web: int
    single_page: int
    mobile: int
    code_lost: Share
    sso: float
    session_hours: float
    mobile_uses_per_day: float
    mobile_family_days: float
    token_hours: float
    again: Share
    retry: Share
    release_days: float


@dataclass(frozen=True)
class Services:
    per_1000_users: float
    requests_per_day: Range
    deploy_every_days: float
    failover_per_100_days: float
    rotation_per_100_days: float
    autoscaling: Share


@dataclass(frozen=True)
class Victims:
    rate: float
    history: Share


@dataclass(frozen=True)
class Takeover:
    logins_min: int
    failures_before: Share
    returns: Share
    same_operator: Share
    same_system: Share
    same_major: Share
    same_language: Share
    stolen_cookie: Share
    waking_hours: Share


@dataclass(frozen=True)
class Stuffing:
    campaigns: float
    addresses: Range
    attempts: Range
    unknown_names: Share
    hit: Share
    residential: Share
    scripted: Share
    disguised: Share
    hours: Range


@dataclass(frozen=True)
class Spraying:
    campaigns: float
    addresses: Range
    attempts: Range
    unknown_names: Share
    hit: Share
    hours: Range


@dataclass(frozen=True)
class BruteForce:
    campaigns: float
    addresses: Range
    attempts: Range
    hit: Share
    hours: Range


@dataclass(frozen=True)
class SessionTheft:
    rate: float
    same_agent: Share
    same_cookie: Share
    near: Share


@dataclass(frozen=True)
class CodeReplay:
    rate: float
    unredeemed: Share


@dataclass(frozen=True)
class TokenTheft:
    rate: float
    near: Share
    uses: float


@dataclass(frozen=True)
class SecretTheft:
    rate: float
    near: Share
    requests: Range


@dataclass(frozen=True)
class Requests:
    rate: float
    requests: Range


@dataclass(frozen=True)
class VolumeAbuse:
    rate: float
    factor: Range
    hours: Range


@dataclass(frozen=True)
class Attacks:
    first_day: float
    naive: Victims
    vpn: Victims
    targeted: Victims
    takeover: Takeover
    stuffing: Stuffing
    spraying: Spraying
    brute_force: BruteForce
    session_theft: SessionTheft
    code_replay: CodeReplay
    token_replay: TokenTheft
    refresh_theft: TokenTheft
    secret_theft: SecretTheft
    secret_guess: Requests
    scope_probe: Requests
    volume_abuse: VolumeAbuse


@dataclass(frozen=True)
class Plan:
    name: str
    places: Places
    people: People
    apps: Apps
    services: Services
    attacks: Attacks

    @staticmethod
    def read(name: str = "default") -> "Plan":
        """A plan by name (in `plans/`) or by path."""
        data = _load(name)
        if "extends" in data:
            base = _load(str(data.pop("extends")))
            if "extends" in base:
                raise Wrong(f"plan `{name}` extends one that extends another")
            data = _over(base, data)
        plan = _section(Plan, data, "")
        habits = plan.people
        total = habits.once + habits.monthly + habits.weekly + habits.often + habits.daily
        if abs(total - 1.0) > 1e-6:
            raise Wrong(f"`people.once` to `people.daily` add up to {total:.3f}, not 1")
        return plan


def _load(name: str) -> dict:
    path = PLANS / f"{name}.toml" if "/" not in name and "." not in name else Path(name)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Wrong(f"plan `{name}` cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Wrong(f"plan `{name}`: {error}") from error


def _over(base: dict, changes: dict) -> dict:
    """`base` with the changes of a plan that extends it."""
    both = dict(base)
    for key, value in changes.items():
        known = both.get(key)
        both[key] = _over(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return both


def _section(kind: type, data: object, path: str):
    if not isinstance(data, dict):
        raise Wrong(f"`{path}` is not a table")
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    for key in data:
        if key not in names:
            raise Wrong(f"unknown key `{path}{key}`")
    for name in names:
        if name not in data:
            raise Wrong(f"key `{path}{name}` is missing")
    return kind(**{name: _value(hints[name], data[name], f"{path}{name}") for name in names})


def _value(kind: type, raw: object, path: str):
    if is_dataclass(kind):
        return _section(kind, raw, f"{path}.")
    if kind is str:
        if not isinstance(raw, str):
            raise Wrong(f"`{path}` is not text")
        return raw
    if kind == Range:
        if not (isinstance(raw, list) and len(raw) == 2):
            raise Wrong(f"`{path}` is not a pair of numbers")
        low, high = (_value(float, part, path) for part in raw)
        if not 0.0 < low <= high:
            raise Wrong(f"`{path}` is no range of positive numbers")
        return (low, high)
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise Wrong(f"`{path}` is not a number")
    if kind is int and not isinstance(raw, int):
        raise Wrong(f"`{path}` is not a whole number")
    if not 0.0 <= raw <= (1.0 if kind is Share else 1e9):
        raise Wrong(f"`{path}` is out of range")
    return int(raw) if kind is int else float(raw)
