"""The fingerprint audit: can a small classifier tell simulated events apart by things that no attacker chooses?

Each group holds features of form only (digits of the time, shapes of ids, spelling of user agents, ...). Events of two
sources are compared group by group with a forest of shallow trees, out of fold, with all events of one user in one fold.
An area under the ROC curve near 0.5 means that the group shows nothing; from `LIMIT` on the simulator leaks.

What is behaviour is left out on purpose: whether there is a cookie jar at all, which network, hour or language it is.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from random import Random
from typing import Callable, Iterable

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

LIMIT = 0.6
LEGIT_LIKE = ("targeted", "session_theft", "token_replay", "refresh_theft", "secret_theft")
"""Kinds of attackers that imitate good users; the others are meant to look different."""
PER_USER_MAX = 5
"""Events taken per user and source, so that busy users do not speak for all."""
FOLDS = 4
ROWS_MIN, USERS_MIN = 100, 40
"""With fewer the area says more about chance than about the source."""
ROWS_MAX = 1500
"""Per source: enough for a standard error of 0.01."""
TREES = 30
LABELS = {"Attacker Kind", "Campaign", "Cohort", "Variant", "Second Factor", "Is Attack IP", "Is Account Takeover"}
BEHAVIOUR = {"Device ID", "Family ID", "Login Successful", "Language", "Token ID", "Scopes"}

Row = dict[str, str]


@dataclass(frozen=True)
class Group:
    """Features of form; `where` says for which rows they have a meaning."""

    name: str
    features: Callable[[Row, "Context"], list[float]]
    where: Callable[[Row], bool] = lambda row: True
    once: str = ""
    """A column of which each value counts once per source, because many share it."""


class Context:
    """What the rows say together: how often agents and fingerprints come in pairs, and where each /20 is."""

    def __init__(self, rows: Iterable[Row], reference: Iterable[Row]) -> None:
        self.pairs: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.places: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for row in reference:
            self.pairs[_pair(row)].add(_who(row))
        for row in rows:
            self.places[_pool(row)][_where(row)] += 1

    def others_with_pair(self, row: Row) -> int:
        """How many others send this pair of agent and fingerprint, three at most."""
        found = self.pairs.get(_pair(row), set())
        return min(3, len(found) - (_who(row) in found))

    def in_place(self, row: Row) -> bool:
        """Whether the address is where its neighbours are."""
        return self.places[_pool(row)].most_common(1)[0][0] == _where(row)


def separability(first: list[Row], second: list[Row], group: Group, reference: list[Row] | None = None, seed: int = 1) -> float | None:
    """Area under the ROC curve of telling `first` from `second` by the group; nothing when there are too few rows. Pairs of
    agent and fingerprint are looked for in `reference` (else in both)."""
    context = Context(first + second, first + second if reference is None else reference)
    chosen = [(row, 1) for row in _taken(first, group)] + [(row, 0) for row in _taken(second, group)]
    labels = np.array([label for _, label in chosen])
    users = np.array([_who(row) for row, _ in chosen])
    few = any((labels == side).sum() < ROWS_MIN or len(set(users[labels == side])) < USERS_MIN for side in (0, 1))
    if few:
        return None
    values = np.array([group.features(row, context) for row, _ in chosen], np.float64)
    scores = np.zeros(len(labels))
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(values, labels, users):
        model = RandomForestClassifier(TREES, max_depth=4, min_samples_leaf=8, class_weight="balanced", random_state=seed)
        scores[test] = model.fit(values[train], labels[train]).predict_proba(values[test])[:, 1]
    return float(roc_auc_score(labels, scores))


def imitators(rows: list[Row], kind: str, seed: int = 1) -> tuple[list[Row], list[Row]]:
    """The attackers' events of that kind, and good events of the same sort by the same users."""
    bad = [row for row in rows if row["Attacker Kind"] == kind]
    # An application looks different from another one without anybody leaking: compare within it.
    sort_of = lambda row: (_who(row), row["Event Kind"], row["Client ID"] if row["Token ID"] else "")  # noqa: E731
    sorts = {sort_of(row) for row in bad}
    good = [row for row in rows if not row["Attacker Kind"] and sort_of(row) in sorts]
    return _few(bad, seed), _few(good, seed)


def good_people(rows: list[Row], kind: str = "login", seed: int = 1) -> list[Row]:
    """Good events of that sort, some per user."""
    return _few([row for row in rows if not row["Attacker Kind"] and row["Event Kind"] == kind], seed)


def report(rows: list[Row], others: list[Row] | None = None) -> Iterable[str]:
    """One line per comparison and group; `LEAK` where the limit is reached."""
    if others is None:
        pairs = [(kind, *imitators(rows, kind)) for kind in LEGIT_LIKE]
    else:
        pairs = [(f"good {kind}", good_people(rows, kind), good_people(others, kind)) for kind in ("login", "refresh", "client_credentials")]
    for name, first, second in pairs:
        for group in GROUPS:
            auc = separability(first, second, group, second if others is None else None)
            shown = "too few" if auc is None else f"{auc:7.3f}" + ("  LEAK" if auc >= LIMIT else "")
            yield f"{name:22} {group.name:10} {len(first):6} {len(second):6} {shown}"


