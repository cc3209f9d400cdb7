"""Good users: where they are, what they use, when they log in, and how they get it wrong."""

from dataclasses import dataclass, field

from .addresses import MOBILE, RESIDENTIAL, Address, City, Operator
from .agents import BY_DEVICE, COMPUTER, PHONE, TABLET, Agent, Updating
from .chance import Chance, Weighted, number, signed
from .event import DAY_MS, HOUR_MS, LOGIN, Event

LOGINS_PER_DAY = {"monthly": 0.035, "weekly": 0.14, "often": 0.4, "daily": 1.1}
WEEKEND = 0.25
"""Logins on a day of the weekend, of those on a working day."""
NEW_LOGINS = 5
"""Logins after which an account is no longer called new."""
DORMANT_DAYS = 60
ROUND_TRIP_KNOWN = 0.041
"""Share of events with a round-trip time in the RBA data set."""


class Home:
    """A household's connection; the operator gives it another address from time to time."""

    __slots__ = ("operator", "city", "lease_days", "address", "next_at")

    def __init__(self, chance: Chance, operator: Operator, city: City, lease_days: float) -> None:
        self.operator = operator
        self.city = city
        self.lease_days = lease_days
        self.address = operator.address(chance, city)
        self.next_at = int(chance.exponential(lease_days) * DAY_MS)

    def now(self, chance: Chance, now: int) -> Address:
        """Its address at that time."""
        if now >= self.next_at:
            self.address = self.operator.address(chance, self.city)
            self.next_at = now + int(chance.exponential(self.lease_days) * DAY_MS)
        return self.address


class Device:
    """A browser on a machine, with its cookie jar."""

    __slots__ = ("kind", "browser", "jar", "jar_until", "language", "shared", "at_work", "app_lag_days")

    def __init__(self, kind: str, browser: Updating, language: str, app_lag_days: float) -> None:
        self.kind = kind
        self.browser = browser
        self.language = language
        self.jar = ""
        self.jar_until = -1
        self.shared = False
        self.at_work = False
        self.app_lag_days = app_lag_days


@dataclass(eq=False, slots=True)
class Trip:
    """Days spent elsewhere."""

    start: int
    end: int
    wifi: Address
    carrier: Address
    city: City


@dataclass(eq=False, slots=True)
class User:
    """A person with an account."""

    id: str
    habit: str
    factor: bool
    home: Home
    carrier: Operator | None
    office: list[Address] | None
    vpn: tuple[Operator, str] | None
    blocker: bool
    offset_hours: int
    hours: list[tuple[float, float]]
    devices: list[Device]
    trip_every_days: float
    existing: bool
    tag: str
    trip: Trip | None = None
    next_trip: int = 1 << 60
    replace_at: int = 1 << 60
    logins: int = 0
    last_login: int = -1
    last_device: Device | None = None
    last_address: Address | None = None
    apps: dict = field(default_factory=dict)


