"""Those who need no password: stolen sessions, codes, refresh tokens, and the secrets of service accounts."""

from .addresses import HOSTING, MOBILE, RESIDENTIAL, Address
from .agents import Agent
from .apps import Family
from .chance import Chance, stream
from .event import CODE, DAY_MS, HOUR_MS, REFRESH, SSO, Event
from .services import PROGRAMS, RIGHTS, Service

TRIES = 60
"""Draws before a thief finds nothing to steal and goes home."""


class Thieves:
    """All thieves. Each kind draws from a stream of its own."""

    def __init__(self, world) -> None:
        self.world = world
        self.plan = world.plan.attacks
        self.codes_wanted = 0
        self.code_chance = stream(world.seed, "attack", "code_replay", "act")

    def begin(self, simulation) -> None:
        """Puts the incidents of the whole run on the agenda."""
        days = (simulation.days - self.plan.first_day) / 100
        users = len(self.world.people.users) / 1000 * days
        services = len(self.world.services.accounts) / 100 * days
        plan = self.plan
        for kind, mean, act in (
            ("session_theft", plan.session_theft.rate * users, self._session),
            ("code_replay", plan.code_replay.rate * users, self._code),
            ("token_replay", plan.token_replay.rate * users, self._replay),
            ("refresh_theft", plan.refresh_theft.rate * users, self._steal),
            ("secret_theft", plan.secret_theft.rate * services, self._secret),
            ("secret_guess", plan.secret_guess.rate * services, self._guess),
            ("scope_probe", plan.scope_probe.rate * services, self._probe),
            ("volume_abuse", plan.volume_abuse.rate * services, self._volume),
        ):
            chance = stream(self.world.seed, "attack", kind)
            for _ in range(chance.poisson(mean)):
                at = int((plan.first_day + (simulation.days - plan.first_day) * chance.random()) * DAY_MS)
                simulation.at(at, lambda simulation, now, act=act, chance=chance: act(simulation, chance, now))
        self.world.apps.code_thief = self._intercept

    # Of users.

    def _session(self, simulation, chance: Chance, now: int) -> None:
        """Uses a session cookie that was taken from a browser."""
        plan, sessions = self.plan.session_theft, self.world.apps.sessions
        for _ in range(TRIES):
            session = chance.choice(sessions) if sessions else None
            if session is not None and session.start + 60_000 < now < session.end - 600_000:
                break
        else:
            return
        near = chance.happens(plan.near)
        address = self._near(chance, session.user, chance.happens(0.4)) if near else self._remote(chance)
        same = chance.happens(plan.same_agent)
        agent = session.agent if same else self.world.attackers.browser(chance, now)
        language = session.device.language if same else self.world.addresses.language(chance, address.pool.city.country)
        cookie = session.jar if chance.happens(plan.same_cookie) else ""
        campaign, at = self.world.attackers.campaign(), now
        for _ in range(1 + int(chance.exponential(1.2))):
            if at >= session.end:
                break
            client = self.world.apps.any_client(f"{session.family}{at}")
            simulation.emit(
                Event(
                    at,
                    SSO,
                    session.user.id,
                    address,
                    agent,
                    client=client.id,
                    confidential=client.confidential,
                    device=cookie,
                    language=language,
                    family=session.family,
                    attacker="session_theft",
                    campaign=campaign,
                    variant="near" if near else "elsewhere",
                )
            )
            at += 20_000 + int(chance.exponential(600_000))

    def _code(self, simulation, chance: Chance, now: int) -> None:
        """The code of the next login that has one is intercepted."""
        self.codes_wanted += 1

    def _intercept(self, simulation, family: Family, redeem_at: int) -> bool:
        """Whether the application never gets this code; replays it in either case when somebody waits for one."""
        if self.codes_wanted == 0 or family.client.confidential and self.code_chance.happens(0.5):
            return False
        self.codes_wanted -= 1
        chance = self.code_chance
        alone = chance.happens(self.plan.code_replay.unredeemed)
        at = redeem_at + 300 + int(chance.exponential(20_000))
        near = chance.happens(0.3)
        address = self._near(chance, family.user, True) if near else self._remote(chance)
        where, agent, language = address, self._script(chance), ""
        if not family.client.confidential and chance.happens(0.5):
            # The thief imitates the application.
            _, agent, language = self.world.apps.speaker(family, address, None, at)
        campaign = self.world.attackers.campaign()
        event = self._token_event(CODE, at, family, where, agent, language, "", "code_replay", campaign, near)
        simulation.emit(event)
        return alone

    def _replay(self, simulation, chance: Chance, now: int) -> None:
        """Presents a refresh token that its owner has used before."""
        self._take(simulation, chance, now, "token_replay", self.plan.token_replay)

    def _steal(self, simulation, chance: Chance, now: int) -> None:
        """Uses a refresh token that is still good. Its owner has lost it and does not come back to this family."""
        self._take(simulation, chance, now, "refresh_theft", self.plan.refresh_theft)

    def _take(self, simulation, chance: Chance, now: int, kind: str, plan) -> None:
        live = self.world.apps.live
        for _ in range(TRIES):
            family = chance.choice(live) if live else None
            if family is not None and family.last is not None and not family.client.confidential and family.last[3] < now - 30_000:
                break
        else:
            return
        near = chance.happens(plan.near)
        if near:
            address = self._near(chance, family.user, True)
            _, agent, language = self.world.apps.speaker(family, address, None, now)
        else:
            address = self._remote(chance)
            _, agent, language = self.world.apps.speaker(family, address, None, now)
            if chance.happens(0.5):
                agent, language = self._script(chance), ""
        if kind == "token_replay":
            token = family.previous or family.token
            if family.previous is None:
                return
        else:
            token = family.token
            self.world.apps.stop(family)
        campaign, left = self.world.attackers.campaign(), 1 + int(chance.exponential(plan.uses - 1.0))

        def act(simulation, now: int) -> None:
            nonlocal left, token
            simulation.emit(self._token_event(REFRESH, now, family, address, agent, language, token, kind, campaign, near))
            if kind == "refresh_theft":
                token = chance.hex(16)
            left -= 1
            if left > 0:
                pause = 60_000 if kind == "token_replay" else 1.2 * HOUR_MS
                simulation.at(now + 1000 + int(chance.exponential(pause)), act)

        act(simulation, now)

    def _token_event(self, kind, at, family: Family, where, agent, language, token, attacker, campaign, near) -> Event:
        client = family.client
        return Event(
            at,
            kind,
            family.user.id,
            where,
            agent,
            client=client.id,
            scopes=client.scopes if kind == REFRESH else "",
            confidential=client.confidential,
            language=language,
            family=family.id,
            token=token,
            attacker=attacker,
            campaign=campaign,
            variant="near" if near else "elsewhere",
        )

    # Of service accounts.

    def _secret(self, simulation, chance: Chance, now: int) -> None:
        """Has the secret and the habits in part: asks for the usual scopes from elsewhere."""
        plan = self.plan.secret_theft
        service = self._service(chance, now)
        if service is None:
            return
        near = chance.happens(plan.near)
        if near:
            # Another machine of the same data centre operator.
            address = service.operator.address(chance, service.pool.city)
            agent = self.world.services.agent(service) if chance.happens(0.6) else self._script(chance)
        else:
            address = self._hosting(chance) if chance.happens(0.6) else self._remote(chance)
            agent = self.world.services.agent(service) if chance.happens(0.3) else self._script(chance)
        left = int(chance.log_uniform(*plan.requests))
        pace = chance.log_uniform(0.05, 6.0) * HOUR_MS
        self._requests(simulation, chance, now, service, "secret_theft", left, pace, address, agent, lambda: (service.rights, True), near)

    def _guess(self, simulation, chance: Chance, now: int) -> None:
        """Tries secrets."""
        service = self._service(chance, now)
        if service is None:
            return
        left = int(chance.log_uniform(*self.plan.secret_guess.requests))
        address = self._hosting(chance) if chance.happens(0.7) else self._remote(chance)
        pace = chance.log_uniform(0.0005, 0.1) * HOUR_MS
        self._requests(
            simulation, chance, now, service, "secret_guess", left, pace, address, self._script(chance), lambda: (service.rights, False)
        )

    def _probe(self, simulation, chance: Chance, now: int) -> None:
        """Has the secret and tries what else it opens, from the machine itself now and then."""
        service = self._service(chance, now)
        if service is None:
            return
        inside = chance.happens(0.3)
        address = self.world.services.place(service, now) if inside else self._hosting(chance)
        agent = self.world.services.agent(service) if inside or chance.happens(0.4) else self._script(chance)
        left = int(chance.log_uniform(*self.plan.scope_probe.requests))

        def ask() -> tuple[list[str], bool]:
            asked = chance.sample(RIGHTS, 1 + int(3 * chance.random()))
            return asked, set(asked) <= set(service.rights) or chance.happens(0.15)

        self._requests(simulation, chance, now, service, "scope_probe", left, 0.05 * HOUR_MS, address, agent, ask)

    def _volume(self, simulation, chance: Chance, now: int) -> None:
        """Runs in the service's place and draws far more tokens than it ever did."""
        plan = self.plan.volume_abuse
        service = self._service(chance, now)
        if service is None:
            return
        factor, hours = chance.log_uniform(*plan.factor), chance.log_uniform(*plan.hours)
        left = min(600, max(15, int(service.per_day / 24 * hours * factor)))
        address, agent = self.world.services.place(service, now), self.world.services.agent(service)
        pace = hours * HOUR_MS / left
        self._requests(
            simulation, chance, now, service, "volume_abuse", left, pace, address, agent, lambda: (self.world.services.scopes(chance, service), True)
        )

    def _requests(self, simulation, chance, now, service: Service, kind, left, pace, address, agent, ask, near=None) -> None:
        campaign = self.world.attackers.campaign()
        variant = "" if near is None else "near" if near else "elsewhere"

        def act(simulation, now: int) -> None:
            nonlocal left
            scopes, succeeded = ask()
            event = self.world.services.event(service, now, address, agent, scopes, succeeded)
            event.attacker, event.campaign, event.variant = kind, campaign, variant
            simulation.emit(event)
            left -= 1
            if left > 0:
                simulation.at(now + 30 + int(chance.exponential(pace)), act)

        act(simulation, now)

    # Means.

    def _service(self, chance: Chance, now: int) -> Service | None:
        """A service account that is in use."""
        for _ in range(TRIES):
            service = chance.choice(self.world.services.accounts) if self.world.services.accounts else None
            if service is not None and 0 <= service.first < now - DAY_MS:
                return service
        return None

    def _near(self, chance: Chance, user, own_operator: bool) -> Address:
        """Close to the victim: the same city, the same operator or another."""
        city = user.home.city
        if own_operator:
            if user.carrier and chance.happens(0.4):
                return self.world.addresses.carrier_address(chance, user.carrier, city)
            return user.home.operator.address(chance, city)
        kind = MOBILE if chance.happens(0.3) else RESIDENTIAL
        return self.world.addresses.somewhere(chance, city.country, kind, city)

    def _remote(self, chance: Chance) -> Address:
        places = self.world.addresses
        kind = RESIDENTIAL if chance.happens(0.5) else HOSTING
        return places.somewhere(chance, places.attack_countries.pick(chance), kind)

    def _hosting(self, chance: Chance) -> Address:
        places = self.world.addresses
        return places.somewhere(chance, places.attack_countries.pick(chance), HOSTING)

    def _script(self, chance: Chance) -> Agent:
        text, hello, version = chance.choice(PROGRAMS)
        return self.world.agents.program(text.format(version + chance.randrange(6)), hello)
