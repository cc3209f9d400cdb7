"""One event, and the CSV that the replay and the trainer read.

The first sixteen columns are spelt as in the public RBA data set (Wiefling et al. 2022); the rest are ours and optional
for a reader. Writing is by plain string formatting because it is half of the work; no field but the User-Agent string
can hold a comma.
"""

import heapq
from datetime import datetime, timedelta, timezone
from typing import Iterable, Iterator, TextIO

RBA_COLUMNS = (
    "index",
    "Login Timestamp",
    "User ID",
    "Round-Trip Time [ms]",
    "IP Address",
    "Country",
    "Region",
    "City",
    "ASN",
    "User Agent String",
    "Browser Name and Version",
    "OS Name and Version",
    "Device Type",
    "Login Successful",
    "Is Attack IP",
    "Is Account Takeover",
)
COLUMNS = (
    *RBA_COLUMNS,
    "Event Kind",
    "Client ID",
    "Tenant",
    "Scopes",
    "Confidential",
    "Device ID",
    "TLS Fingerprint",
    "Language",
    "Family ID",
    "Token ID",
    "Network Kind",
    "Latitude",
    "Longitude",
    "Second Factor",
    "Attacker Kind",
    "Campaign",
    "Cohort",
    "Variant",
)
TENANT = "carbon.super"

LOGIN, SSO, CODE, REFRESH, M2M = "login", "sso", "code", "refresh", "client_credentials"

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LINES_BUFFERED = 512


class Event:
    """What one request showed, who really sent it, and how it ended."""

    __slots__ = (
        "at",
        "kind",
        "user",
        "address",
        "agent",
        "succeeded",
        "client",
        "scopes",
        "confidential",
        "device",
        "language",
        "family",
        "token",
        "factor",
        "attacker",
        "campaign",
        "cohort",
        "round_trip",
        "variant",
    )

    def __init__(
        self,
        at: int,
        kind: str,
        user: str,
        address,
        agent,
        succeeded: bool = True,
        client: str = "",
        scopes: str = "",
        confidential: bool = False,
        device: str = "",
        language: str = "",
        family: str = "",
        token: str = "",
        factor: bool = False,
        attacker: str = "",
        campaign: str = "",
        cohort: str = "",
        round_trip: str = "",
        variant: str = "",
    ) -> None:
        self.at = at
        self.kind = kind
        self.user = user
        self.address = address
        self.agent = agent
        self.succeeded = succeeded
        self.client = client
        self.scopes = scopes
        self.confidential = confidential
        self.device = device
        self.language = language
        self.family = family
        self.token = token
        self.factor = factor
        self.attacker = attacker
        self.campaign = campaign
        self.cohort = cohort
        self.round_trip = round_trip
        self.variant = variant


class Rows:
    """Events as CSV lines. `start` is the date of millisecond 0."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.day = -1
        self.date = ""

    def lines(self, events: Iterable[Event]) -> Iterator[str]:
        """Each event's line, with its line end."""
        for index, event in enumerate(events):
            yield self.line(index, event)

    def line(self, index: int, e: Event) -> str:
        """One event."""
        address, agent = e.address, e.agent
        pool = address.pool
        takeover = e.attacker != "" and e.kind == LOGIN and e.succeeded
        return (
            f"{index},{self.timestamp(e.at)},{e.user},{e.round_trip},{address.ip},{pool.where},{agent.columns},"
            f"{e.succeeded},{address.flagged},{takeover},"
            f"{e.kind},{e.client},{TENANT},{e.scopes},{e.confidential if e.client else ''},{e.device},{agent.ja4},"
            f"{e.language},{e.family},{e.token},{pool.listing},{e.factor},{e.attacker},{e.campaign},{e.cohort},{e.variant}\n"
        )

    def timestamp(self, at: int) -> str:
        """`YYYY-MM-DD HH:MM:SS.mmm` of a millisecond of the run."""
        day, rest = divmod(at, DAY_MS)
        if day != self.day:
            self.day = day
            self.date = (self.start + timedelta(days=day)).strftime("%Y-%m-%d")
        seconds, ms = divmod(rest, 1000)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        return f"{self.date} {hour:02}:{minute:02}:{second:02}.{ms:03}"


class Ordered:
    """Events that were made ahead of time, given out in time order; holds only what lies ahead of the simulated now."""

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, Event]] = []
        self.sequence = 0
        self.given = 0

    def add(self, event: Event) -> None:
        """Takes an event of now or later: what lies before has been given out."""
        if event.at < self.given:
            raise ValueError(f"an event at {event.at} ms is made after those up to {self.given} ms were given out")
        self.sequence += 1
        heapq.heappush(self.heap, (event.at, self.sequence, event))

    def until(self, now: int) -> Iterator[Event]:
        """What lies before `now`, in order."""
        heap, self.given = self.heap, max(self.given, now)
        while heap and heap[0][0] < now:
            yield heapq.heappop(heap)[2]


def write(events: Iterable[Event], start: datetime, out: TextIO) -> int:
    """Writes header and events; returns how many."""
    out.write(",".join(COLUMNS) + "\n")
    count, buffer = 0, []
    for line in Rows(start).lines(events):
        buffer.append(line)
        count += 1
        if len(buffer) == LINES_BUFFERED:
            out.write("".join(buffer))
            buffer.clear()
    out.write("".join(buffer))
    return count


def date(text: str) -> datetime:
    """A day, as UTC."""
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc)
