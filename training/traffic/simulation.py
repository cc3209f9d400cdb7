"""The run: one agenda of acts in time, events out in time order.

Memory holds the state of people, services and live tokens and what lies a little ahead of now; it does not grow with the
number of events.
"""

import heapq
from datetime import datetime
from typing import Callable, Iterator

from .addresses import AddressPlan
from .agents import Agents
from .apps import Apps
from .attackers import PasswordAttackers
from .chance import stream
from .event import DAY_MS, Event, Ordered, date
from .people import People
from .plan import Plan
from .services import Services
from .thieves import Thieves

START = "2026-01-05"
"""Day 0 unless another is asked for: a Monday."""

Act = Callable[["Simulation", int], None]


class World:
    """Everything that acts, and what it acts upon."""

    def __init__(self, plan: Plan, seed: int, users: int, cold_start: bool, weekday: int) -> None:
        self.plan = plan
        self.seed = seed
        self.weekday = weekday
        self.addresses = AddressPlan(seed, stream(seed, "addresses"), plan.places)
        self.agents = Agents(seed)
        self.attack_chance = stream(seed, "attack", "form")
        self.apps = Apps(self, stream(seed, "apps"))
        self.people = People(self, stream(seed, "people"), users, cold_start)
        self.services = Services(self, stream(seed, "services"), max(1, round(users / 1000 * plan.services.per_1000_users)))
        self.attackers = PasswordAttackers(self)
        self.thieves = Thieves(self)

    def attack_hex(self, wanted: bool) -> str:
        """The id of a session that an attacker's login began."""
        return self.attack_chance.hex(16) if wanted else ""


class Simulation:
    """One run. `events` can be taken once."""

    def __init__(
        self,
        plan: Plan,
        seed: int,
        users: int = 5000,
        days: int = 110,
        cold_start: bool = False,
        start: str = START,
    ) -> None:
        self.seed = seed
        self.days = days
        self.start: datetime = date(start)
        self.world = World(plan, seed, users, cold_start, self.start.weekday())
        self.now = 0
        self._agenda: list[tuple[int, int, Act]] = []
        self._sequence = 0
        self._ahead = Ordered()
        self.emit = self._ahead.add
        for part in (self.world.people, self.world.services, self.world.attackers, self.world.thieves):
            part.begin(self)

    def at(self, when: int, act: Act) -> None:
        """Puts an act on the agenda; what lies beyond the end is dropped at once. Nobody acts in the past."""
        if when < self.now:
            raise ValueError(f"an act at {when} ms is put on the agenda at {self.now} ms")
        if when < self.days * DAY_MS:
            self._sequence += 1
            heapq.heappush(self._agenda, (when, self._sequence, act))

    def events(self) -> Iterator[Event]:
        """All events in time order."""
        agenda, end = self._agenda, self.days * DAY_MS
        while agenda:
            now, _, act = heapq.heappop(agenda)
            yield from self._ahead.until(now)
            self.now = now
            act(self, now)
        yield from self._ahead.until(end)
