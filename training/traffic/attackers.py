"""Those who know or guess passwords: naive, VPN and targeted take-overs, credential stuffing, spraying, brute force.

Each incident has an infrastructure of its own. What an attacker copies from the victim is drawn by the plan; whatever is
not copied is drawn from the same distributions as for good users, so that attackers differ by what they know and not
by the form of their events.
"""

from .addresses import HOSTING, MOBILE, RESIDENTIAL, VPN, Address
from .agents import BY_DEVICE, COMPUTER, FAMILIES, PHONE, Agent, Updating, newest
from .chance import Chance, number, signed, stream
from .event import DAY_MS, HOUR_MS, LOGIN, Event
from .people import User, browser_of

VICTIMS_TRIED = 50
"""Draws before an attacker finds nobody with enough history."""
SCRIPTS = (("python-requests/2.{}.3", "python", 26, 8), ("Go-http-client/1.1", "go", 0, 1), ("curl/8.{}.0", "curl", 2, 12), ("axios/1.{}.4", "node", 4, 8))
DISGUISES = ("python", "go", "curl", "node")

Means = tuple[Address, Agent, str, str, str]
"""What an attacker of one account speaks with: address, agent, language, cookie jar, and the word for it."""


class PasswordAttackers:
    """All attackers at the login page. Each kind draws from a stream of its own."""

    def __init__(self, world) -> None:
        self.world = world
        self.plan = world.plan.attacks
        self.incidents = 0

    def begin(self, simulation) -> None:
        """Puts the incidents of the whole run on the agenda."""
        size = len(self.world.people.users) / 1000 * (simulation.days - self.plan.first_day) / 100
        for kind, victims, act in (
            ("naive", self.plan.naive, self._naive),
            ("vpn", self.plan.vpn, self._vpn),
            ("targeted", self.plan.targeted, self._targeted),
        ):
            self._schedule(simulation, kind, victims.rate * size, self._takeover(kind, victims.history, act))
        for kind, campaigns, act in (
            ("stuffing", self.plan.stuffing.campaigns, self._stuffing),
            ("spraying", self.plan.spraying.campaigns, self._spraying),
            ("brute_force", self.plan.brute_force.campaigns, self._brute_force),
        ):
            self._schedule(simulation, kind, campaigns * size, act)

    def _schedule(self, simulation, kind: str, mean: float, act) -> None:
        chance = stream(self.world.seed, "attack", kind)
        first = self.plan.first_day
        for _ in range(chance.poisson(mean)):
            at = int((first + (simulation.days - first) * chance.random()) * DAY_MS)
            simulation.at(at, lambda simulation, now: act(simulation, chance, now))

    def campaign(self) -> str:
        """Id of one incident."""
        self.incidents += 1
        return f"c{number(self.world.seed, 'campaign', self.incidents):016x}"

    # One victim, one password that is known.

    def _takeover(self, kind: str, history: float, equip):
        def act(simulation, chance: Chance, now: int) -> None:
            user = self.victim(chance, history)
            if user is None:
                return
            address, agent, language, jar, variant = equip(chance, user, now)
            plan, campaign = self.plan.takeover, self.campaign()
            if kind == "targeted" and chance.happens(plan.waking_hours):
                now = max(now, self.world.people.hour_of(chance, user, now // DAY_MS + 1))
            at = now
            if chance.happens(plan.failures_before):
                for _ in range(1 + int(4 * chance.random())):
                    self._emit(simulation, at, user, user.id, address, agent, language, jar, kind, campaign, False, variant)
                    at += 2500 + int(chance.exponential(15_000))
            self._emit(simulation, at, user, user.id, address, agent, language, jar, kind, campaign, True, variant)
            while chance.happens(plan.returns):
                at += int((0.5 + chance.exponential(48)) * HOUR_MS)
                self._emit(simulation, at, user, user.id, address, agent, language, jar, kind, campaign, True, variant)

        return act

    def _naive(self, chance: Chance, user: User, now: int) -> Means:
        """Speaks from anywhere with anything."""
        places = self.world.addresses
        country = places.attack_countries.pick(chance)
        draw = chance.random()
        if draw < 0.05:
            address = places.tor_exit(chance)
        else:
            kind = RESIDENTIAL if draw < 0.55 else MOBILE if draw < 0.65 else HOSTING
            address = places.somewhere(chance, country, kind)
        address.flagged = address.flagged or chance.happens(0.3)
        return address, self.browser(chance, now), places.language(chance, country), self._jar(chance), address.pool.operator.kind

    def _vpn(self, chance: Chance, user: User, now: int) -> Means:
        """Speaks from the victim's country."""
        places, country = self.world.addresses, user.home.city.country
        if chance.happens(0.75):
            address = places.vpn_exit(chance, chance.choice(places.vpns), country)
        else:
            address = places.somewhere(chance, country, HOSTING)
        language = places.language(chance, country if chance.happens(0.4) else places.attack_countries.pick(chance))
        return address, self.browser(chance, now), language, self._jar(chance), address.pool.operator.kind

    def _targeted(self, chance: Chance, user: User, now: int) -> Means:
        """Knows the victim's city, browser and language, and some have the device cookie."""
        plan, places = self.plan.takeover, self.world.addresses
        city = user.home.city
        if chance.happens(plan.same_operator):
            address, variant = user.home.operator.address(chance, city), "own_operator"
        elif chance.happens(0.5):
            address, variant = places.somewhere(chance, city.country, MOBILE, city), "carrier"
        else:
            address, variant = places.somewhere(chance, city.country, RESIDENTIAL, city), "same_city"
        device, agent = browser_of(self.world, chance, user, now)
        if not chance.happens(plan.same_major):
            family = device.browser.family
            if not chance.happens(plan.same_system):
                family = chance.choice([f for f in FAMILIES if f.name == family.name] or [family])
            agent = Updating(chance, family, now, 6.0).agent(self.world.agents, chance, now)
        language = device.language if chance.happens(plan.same_language) else places.language(chance, city.country)
        if chance.happens(plan.stolen_cookie) and not user.blocker and device.jar:
            return address, agent, language, device.jar, "cookie"
        return address, agent, language, self._jar(chance), variant

    # Many names or many passwords.

    def _stuffing(self, simulation, chance: Chance, now: int) -> None:
        plan = self.plan.stuffing
        residential = chance.happens(plan.residential)
        addresses = self._infrastructure(chance, int(chance.log_uniform(*plan.addresses)), residential)
        agents = self._tools(chance, now, plan.scripted, plan.disguised)
        attempts = int(chance.log_uniform(*plan.attempts))
        span = chance.log_uniform(*plan.hours) * HOUR_MS
        self._campaign(simulation, chance, now, "stuffing", attempts, span, addresses, agents, plan.unknown_names, plan.hit)

    def _spraying(self, simulation, chance: Chance, now: int) -> None:
        plan = self.plan.spraying
        addresses = self._infrastructure(chance, int(chance.log_uniform(*plan.addresses)), chance.happens(0.5))
        agents = self._tools(chance, now, 0.2, 0.2)
        attempts = int(chance.log_uniform(*plan.attempts))
        span = chance.log_uniform(*plan.hours) * HOUR_MS
        self._campaign(simulation, chance, now, "spraying", attempts, span, addresses, agents, plan.unknown_names, plan.hit)

    def _campaign(self, simulation, chance, now, kind, attempts, span, addresses, agents, unknown, hit) -> None:
        """Name after name, each once, at a steady pace from address after address."""
        users, campaign, left = self.world.people.users, self.campaign(), attempts
        language = self.world.addresses.language(chance, self.world.addresses.attack_countries.pick(chance))
        pace = span / attempts

        def act(simulation, now: int) -> None:
            nonlocal left
            known = not chance.happens(unknown)
            user = chance.choice(users) if known else None
            name = user.id if user else str(signed(number(self.world.seed, "nobody", chance.getrandbits(40))))
            agent, with_language = chance.choice(agents)
            right = known and chance.happens(hit)
            self._emit(
                simulation, now, user, name, chance.choice(addresses), agent, language if with_language else "", "", kind, campaign, right
            )
            left -= 1
            if left > 0:
                simulation.at(now + 50 + int(chance.exponential(pace)), act)

        act(simulation, now)

    def _brute_force(self, simulation, chance: Chance, now: int) -> None:
        plan, campaign = self.plan.brute_force, self.campaign()
        user = self.victim(chance, 0.9)
        if user is None:
            return
        addresses = self._infrastructure(chance, int(chance.log_uniform(*plan.addresses)), chance.happens(0.5))
        agent, with_language = chance.choice(self._tools(chance, now, 0.35, 0.25))
        language = self.world.addresses.language(chance, user.home.city.country) if with_language else ""
        left = int(chance.log_uniform(*plan.attempts))
        pace = chance.log_uniform(*plan.hours) * HOUR_MS / left
        finds = chance.happens(plan.hit)

        def act(simulation, now: int) -> None:
            nonlocal left
            left -= 1
            right = finds and left == 0
            self._emit(simulation, now, user, user.id, chance.choice(addresses), agent, language, "", "brute_force", campaign, right)
            if left > 0:
                simulation.at(now + 50 + int(chance.exponential(pace)), act)

        act(simulation, now)

    # Means.

    def victim(self, chance: Chance, history: float) -> User | None:
        """Somebody who has logged in before, or anybody."""
        seen = self.world.people.seen
        if not chance.happens(history):
            return chance.choice(self.world.people.users)
        for _ in range(VICTIMS_TRIED if seen else 0):
            user = chance.choice(seen)
            if user.logins >= self.plan.takeover.logins_min:
                return user
        return None

    def browser(self, chance: Chance, now: int) -> Agent:
        """A browser as anybody's."""
        kind = COMPUTER if chance.happens(0.7) else PHONE
        return Updating(chance, BY_DEVICE[kind].pick(chance), now, 8.0).agent(self.world.agents, chance, now)

    def _jar(self, chance: Chance) -> str:
        """A cookie jar of the attacker's own; some work in windows that forget."""
        return chance.hex(16) if chance.happens(0.6) else ""

    def _tools(self, chance: Chance, now: int, scripted: float, disguised: float) -> list[tuple[Agent, bool]]:
        """User agents of a campaign, and whether they send a language."""
        agents, draw = self.world.agents, chance.random()
        if draw < scripted:
            text, hello, first, span = chance.choice(SCRIPTS)
            return [(agents.program(text.format(first + chance.randrange(span)), hello), False)]
        browsers = [self.browser(chance, now) for _ in range(1 + int(chance.log_uniform(1, 12)))]
        if draw < scripted + disguised:
            hello = chance.choice(DISGUISES)
            return [(agents.disguised(browser, hello), chance.happens(0.7)) for browser in browsers]
        return [(browser, True) for browser in browsers]

    def _infrastructure(self, chance: Chance, count: int, residential: bool) -> list[Address]:
        """Addresses of a campaign: rented machines of a few operators, or proxies in homes of a few countries."""
        places, found = self.world.addresses, []
        countries = [places.attack_countries.pick(chance) for _ in range(1 + int(chance.log_uniform(1, 8)))]
        if residential and chance.happens(0.4):
            countries.append(places.home)
        operators = [places.operator(chance, cc, RESIDENTIAL if residential else HOSTING) for cc in countries]
        flagged = 0.35 if residential else 0.75
        for _ in range(count):
            address = chance.choice(operators).address(chance)
            address.flagged = chance.happens(flagged)
            found.append(address)
        return found

    def _emit(self, simulation, at, user, name, address, agent, language, jar, kind, campaign, succeeded, variant="") -> None:
        world = self.world
        client = world.apps.any_client(name)
        simulation.emit(
            Event(
                at,
                LOGIN,
                name,
                address,
                agent,
                succeeded=succeeded,
                client=client.id,
                confidential=client.confidential,
                device=jar,
                language=language,
                family=world.attack_hex(succeeded),
                attacker=kind,
                campaign=campaign,
                round_trip=world.people.round_trip(world.attack_chance),
                variant=variant,
            )
        )