def _index(row: Row, context: Context) -> list[float]:
    index = int(row["index"])
    return [index % 2, index % 3, index % 5, index % 10]


def _time(row: Row, context: Context) -> list[float]:
    seconds, ms = row["Login Timestamp"][17:].split(".")
    return [int(ms), int(ms) % 10, int(ms) % 100, int(ms) % 2, int(seconds), len(row["Login Timestamp"])]


def _ids(row: Row, context: Context) -> list[float]:
    # Applications are few: the text of their ids would name them.
    return [*_shape(row["User ID"]), len(row["Client ID"]), re.fullmatch(r"\w*", row["Client ID"]) is not None]


def _device(row: Row, context: Context) -> list[float]:
    return _shape(row["Device ID"])


def _family(row: Row, context: Context) -> list[float]:
    return _shape(row["Family ID"])


def _agent(row: Row, context: Context) -> list[float]:
    text, browser = row["User Agent String"], row["Browser Name and Version"]
    version = browser.split(" ")[-1]
    return [
        len(text), text.count(" "), text.count("  "), text.count(";"), text.count("("), text.count(")"), text.count("/"),
        text != text.strip(), not text.isascii(), sum(c.isupper() for c in text), sum(c.isdigit() for c in text),
        version in text, len(browser), browser.count(" "), len(row["OS Name and Version"]), len(row["Device Type"]),
    ]  # fmt: skip


def _tls(row: Row, context: Context) -> list[float]:
    parts = row["TLS Fingerprint"].split("_")
    head = parts[0]
    return [
        len(parts), *(len(part) for part in (parts + ["", "", ""])[:3]), head[:3] == "t13", *(ord(c) for c in head[3:10].ljust(7)),
        row["TLS Fingerprint"].islower(), context.others_with_pair(row),
    ]  # fmt: skip


def _language(row: Row, context: Context) -> list[float]:
    text = row["Language"]
    return [len(text), text.count("-"), sum(c.isupper() for c in text), text.count("_"), text != text.strip(), re.fullmatch(r"[a-z]{2}(-[A-Z]{2})?", text) is not None]


def _place(row: Row, context: Context) -> list[float]:
    octets = [int(part) for part in row["IP Address"].split(".")] if "." in row["IP Address"] else [0, 0, 0, 0]
    decimals = [len(row[name].partition(".")[2]) for name in ("Latitude", "Longitude")]
    return [octets[3], octets[3] % 2, octets[3] % 16, octets[2] % 16, *decimals, len(row["ASN"]), bool(row["Region"]), bool(row["City"]), context.in_place(row)]


def _token(row: Row, context: Context) -> list[float]:
    scopes = row["Scopes"].split(" ")
    return [*_shape(row["Token ID"]), row["Scopes"].count("  "), len(set(scopes)) == len(scopes), row["Scopes"] != row["Scopes"].strip()]


def _form(row: Row, context: Context) -> list[float]:
    empty = [row[name] == "" for name in sorted(set(row) - LABELS - BEHAVIOUR)]
    return [*empty, len(row["Round-Trip Time [ms]"]), row["Confidential"] == "True", row["Tenant"] == "carbon.super"]


GROUPS = (
    Group("index", _index),
    Group("time", _time),
    Group("ids", _ids),
    Group("device", _device, lambda row: row["Device ID"] != ""),
    Group("family", _family, lambda row: row["Family ID"] != ""),
    Group("agent", _agent),
    Group("tls", _tls),
    Group("language", _language, lambda row: row["Language"] != ""),
    Group("place", _place, once="IP Address"),
    Group("token", _token, lambda row: row["Token ID"] != "" or row["Scopes"] != ""),
    Group("form", _form),
)


def _shape(text: str) -> list[float]:
    return [
        len(text), sum(c.isdigit() for c in text), sum(c.isupper() for c in text), sum(c.islower() for c in text), text[:1] == "-",
        re.fullmatch("[0-9a-f]*", text) is not None, ord(text[-1]) if text else 0, ord(text.lstrip("-")[0]) if text.lstrip("-") else 0,
    ]  # fmt: skip


def _taken(rows: list[Row], group: Group) -> list[Row]:
    taken = [row for row in rows if group.where(row)]
    return list({row[group.once]: row for row in taken}.values()) if group.once else taken


def _who(row: Row) -> str:
    return row["User ID"] or row["Client ID"]


def _pair(row: Row) -> tuple[str, str]:
    return row["User Agent String"], row["TLS Fingerprint"]


def _pool(row: Row) -> tuple[str, str]:
    head, _, rest = row["IP Address"].rpartition(".")
    first, _, third = head.rpartition(".")
    return first, str(int(third) // 16) if third.isdigit() else rest


def _where(row: Row) -> str:
    return "/".join(row[name] for name in ("Country", "Region", "City", "ASN", "Network Kind", "Latitude", "Longitude"))


def _few(rows: list[Row], seed: int) -> list[Row]:
    by_user: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_user[_who(row)].append(row)
    random, found = Random(seed), []
    for mine in by_user.values():
        found += mine if len(mine) <= PER_USER_MAX else random.sample(mine, PER_USER_MAX)
    return found if len(found) <= ROWS_MAX else random.sample(found, ROWS_MAX)
