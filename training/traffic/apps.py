"""What follows a login: the application redeems the code, opens other applications in the same session, and refreshes
its tokens; installed apps do so for weeks while the telephone changes networks all day."""

from dataclasses import dataclass

from .addresses import HOSTING, Address
from .agents import COMPUTER, PHONE, Agent
from .chance import Chance, number, stream, token_text
from .event import CODE, DAY_MS, HOUR_MS, REFRESH, SSO, Event

SCOPES = ("openid", "openid profile", "openid profile email", "openid email offline_access", "openid profile groups")
RETRY_MS = 4_500
"""A request whose answer was lost is sent again within this time."""
SESSIONS_MAX = 4096
FAMILIES_MAX = 1 << 20
"""Live token families that are kept for a thief to choose from; beyond that the oldest slots are reused."""


@dataclass(frozen=True, slots=True)
class Client:
    """An application. A confidential one speaks from its server."""

    id: str
    kind: str
    confidential: bool
    scopes: str
    server: Address | None
    agent: Agent | None
    name: str


class Family:
    """The tokens that came from one login, and the place in `Apps.live`."""

    __slots__ = ("id", "token", "user", "device", "client", "end", "per_day", "slot", "stopped", "last", "previous")

    def __init__(self, id: str, token: str, user, device, client: Client, end: int, per_day: float) -> None:
        self.id = id
        self.token = token
        self.user = user
        self.device = device
        self.client = client
        self.end = end
        self.per_day = per_day
        self.slot = -1
        self.stopped = False
        self.previous: str | None = None
        self.last: tuple[Address, Agent, str, int] | None = None


@dataclass(slots=True)
class Session:
    """A single sign-on session that somebody could take over."""

    family: str
    user: object
    device: object
    jar: str
    agent: Agent
    address: Address
    start: int
    end: int