class People:
    """All users of a run and what they do. Draws from a stream of its own."""

    def __init__(self, world, chance: Chance, count: int, cold_start: bool) -> None:
        self.world = world
        self.plan = world.plan.people
        self.chance = chance
        self.seen: list[User] = []
        self.users: list[User] = []
        self.cold_start = cold_start
        self._habit = Weighted(
            ["once", "monthly", "weekly", "often", "daily"],
            [self.plan.once, self.plan.monthly, self.plan.weekly, self.plan.often, self.plan.daily],
        )
        self._offices: dict[City, list[Address]] = {}
        self._foreign = Weighted(*zip(*((cc, w) for cc, w in _neighbours(world.addresses.home).items())))
        shared: tuple[Home, Device] | None = None
        for n in range(count):
            user = self._user(n, shared)
            # The next one or two share the household's computer.
            if shared is None and chance.happens(self.plan.family_computer * 0.6):
                user.devices[0].shared = True
                shared = (user.home, user.devices[0])
            elif shared is not None and chance.happens(0.6):
                shared = None
            self.users.append(user)

    def begin(self, simulation) -> None:
        """Puts everybody's first acts on the agenda."""
        chance, days = self.chance, simulation.days
        for user in self.users:
            born = 0.0 if user.existing or self.cold_start else chance.random() * days
            if user.habit == "once":
                simulation.at(self._hour(user, int(chance.random() * days)), self._visit(user))
            else:
                simulation.at(self._next(user, int((born + chance.random() * 0.5) * DAY_MS)), self._visit(user))
            user.next_trip = int((born + chance.exponential(user.trip_every_days)) * DAY_MS)
            user.replace_at = int((born + chance.exponential(self.plan.device_life_days)) * DAY_MS)
            if user.habit != "once" and chance.happens(self.plan.stale_password * days / 100):
                simulation.at(int((born + (days - born) * chance.random()) * DAY_MS), self._stale(user))

    def place(self, user: User, device: Device, now: int) -> tuple[Address, str]:
        """Where the device speaks from, and the words for it."""
        chance, plan = self.chance, self.plan
        trip = self._trip(user, now)
        if trip is not None:
            if device.kind != COMPUTER and chance.happens(0.5):
                address, words = trip.carrier, " traveller mobile"
            else:
                address, words = trip.wifi, " traveller"
        elif user.office and self._at_work(user, now) and (device.at_work or chance.happens(0.6)):
            address, words = chance.choice(user.office), " shared_address"
        elif device.kind == PHONE and user.carrier and chance.happens(0.42):
            address = self.world.addresses.carrier_address(chance, user.carrier, user.home.city)
            words = " mobile"
        elif chance.happens(plan.elsewhere):
            city = user.home.city
            address, words = self.world.addresses.somewhere(chance, city.country, RESIDENTIAL, city), ""
        else:
            address, words = user.home.now(chance, now), ""
        if user.vpn and chance.happens(0.7):
            address, words = self.world.addresses.vpn_exit(chance, *user.vpn), " vpn"
        return address, words

    def jar(self, user: User, device: Device, now: int) -> str:
        """The cookie jar's id; another one after it was emptied, none for those who keep no cookies."""
        if user.blocker:
            return ""
        if now >= device.jar_until:
            device.jar = self.chance.hex(16)
            device.jar_until = now + int(self.chance.exponential(self.plan.cookie_life_days) * DAY_MS)
        return device.jar

    def hour_of(self, chance: Chance, user: User, day: int) -> int:
        """A moment of that day at which this user may log in."""
        return self._hour(user, day, chance)

    def round_trip(self, chance: Chance) -> str:
        """A round-trip time where one was measured."""
        return str(int(chance.log_normal(90, 0.8))) if chance.happens(ROUND_TRIP_KNOWN) else ""

    # A login and what is around it.

    def _visit(self, user: User):
        def act(simulation, now: int) -> None:
            chance, plan = self.chance, self.plan
            if now >= user.replace_at:
                self._replace(user, now)
            device = self._device(user, now)
            borrowed = chance.happens(plan.borrowed)
            if borrowed:
                device = self._new_device(user.home.city.country, COMPUTER, now)
            address, words = self.place(user, device, now)
            at = self._failures(simulation, user, device, address, words, now)
            if at is None:
                if user.habit != "once":
                    simulation.at(self._next(user, now), act)
                return
            self._succeed(simulation, user, device, address, words, at, borrowed)
            if user.habit != "once":
                if chance.happens(plan.dormant / max(1.0, 100 * LOGINS_PER_DAY[user.habit])):
                    now += int((DORMANT_DAYS + chance.exponential(20)) * DAY_MS)
                simulation.at(self._next(user, now), act)

        return act

    def _failures(self, simulation, user: User, device: Device, address: Address, words: str, now: int) -> int | None:
        """What goes wrong first; the time of the right password, or nothing when there is none."""
        chance, plan = self.chance, self.plan
        draw, at = chance.random(), now
        if draw < plan.typo:
            wrong = 1 + (chance.random() < 0.25) + (chance.random() < 0.1)
        elif draw < plan.typo + plan.forgotten:
            wrong = 3 + int(4 * chance.random())
        elif draw < plan.typo + plan.forgotten + plan.abandoned:
            wrong = 2 + int(4 * chance.random())
        elif draw < plan.typo + plan.forgotten + plan.abandoned + plan.wrong_name:
            misspelt = str(signed(number(simulation.seed, "misspelt", chance.getrandbits(32))))
            self._attempt(simulation, user, device, address, words, at, name=misspelt)
            return at + 4000 + int(chance.exponential(9000))
        else:
            return at
        for _ in range(wrong):
            self._attempt(simulation, user, device, address, words, at)
            at += 2500 + int(chance.exponential(12_000))
        if draw < plan.typo:
            return at
        # The mail with the link takes its time.
        return at + int(chance.log_normal(240_000, 0.8)) if draw < plan.typo + plan.forgotten else None

    def _attempt(self, simulation, user: User, device: Device, address: Address, words: str, at: int, name: str = "") -> None:
        client = self.world.apps.client_for(user, device)
        simulation.emit(
            Event(
                at,
                LOGIN,
                name or user.id,
                address,
                device.browser.agent(self.world.agents, self.chance, at),
                succeeded=False,
                client=client.id,
                confidential=client.confidential,
                device=self.jar(user, device, at),
                language=device.language,
                factor=user.factor,
                cohort=self._cohort(user, words, at),
                round_trip=self.round_trip(self.chance),
            )
        )

    def _succeed(self, simulation, user: User, device: Device, address: Address, words: str, at: int, borrowed: bool) -> None:
        agent = device.browser.agent(self.world.agents, self.chance, at)
        client = self.world.apps.client_for(user, device)
        family = self.world.apps.chance.hex(16)
        jar = self.jar(user, device, at)
        simulation.emit(
            Event(
                at,
                LOGIN,
                user.id,
                address,
                agent,
                client=client.id,
                confidential=client.confidential,
                device=jar,
                language=device.language,
                family=family,
                factor=user.factor,
                cohort=self._cohort(user, words, at),
                round_trip=self.round_trip(self.chance),
            )
        )
        if user.logins == 0:
            self.seen.append(user)
        user.logins += 1
        user.last_login, user.last_address = at, address
        if not borrowed:
            user.last_device = device
        self.world.apps.after_login(simulation, user, device, address, agent, client, family, jar, words, at)

    def _stale(self, user: User):
        """A client that was forgotten when the password changed tries the old one for days."""
        chance = self.chance
        every = chance.log_uniform(0.15, 2.0) * HOUR_MS
        left = 20 + int(chance.exponential(60))
        as_app = chance.happens(0.5)
        device = chance.choice(user.devices)

        def act(simulation, now: int) -> None:
            nonlocal left
            address, words = self.place(user, device, now)
            agent = (
                self.world.apps.app_agent(user, device, now) if as_app else device.browser.agent(self.world.agents, chance, now)
            )
            client = self.world.apps.client_for(user, device)
            simulation.emit(
                Event(
                    now,
                    LOGIN,
                    user.id,
                    address,
                    agent,
                    succeeded=False,
                    client=client.id,
                    confidential=client.confidential,
                    device="" if as_app else self.jar(user, device, now),
                    language=device.language,
                    factor=user.factor,
                    cohort=self._cohort(user, words + " stale_password", now),
                    round_trip=self.round_trip(chance),
                )
            )
            left -= 1
            if left > 0:
                simulation.at(now + int(every * (0.8 + 0.4 * chance.random())), act)

        return act

    def _cohort(self, user: User, words: str, now: int) -> str:
        text = user.tag + words
        if user.logins < NEW_LOGINS and (self.cold_start or not user.existing or user.habit == "once"):
            text += " new"
        if user.logins and now - user.last_login > DORMANT_DAYS * DAY_MS:
            text += " dormant"
        return text[1:]

    # When.

    def _next(self, user: User, after: int) -> int:
        """The next visit: some days later by habit, at an hour of theirs; the same day now and then."""
        chance = self.chance
        rate = LOGINS_PER_DAY[user.habit]
        if rate > 0.3 and chance.happens(0.22 * rate):
            return after + int(HOUR_MS * (0.3 + 6 * chance.random()))
        day = after // DAY_MS
        while True:
            ahead = 1 + int(chance.exponential(1.0 / rate)) if rate < 0.3 else 1
            day += ahead
            expected = 1.0 if rate < 0.3 else min(0.95, rate * 0.8)
            if (day + self.world.weekday) % 7 >= 5:
                expected *= WEEKEND if user.habit == "daily" else 0.6
            if chance.happens(expected):
                at = self._hour(user, day)
                # East of Greenwich a local day begins before that of the run: its small hours may be over already.
                if at > after:
                    return at

    def _hour(self, user: User, day: int, chance: Chance | None = None) -> int:
        """A moment of that day, at one of the user's hours."""
        chance = chance or self.chance
        mean, spread = user.hours[0] if chance.happens(0.65) else user.hours[1]
        local = chance.gauss(mean, spread) % 24
        return max(0, int((day * 24 + local - user.offset_hours) * HOUR_MS))

    def _at_work(self, user: User, now: int) -> bool:
        hour = (now / HOUR_MS + user.offset_hours) % 24
        return (now // DAY_MS + self.world.weekday) % 7 < 5 and 7.5 <= hour < 17.5

    # Where.

    def _trip(self, user: User, now: int) -> Trip | None:
        trip = user.trip
        if trip is not None:
            if now < trip.end:
                return trip
            user.trip = None
            user.next_trip = trip.end + int(self.chance.exponential(user.trip_every_days) * DAY_MS)
        if now < user.next_trip:
            return None
        chance, plan = self.chance, self.world.addresses
        days = 1 + chance.exponential(self.plan.trip_days)
        start = user.next_trip
        if start + days * DAY_MS < now:
            # That trip went by without a login.
            user.next_trip = now + int(chance.exponential(user.trip_every_days) * DAY_MS)
            return None
        country = user.home.city.country if chance.happens(0.45) else self._foreign.pick(chance)
        city = chance.choice(plan.cities[country])
        # Roaming data leaves the home carrier's network at home, except where a local card was bought.
        if user.carrier and chance.happens(0.7):
            carrier = plan.carrier_address(chance, user.carrier, user.home.city)
        else:
            carrier = plan.somewhere(chance, country, MOBILE, city)
        wifi = plan.somewhere(chance, country, RESIDENTIAL, city)
        user.trip = Trip(start, start + int(days * DAY_MS), wifi, carrier, city)
        return user.trip

    # With what.

    def _device(self, user: User, now: int) -> Device:
        chance = self.chance
        if len(user.devices) == 1:
            return user.devices[0]
        if user.office and self._at_work(user, now):
            for device in user.devices:
                if device.at_work and chance.happens(0.8):
                    return device
        return user.devices[0] if chance.happens(0.6) else chance.choice(user.devices)

    def _replace(self, user: User, now: int) -> None:
        """A new machine instead of an old one, mostly of the same make."""
        index = self.chance.randrange(len(user.devices))
        old = user.devices[index]
        new = self._new_device(user.home.city.country, old.kind, now)
        if self.chance.happens(0.7):
            new.browser = Updating(self.chance, old.browser.family, now, self._lag())
        new.language, new.at_work = old.language, old.at_work
        user.devices[index] = new
        user.replace_at = now + int(self.chance.exponential(self.plan.device_life_days) * DAY_MS)

    def _new_device(self, country: str, kind: str, now: int, language: str = "") -> Device:
        browser = Updating(self.chance, BY_DEVICE[kind].pick(self.chance), now, self._lag())
        return Device(kind, browser, language or self.world.addresses.language(self.chance, country), self.chance.exponential(4.0))

    def _lag(self) -> float:
        return self.plan.update_lag_days * (12.0 if self.chance.happens(1 / 12) else 1.0)

    def _user(self, n: int, shared: tuple[Home, Device] | None) -> User:
        chance, plan, places = self.chance, self.plan, self.world.addresses
        country = self._foreign.pick(chance) if chance.happens(plan.abroad) else places.home
        if shared:
            home, country = shared[0], shared[0].city.country
        else:
            city = chance.choice(places.cities[country])
            lease = min(400.0, max(0.9, chance.log_normal(plan.lease_days, plan.lease_sigma)))
            home = Home(chance, places.operator(chance, country, RESIDENTIAL), city, lease)
        office = self._office(home.city) if chance.happens(plan.office) else None
        language = places.language(chance, country)
        devices = [shared[1] if shared else self._new_device(country, COMPUTER if chance.happens(0.5) else PHONE, 0, language)]
        if office:
            devices.append(self._new_device(country, COMPUTER, 0, language))
            devices[-1].at_work = True
        for _ in range(min(3, chance.poisson(plan.devices_extra))):
            kind = PHONE if devices[0].kind == COMPUTER else COMPUTER
            kind = TABLET if chance.happens(0.12) else kind
            devices.append(self._new_device(country, kind, 0, language if chance.happens(0.9) else ""))
        vpn = None
        if chance.happens(plan.vpn_user):
            vpn = (chance.choice(places.vpns), home.city.country if chance.happens(0.6) else self._foreign.pick(chance))
        night = chance.happens(plan.night_worker)
        hours = [(23.5, 2.5), (4.0, 1.5)] if night else [(chance.gauss(9.5, 1.5), 1.7), (chance.gauss(19.5, 1.5), 1.8)]
        blocker, traveller = chance.happens(plan.cookie_blocker), chance.happens(plan.traveller)
        tag = (" cookie_blocking" if blocker else "") + (" night" if night else "") + (" shared_device" if shared else "")
        return User(
            id=str(signed(number(self.world.seed, "user", n))),
            habit=self._habit.pick(chance),
            factor=chance.happens(plan.second_factor),
            home=home,
            carrier=places.operator(chance, country, MOBILE) if chance.happens(plan.carrier) else None,
            office=office,
            vpn=vpn,
            blocker=blocker,
            offset_hours=places.offset(country),
            hours=hours,
            devices=devices,
            trip_every_days=plan.trip_every_days if traveller else 3000.0,
            existing=chance.happens(plan.existing),
            tag=tag,
        )

    def _office(self, city: City) -> list[Address]:
        """The addresses of an office of that city; a new office opens when the last one is full."""
        chance = self.chance
        found = self._offices.get(city)
        if found is None or chance.happens(1.0 / max(1.0, self.plan.office_size)):
            operator = self.world.addresses.operator(chance, city.country, RESIDENTIAL)
            found = [operator.address(chance, city) for _ in range(1 + int(3 * chance.random()))]
            self._offices[city] = found
        return found


def browser_of(world, chance: Chance, user: User, now: int) -> tuple[Device, Agent]:
    """The device that an onlooker of this user would know, and what it sends now."""
    device = user.last_device or chance.choice(user.devices)
    return device, world.agents.browser(device.browser.family, device.browser.release)


def _neighbours(home: str) -> dict[str, float]:
    """Where people of that country go: Europe mostly, the world now and then."""
    near = ("NO", "SE", "DK", "FI", "DE", "NL", "BE", "FR", "GB", "IE", "ES", "IT", "PL")
    far = {"US": 2.0, "CA": 0.5, "TR": 1.0, "RO": 0.6, "IN": 0.5, "JP": 0.4, "SG": 0.3, "AU": 0.3, "BR": 0.3, "CN": 0.3, "UA": 0.3}
    return {cc: 2.0 for cc in near if cc != home} | far
