"""Browsers, apps and programs: User-Agent strings, TLS fingerprints, and how both change with releases.

The form of each JA4 (first part, cipher hash) is that of real releases. The extension hash follows from the seed, so
that no seed shares a fingerprint with another. JA4 does not show GREASE (RFC 8701): Chromium's fingerprints are those
that begin with `t13d15`.
"""

import hashlib
from dataclasses import dataclass

from .chance import Chance, Weighted
from .event import DAY_MS

COMPUTER, PHONE, TABLET = "desktop", "mobile", "tablet"


@dataclass(frozen=True, slots=True)
class Agent:
    """What a program sends: the four columns of the data set as CSV, and its JA4."""

    columns: str
    ja4: str


@dataclass(frozen=True, slots=True)
class Family:
    """A browser on a system. `release` is the number of the release at day 0; one follows every `every` days. The TLS
    hello changes every `era` releases. `engine` are the fixed parts of its JA4. `parts`: releases per major version."""

    name: str
    system: str
    device: str
    share: float
    release: int
    every: float
    era: int
    engine: tuple[str, str]
    pattern: str
    parts: int = 1


_CHROMIUM = ("t13d1516h2", "8daaf6152771")
_GECKO = ("t13d1717h2", "5b57614c22b0")
_WEBKIT = ("t13d2014h2", "a09f3c656075")
_KHTML = "AppleWebKit/537.36 (KHTML, like Gecko)"
_WIN, _MAC, _LINUX = "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64"

FAMILIES = (
    Family("Chrome", "Windows 10", COMPUTER, 36, 143, 28, 4, _CHROMIUM, f"Mozilla/5.0 ({_WIN}) {_KHTML} Chrome/{{v}}.0.0.0 Safari/537.36"),
    Family("Edge", "Windows 10", COMPUTER, 22, 143, 28, 4, _CHROMIUM, f"Mozilla/5.0 ({_WIN}) {_KHTML} Chrome/{{v}}.0.0.0 Safari/537.36 Edg/{{v}}.0.0.0"),
    Family("Firefox", "Windows 10", COMPUTER, 9, 146, 28, 5, _GECKO, f"Mozilla/5.0 ({_WIN}; rv:{{v}}.0) Gecko/20100101 Firefox/{{v}}.0"),
    Family("Opera", "Windows 10", COMPUTER, 2, 125, 30, 4, _CHROMIUM, f"Mozilla/5.0 ({_WIN}) {_KHTML} Chrome/{{c}}.0.0.0 Safari/537.36 OPR/{{v}}.0.0.0"),
    Family("Chrome", "Mac OS X 10", COMPUTER, 9, 143, 28, 4, _CHROMIUM, f"Mozilla/5.0 ({_MAC}) {_KHTML} Chrome/{{v}}.0.0.0 Safari/537.36"),
    Family("Safari", "Mac OS X 10", COMPUTER, 13, 0, 45, 3, _WEBKIT, f"Mozilla/5.0 ({_MAC}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{{v}} Safari/605.1.15"),
    Family("Firefox", "Mac OS X 10", COMPUTER, 2, 146, 28, 5, _GECKO, "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:{v}.0) Gecko/20100101 Firefox/{v}.0"),
    Family("Chrome", "Linux", COMPUTER, 2, 143, 28, 4, _CHROMIUM, f"Mozilla/5.0 ({_LINUX}) {_KHTML} Chrome/{{v}}.0.0.0 Safari/537.36"),
    Family("Firefox", "Linux", COMPUTER, 4, 146, 28, 5, _GECKO, f"Mozilla/5.0 ({_LINUX}; rv:{{v}}.0) Gecko/20100101 Firefox/{{v}}.0"),
    Family("Chrome", "Android 10", PHONE, 42, 143, 28, 4, _CHROMIUM, f"Mozilla/5.0 (Linux; Android 10; K) {_KHTML} Chrome/{{v}}.0.0.0 Mobile Safari/537.36"),
    Family("Samsung Browser", "Android 10", PHONE, 8, 28, 80, 2, _CHROMIUM, f"Mozilla/5.0 (Linux; Android 10; K) {_KHTML} SamsungBrowser/{{v}}.0 Chrome/130.0.0.0 Mobile Safari/537.36"),
    Family("Safari", "iOS", PHONE, 46, 0, 45, 3, _WEBKIT, "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{v} Mobile/15E148 Safari/604.1"),
    # Browsers within apps send their whole version, which changes more often.
    Family("Chrome WebView", "Android 14", PHONE, 12, 143, 28 / 3, 4, _CHROMIUM, "Mozilla/5.0 (Linux; Android 14; K; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/{v} Mobile Safari/537.36", 3),
    Family("Firefox", "Android 14", PHONE, 3, 146, 28, 5, _GECKO, "Mozilla/5.0 (Android 14; Mobile; rv:{v}.0) Gecko/{v}.0 Firefox/{v}.0"),
    Family("Safari", "iPadOS", TABLET, 1, 0, 45, 3, _WEBKIT, "Mozilla/5.0 (iPad; CPU OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{v} Mobile/15E148 Safari/604.1"),
)
BY_DEVICE = {
    kind: Weighted([f for f in FAMILIES if f.device == kind], [f.share for f in FAMILIES if f.device == kind])
    for kind in (COMPUTER, PHONE, TABLET)
}
# Apple's releases have no plain count.
_APPLE = ("18.5", "18.6", "26.0", "26.1", "26.2", "26.3", "26.4", "26.5", "26.6", "27.0", "27.1", "27.2", "27.3")
_APPLE_AT_START = 4
_PROGRAM_HELLO = {
    "python": ("t13d1812h1", "85036bcba153"),
    "curl": ("t13d3112h2", "e8f1e7e78f70"),
    "go": ("t13d1312h2", "f57a46bbacb6"),
    "java": ("t13d4312h1", "c7886603b240"),
    "node": ("t13d5911h1", "a33745022dd6"),
    "okhttp": ("t13d1613h2", "46e7e9700bed"),
    "cfnetwork": ("t13d2013h2", "a09f3c656075"),
}


