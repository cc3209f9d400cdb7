"""Service accounts: programs that fetch tokens with a secret of their own, by clock, in bursts or by day."""

from dataclasses import dataclass

from .addresses import HOSTING, RESIDENTIAL, Address, Operator, Pool, dotted
from .agents import Agent
from .chance import Chance, token_text
from .event import DAY_MS, HOUR_MS, M2M, Event

RIGHTS = (
    "orders.read", "orders.write", "stock.read", "stock.write", "users.read", "users.write", "billing.read",
    "billing.write", "reports.read", "jobs.run", "mail.send", "audit.read", "config.read", "config.write", "keys.read",
)
PROGRAMS = (
    ("python-requests/2.{}.3", "python", 28),
    ("Go-http-client/2.0", "go", 0),
    ("Java/17.0.{}", "java", 9),
    ("axios/1.{}.2", "node", 6),
    ("curl/8.{}.0", "curl", 4),
    ("Apache-HttpClient/5.{}.1 (Java/21.0.5)", "java", 2),
)


@dataclass(eq=False, slots=True)
class Service:
    """One service account and where it runs."""

    id: str
    operator: Operator
    pool: Pool
    spare: Operator
    addresses: list[Address]
    autoscaling: bool
    rhythm: str
    per_day: float
    phase: float
    program: tuple[str, str, int]
    release: int
    rights: list[str]
    fewer: list[str]
    usual_hours: tuple[float, float]
    deploy_at: int
    failover_at: int
    failover_end: int
    rotate_at: int
    first: int = -1