class Apps:
    """All applications of a run. Draws from a stream of its own."""

    def __init__(self, world, chance: Chance) -> None:
        self.world = world
        self.plan = world.plan.apps
        self.chance = chance
        self.live: list[Family] = []
        self.sessions: list[Session] = []
        self.code_thief = None
        self.clients: dict[str, list[Client]] = {"web": [], "single_page": [], "mobile": []}
        servers = ("java", "node", "go", "python")
        texts = {"java": "Java/17.0.13", "node": "openid-client/5.7.1", "go": "Go-http-client/2.0", "python": "python-requests/2.32.3"}
        places = world.addresses
        for n in range(self.plan.web):
            operator = places.operator(chance, places.home, HOSTING)
            hello = servers[n % len(servers)]
            agent = world.agents.program(texts[hello], hello)
            self._client("web", n, True, operator.address(chance), agent)
        for n in range(self.plan.single_page):
            self._client("single_page", n, False, None, None)
        for n in range(self.plan.mobile):
            self._client("mobile", n, False, None, None)
        self._all = [client for group in self.clients.values() for client in group]

    def client_for(self, user, device) -> Client:
        """The application that this person opens on this machine: mostly the same one."""
        key = (device.kind, device.at_work)
        found = user.apps.get(key)
        if found is None or self.chance.random() < 0.12:
            kinds = ("web", "single_page") if device.kind == COMPUTER else ("mobile", "web", "mobile")
            picked = self.chance.choice(self.clients[self.chance.choice(kinds)] or self.clients["web"])
            if found is None:
                user.apps[key] = picked
            found = picked
        return found

    def any_client(self, name: str) -> Client:
        """The application through which somebody comes who is not its user; by name, so that it costs no chance."""
        return self._all[number(self.world.seed, "through", name) % len(self._all)]

    def app_agent(self, user, device, now: int) -> Agent:
        """The installed app on that telephone: its version follows the releases, a few days late."""
        release = max(0, int((now / DAY_MS - device.app_lag_days) / self.plan.release_days))
        name = self.clients["mobile"][0].name if self.clients["mobile"] else "App"
        if device.browser.family.system in ("iOS", "iPadOS", "Mac OS X 10"):
            text = f"{name}/5.{12 + release}.0 CFNetwork/3860.300.31 Darwin/25.2.0"
            return self.world.agents.program(text, "cfnetwork", "mobile")
        return self.world.agents.program(f"{name}/5.{12 + release}.0 (Android 14) okhttp/4.12.0", "okhttp", "mobile")

    def after_login(
        self, simulation, user, device, address: Address, agent: Agent, client: Client, family_id: str, jar: str, words: str, at: int
    ) -> None:
        """Code, other applications, refreshes."""
        chance, plan = self.chance, self.plan
        end = at + int(plan.session_hours * HOUR_MS * (0.3 + chance.random()))
        self._remember(Session(family_id, user, device, jar, agent, address, at, end))
        for _ in range(chance.poisson(plan.sso)):
            simulation.at(at + int((end - at) * chance.random() ** 2), self._open_other(family_id, user, device, jar))
        if chance.happens(plan.code_lost):
            return
        family = self._family(client, family_id, user, device, at)
        redeem_at = at + 200 + int(chance.exponential(1400))
        where, what, language = self.speaker(family, address, agent, redeem_at)
        if self.code_thief is not None and self.code_thief(simulation, family, redeem_at):
            return
        simulation.emit(self._event(CODE, redeem_at, family, where, what, language, "", words))
        family.last = (where, what, language, redeem_at)
        if client.kind == "mobile":
            for old in [f for f in self._of(user, device) if not f.stopped]:
                self.stop(old)
            user.apps[device, "family"] = family
        self._keep(family)
        simulation.at(self._next_use(family, redeem_at), self._refresh(family))

    def stop(self, family: Family) -> None:
        """The owner does not use it again."""
        family.stopped = True
        if family.slot >= 0:
            moved = self.live.pop()
            if moved is not family:
                moved.slot = family.slot
                self.live[family.slot] = moved
            family.slot = -1

    def _refresh(self, family: Family):
        chance = self.chance

        def act(simulation, now: int) -> None:
            if family.stopped:
                return
            if now > family.end:
                self.stop(family)
                return
            user, device = family.user, family.device
            if family.client.confidential:
                where, what, language, words = family.client.server, family.client.agent, "", ""
            else:
                where, words = self.world.people.place(user, device, now)
                where, what, language = self.speaker(family, where, None, now)
            token = family.token
            simulation.emit(self._event(REFRESH, now, family, where, what, language, token, words))
            family.previous, family.token = token, chance.hex(16)
            family.last = (where, what, language, now)
            if chance.happens(self.plan.retry):
                again = now + 150 + int((RETRY_MS - 150) * chance.random())
                simulation.emit(self._event(REFRESH, again, family, where, what, language, token, words))
            if chance.happens(self.plan.again):
                simulation.at(now + 6000 + int(chance.exponential(90_000)), act)
            else:
                simulation.at(max(now + 6000, self._next_use(family, now)), act)

        return act

    def _open_other(self, family_id: str, user, device, jar: str):
        def act(simulation, now: int) -> None:
            chance = self.chance
            address, words = self.world.people.place(user, device, now)
            other = chance.choice(self._all)
            simulation.emit(
                Event(
                    now,
                    SSO,
                    user.id,
                    address,
                    device.browser.agent(self.world.agents, self.world.people.chance, now),
                    client=other.id,
                    confidential=other.confidential,
                    device=jar,
                    language=device.language,
                    family=family_id,
                    factor=user.factor,
                    cohort=(user.tag + words)[1:],
                )
            )

        return act

    def _family(self, client: Client, family_id: str, user, device, at: int) -> Family:
        chance, plan = self.chance, self.plan
        if client.kind == "mobile":
            end = at + int(chance.exponential(plan.mobile_family_days) * DAY_MS)
            per_day = min(8.0, chance.log_normal(plan.mobile_uses_per_day * 0.6, 1.0))
        else:
            end = at + int(plan.session_hours * HOUR_MS * chance.random() ** 1.5)
            per_day = 24.0
        return Family(family_id, chance.hex(16), user, device, client, end, per_day)

    def speaker(self, family: Family, address: Address, agent: Agent | None, now: int) -> tuple[Address, Agent, str]:
        """From where, with what and in which language the application sends its token request."""
        client, device = family.client, family.device
        if client.confidential:
            return client.server, client.agent, ""
        if client.kind == "mobile":
            return address, self.app_agent(family.user, device, now), device.language
        agent = agent or device.browser.agent(self.world.agents, self.world.people.chance, now)
        return address, agent, device.language

    def _next_use(self, family: Family, now: int) -> int:
        chance = self.chance
        if family.client.kind != "mobile":
            return now + int((0.9 + 0.25 * chance.random()) * HOUR_MS)
        at = now + int((0.05 + chance.exponential(24.0 / family.per_day)) * HOUR_MS)
        hour = (at / HOUR_MS + family.user.offset_hours) % 24
        # Telephones are put aside at night, mostly.
        if hour < 6.5 and chance.happens(0.8):
            at += int((7.5 - hour + 3 * chance.random()) * HOUR_MS)
        # Apps that nobody opens refresh in the background, before the token ends.
        return min(at, now + int(self.plan.token_hours * (0.75 + 0.2 * chance.random()) * HOUR_MS))

    def _event(self, kind: str, at: int, family: Family, where: Address, what: Agent, language: str, token: str, words: str) -> Event:
        client, user = family.client, family.user
        return Event(
            at,
            kind,
            user.id,
            where,
            what,
            client=client.id,
            scopes=client.scopes if kind == REFRESH else "",
            confidential=client.confidential,
            language=language,
            family=family.id,
            token=token,
            factor=user.factor,
            cohort=(user.tag + words)[1:],
        )

    def _of(self, user, device) -> list[Family]:
        found = user.apps.get((device, "family"))
        return [found] if found is not None else []

    def _keep(self, family: Family) -> None:
        if len(self.live) < FAMILIES_MAX:
            family.slot = len(self.live)
            self.live.append(family)

    def _remember(self, session: Session) -> None:
        """Keeps the latest sessions, for a thief to choose from."""
        if len(self.sessions) < SESSIONS_MAX:
            self.sessions.append(session)
        else:
            self.sessions[self.chance.randrange(SESSIONS_MAX)] = session

    def _client(self, kind: str, n: int, confidential: bool, server: Address | None, agent: Agent | None) -> None:
        seed = self.world.seed
        name = "App" + "".join(stream(seed, kind, n, "name").choices("abcdefghijklmnopqrstuvwxyz", k=6))
        id = token_text(seed, kind, n)
        scopes = SCOPES[3] if kind == "mobile" else self.chance.choice(SCOPES)
        self.clients[kind].append(Client(id, kind, confidential, scopes, server, agent, name))