class Agents:
    """Agents of a seed. Made once each and shared, so that memory is bounded by releases and not by events."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._browsers: dict[tuple[Family, int], Agent] = {}
        self._programs: dict[str, Agent] = {}

    def browser(self, family: Family, release: int) -> Agent:
        """A release of a browser, counted from the one of day 0."""
        key = (family, release)
        found = self._browsers.get(key)
        if found is None:
            version = _version(family, release)
            text = family.pattern.format(v=version, c=family.release + 18 + release)
            era = (family.release + release // family.parts) // family.era
            # Browsers of one engine and age greet alike, whatever their name.
            found = Agent(
                f'"{text}",{family.name} {version},{family.system},{family.device}',
                self._ja4(family.engine, family.name in ("Safari", "Firefox") and family.name or "Chromium", era),
            )
            self._browsers[key] = found
        return found

    def program(self, text: str, hello: str, device: str = "bot") -> Agent:
        """A library or app by its User-Agent, with the TLS stack that it uses."""
        key = f"{text}/{hello}"
        found = self._programs.get(key)
        if found is None:
            name = text.split("/")[0]
            found = Agent(f'"{text}",{name},Other,{device}', self._ja4(_PROGRAM_HELLO[hello], hello, 0))
            self._programs[key] = found
        return found

    def disguised(self, agent: Agent, hello: str) -> Agent:
        """A program that sends a browser's User-Agent with its own TLS stack."""
        return Agent(agent.columns, self._ja4(_PROGRAM_HELLO[hello], hello, 0))

    def _ja4(self, engine: tuple[str, str], *names: object) -> str:
        text = "/".join(map(str, (self.seed, *names)))
        return f"{engine[0]}_{engine[1]}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Updating:
    """A browser that updates itself: release by release, each some days late."""

    __slots__ = ("family", "lag_days", "release", "next_at")

    def __init__(self, chance: Chance, family: Family, at: int, lag_days: float) -> None:
        self.family = family
        self.lag_days = lag_days
        behind = int(chance.exponential(lag_days) / family.every)
        self.release = max(-2, newest(family, at) - behind)
        self.next_at = self._due(chance)

    def agent(self, agents: Agents, chance: Chance, now: int) -> Agent:
        """What it sends now."""
        while now >= self.next_at:
            self.release += 1
            self.next_at = self._due(chance)
        return agents.browser(self.family, self.release)

    def _due(self, chance: Chance) -> int:
        released = (self.release + 1) * self.family.every + _phase(self.family)
        return int((released + chance.exponential(self.lag_days)) * DAY_MS)


def newest(family: Family, now: int) -> int:
    """The newest release at that time, counted from the one of day 0."""
    return int((now / DAY_MS - _phase(family)) // family.every)


def _phase(family: Family) -> float:
    """Days from day 0 to the next release."""
    return (len(family.name) * 5 + family.release) % family.every


def _version(family: Family, release: int) -> str:
    if family.release == 0:
        return _APPLE[min(max(_APPLE_AT_START + release, 0), len(_APPLE) - 1)]
    if family.parts > 1:
        major, part = divmod(release, family.parts)
        return f"{family.release + major}.0.{7499 + 60 * major}.{40 + 69 * part}"
    return str(family.release + release)