class Services:
    """All service accounts of a run. Draws from a stream of its own."""

    def __init__(self, world, chance: Chance, count: int) -> None:
        self.world = world
        self.plan = world.plan.services
        self.chance = chance
        self.accounts = [self._account(n) for n in range(count)]

    def begin(self, simulation) -> None:
        """Puts everybody's first request on the agenda."""
        for service in self.accounts:
            # Some are taken into use during the run.
            born = 0.0 if self.chance.happens(0.85) else self.chance.random() * simulation.days * 0.8
            simulation.at(int(born * DAY_MS) + self._gap(service, int(born * DAY_MS)), self._run(service))

    def agent(self, service: Service) -> Agent:
        """What it sends now."""
        text, hello, version = service.program
        return self.world.agents.program(text.format(version + service.release), hello)

    def event(self, service: Service, at: int, address: Address, agent: Agent, scopes: list[str], succeeded: bool = True) -> Event:
        """One request for a token."""
        return Event(
            at,
            M2M,
            "",
            address,
            agent,
            succeeded=succeeded,
            client=service.id,
            scopes=" ".join(scopes),
            confidential=True,
        )

    def scopes(self, chance: Chance, service: Service) -> list[str]:
        """What it asks for: all of its rights mostly, some services ask for parts."""
        return service.rights if not service.fewer or chance.happens(0.7) else service.fewer

    def place(self, service: Service, now: int) -> Address:
        """Where it runs now."""
        chance = self.chance
        if now >= service.failover_at:
            if now < service.failover_end:
                return chance.choice(service.addresses[-1:])
            self._restore(service, now)
        if service.autoscaling:
            # Machines come and go within one /24.
            return Address(dotted((service.pool.base & ~255) + 1 + chance.randrange(254)), service.pool)
        return chance.choice(service.addresses[:-1])

    def _run(self, service: Service):
        def act(simulation, now: int) -> None:
            chance = self.chance
            if service.first < 0:
                service.first = now
            words = ""
            if now >= service.deploy_at:
                self._deploy(simulation, service, now)
            if now >= service.rotate_at:
                self._rotate(simulation, service, now)
            address = self.place(service, now)
            event = self.event(service, now, address, self.agent(service), self.scopes(chance, service))
            event.cohort = (words + (" failover" if service.failover_at <= now < service.failover_end else ""))[1:]
            simulation.emit(event)
            if service.rhythm == "bursts":
                at = now
                for _ in range(chance.poisson(4.0)):
                    at += 400 + int(chance.exponential(20_000))
                    simulation.emit(self.event(service, at, address, self.agent(service), self.scopes(chance, service)))
            simulation.at(now + self._gap(service, now), act)

        return act

    def _gap(self, service: Service, now: int) -> int:
        """Milliseconds to the next request."""
        chance = self.chance
        mean = DAY_MS / service.per_day
        if service.rhythm == "clock":
            return max(1000, int(mean + chance.gauss(0.0, min(30_000.0, mean * 0.02))))
        if service.rhythm == "nightly":
            day = now // DAY_MS + 1
            return int(day * DAY_MS + service.phase * HOUR_MS + chance.exponential(120_000)) - now
        gap = chance.exponential(mean * (5.0 if service.rhythm == "bursts" else 1.0))
        if service.rhythm == "office_hours":
            gap *= 0.35
            hour = ((now + gap) / HOUR_MS) % 24
            weekday = (int(now + gap) // DAY_MS + self.world.weekday) % 7
            low, high = service.usual_hours
            if not low <= hour < high or weekday >= 5:
                ahead = (low - hour) % 24 + 24 * (max(0, 7 - weekday) % 7 if weekday >= 5 and chance.happens(0.9) else 0)
                gap += (ahead + chance.exponential(0.7)) * HOUR_MS
        return max(200, int(gap))

    def _deploy(self, simulation, service: Service, now: int) -> None:
        """A new release: each instance fetches its token anew."""
        chance = self.chance
        service.deploy_at = now + int(chance.exponential(self.plan.deploy_every_days) * DAY_MS)
        if chance.happens(0.35):
            service.release += 1
        if chance.happens(0.08) and not service.autoscaling:
            service.addresses[0] = Address.of(service.pool, chance)
        at = now
        for _ in range(2 + chance.poisson(5.0)):
            at += 300 + int(chance.exponential(8000))
            event = self.event(service, at, self.place(service, at), self.agent(service), self.scopes(chance, service))
            event.cohort = "deployment"
            simulation.emit(event)

    def _rotate(self, simulation, service: Service, now: int) -> None:
        """The secret was changed before the program knew it."""
        chance = self.chance
        service.rotate_at = now + int(chance.exponential(100 / self.plan.rotation_per_100_days) * DAY_MS)
        at = now
        for _ in range(1 + int(chance.exponential(6.0))):
            at += 1000 + int(chance.exponential(25_000))
            event = self.event(service, at, self.place(service, at), self.agent(service), self.scopes(chance, service), False)
            event.cohort = "key_rotation"
            simulation.emit(event)

    def _restore(self, service: Service, now: int) -> None:
        chance = self.chance
        service.failover_at = now + int(chance.exponential(100 / self.plan.failover_per_100_days) * DAY_MS)
        service.failover_end = service.failover_at + int(chance.log_normal(6, 0.8) * HOUR_MS)

    def _account(self, n: int) -> Service:
        chance, plan, places = self.chance, self.plan, self.world.addresses
        country = places.home if chance.happens(0.7) else chance.choice(("DE", "NL", "IE", "US", "FR"))
        # Most run in data centres, some in the company's own network.
        operator = places.operator(chance, country, HOSTING if chance.happens(0.8) else RESIDENTIAL)
        spare = places.operator(chance, chance.choice(("DE", "NL", "IE", "US", "FR", places.home)), HOSTING)
        pool = operator.pool(chance)
        autoscaling = chance.happens(plan.autoscaling)
        addresses = [Address.of(pool, chance) for _ in range(1 + int(3 * chance.random()))]
        rights = chance.sample(RIGHTS, 1 + int(4 * chance.random()))
        fewer = rights[:-1] if len(rights) > 2 and chance.happens(0.4) else []
        day = lambda mean: int(chance.exponential(mean) * DAY_MS)  # noqa: E731
        failover_at = day(100 / plan.failover_per_100_days)
        return Service(
            id=token_text(self.world.seed, "service", n),
            operator=operator,
            pool=pool,
            spare=spare,
            addresses=[*addresses, spare.address(chance)],
            autoscaling=autoscaling,
            rhythm=chance.choices(("clock", "bursts", "office_hours", "random", "nightly"), (5, 3, 3, 3, 1))[0],
            per_day=chance.log_uniform(*plan.requests_per_day),
            phase=24 * chance.random(),
            program=chance.choice(PROGRAMS),
            release=0,
            rights=rights,
            fewer=fewer,
            usual_hours=(5.0 + 3 * chance.random(), 15.0 + 4 * chance.random()),
            deploy_at=day(plan.deploy_every_days),
            failover_at=failover_at,
            failover_end=failover_at + int(chance.log_normal(6, 0.8) * HOUR_MS),
            rotate_at=day(100 / plan.rotation_per_100_days),
        )
