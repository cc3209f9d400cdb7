"""The address plan: countries, cities, operators with prefixes, and who speaks from where.

Made from the seed, so that nothing is downloaded. Seeds that differ modulo `SLOTS` have no address and no autonomous
system in common. Names and coordinates of cities are real; operators are invented and their prefixes are not theirs.
"""

from dataclasses import dataclass, field
from itertools import count
from typing import Iterator

from .chance import Chance, Weighted, stream

SLOTS = 48
"""How many seeds can have addresses of their own."""
POOL_SIZE = 4096
"""Addresses of one pool (a /20), which is in one place."""
BARE_LANGUAGE = 0.12
"""Browsers whose first language names no region."""
ASN_FIRST, ASN_STEP = 1000, 1000
"""Autonomous systems of slot n: the thousand from `ASN_FIRST + ASN_STEP * n`."""

RESIDENTIAL, MOBILE, VPN, HOSTING, TOR = "residential", "mobile", "vpn", "hosting", "tor"

# Country: (share of attackers' own places, UTC offset in hours, languages with weights, cities).
COUNTRIES: dict[str, tuple[float, int, dict[str, float], list[tuple[str, str, float, float]]]] = {
    "NO": (0.3, 1, {"nb-NO": 8, "nn-NO": 1, "en-US": 2}, [("Oslo", "Oslo", 59.9139, 10.7522), ("Vestland", "Bergen", 60.393, 5.3242), ("Trondelag", "Trondheim", 63.4305, 10.3951), ("Rogaland", "Stavanger", 58.97, 5.7331), ("Troms", "Tromso", 69.6496, 18.956)]),
    "SE": (0.4, 1, {"sv-SE": 9, "en-US": 2}, [("Stockholm", "Stockholm", 59.3293, 18.0686), ("Vastra Gotaland", "Gothenburg", 57.7089, 11.9746), ("Skane", "Malmo", 55.605, 13.0038), ("Uppsala", "Uppsala", 59.8586, 17.6389)]),
    "DK": (0.2, 1, {"da-DK": 9, "en-GB": 1}, [("Hovedstaden", "Copenhagen", 55.6761, 12.5683), ("Midtjylland", "Aarhus", 56.1629, 10.2039), ("Nordjylland", "Aalborg", 57.0488, 9.9217)]),
    "FI": (0.2, 2, {"fi-FI": 9, "sv-FI": 1, "en-US": 1}, [("Uusimaa", "Helsinki", 60.1699, 24.9384), ("Pirkanmaa", "Tampere", 61.4978, 23.761), ("Varsinais-Suomi", "Turku", 60.4518, 22.2666)]),
    "DE": (1.2, 1, {"de-DE": 8, "en-US": 1, "tr-TR": 0.4}, [("Berlin", "Berlin", 52.52, 13.405), ("Hamburg", "Hamburg", 53.5511, 9.9937), ("Bavaria", "Munich", 48.1351, 11.582), ("Hesse", "Frankfurt am Main", 50.1109, 8.6821), ("North Rhine-Westphalia", "Cologne", 50.9375, 6.9603), ("Saxony", "Leipzig", 51.3397, 12.3731)]),
    "NL": (1.5, 1, {"nl-NL": 7, "en-US": 2}, [("North Holland", "Amsterdam", 52.3676, 4.9041), ("South Holland", "Rotterdam", 51.9244, 4.4777), ("Utrecht", "Utrecht", 52.0907, 5.1214)]),
    "BE": (0.3, 1, {"nl-BE": 5, "fr-BE": 4, "en-US": 1}, [("Brussels", "Brussels", 50.8503, 4.3517), ("Flanders", "Antwerp", 51.2194, 4.4025), ("Wallonia", "Liege", 50.6326, 5.5797)]),
    "FR": (0.9, 1, {"fr-FR": 9, "en-US": 1}, [("Ile-de-France", "Paris", 48.8566, 2.3522), ("Auvergne-Rhone-Alpes", "Lyon", 45.764, 4.8357), ("Provence-Alpes-Cote d'Azur", "Marseille", 43.2965, 5.3698), ("Occitanie", "Toulouse", 43.6047, 1.4442), ("Brittany", "Rennes", 48.1173, -1.6778)]),
    "GB": (0.9, 0, {"en-GB": 10, "en-US": 2}, [("England", "London", 51.5074, -0.1278), ("England", "Manchester", 53.4808, -2.2426), ("England", "Birmingham", 52.4862, -1.8904), ("Scotland", "Edinburgh", 55.9533, -3.1883), ("Wales", "Cardiff", 51.4816, -3.1791)]),
    "IE": (0.3, 0, {"en-IE": 6, "en-GB": 3, "en-US": 1}, [("Leinster", "Dublin", 53.3498, -6.2603), ("Munster", "Cork", 51.8985, -8.4756)]),
    "ES": (0.6, 1, {"es-ES": 9, "ca-ES": 1, "en-GB": 1}, [("Madrid", "Madrid", 40.4168, -3.7038), ("Catalonia", "Barcelona", 41.3874, 2.1686), ("Andalusia", "Seville", 37.3891, -5.9845), ("Valencia", "Valencia", 39.4699, -0.3763)]),
    "IT": (0.6, 1, {"it-IT": 10, "en-US": 1}, [("Lombardy", "Milan", 45.4642, 9.19), ("Lazio", "Rome", 41.9028, 12.4964), ("Campania", "Naples", 40.8518, 14.2681), ("Piedmont", "Turin", 45.0703, 7.6869)]),
    "PL": (0.8, 1, {"pl-PL": 9, "en-US": 1, "uk-UA": 0.5}, [("Mazowieckie", "Warsaw", 52.2297, 21.0122), ("Malopolskie", "Krakow", 50.0647, 19.945), ("Pomorskie", "Gdansk", 54.352, 18.6466), ("Dolnoslaskie", "Wroclaw", 51.1079, 17.0385)]),
    "RO": (1.2, 2, {"ro-RO": 9, "en-US": 2}, [("Bucuresti", "Bucharest", 44.4268, 26.1025), ("Cluj", "Cluj-Napoca", 46.7712, 23.6236), ("Iasi", "Iasi", 47.1585, 27.6014)]),
    "UA": (1.6, 2, {"uk-UA": 6, "ru-UA": 2, "en-US": 1}, [("Kyiv", "Kyiv", 50.4501, 30.5234), ("Lviv", "Lviv", 49.8397, 24.0297), ("Odesa", "Odesa", 46.4825, 30.7233)]),
    "RU": (3.0, 3, {"ru-RU": 10, "en-US": 1}, [("Moscow", "Moscow", 55.7558, 37.6173), ("Saint Petersburg", "Saint Petersburg", 59.9311, 30.3609), ("Novosibirsk", "Novosibirsk", 55.0084, 82.9357)]),
    "TR": (1.2, 3, {"tr-TR": 10, "en-US": 1}, [("Istanbul", "Istanbul", 41.0082, 28.9784), ("Ankara", "Ankara", 39.9334, 32.8597), ("Izmir", "Izmir", 38.4237, 27.1428)]),
    "US": (3.0, -6, {"en-US": 12, "es-US": 1}, [("New York", "New York", 40.7128, -74.006), ("California", "Los Angeles", 34.0522, -118.2437), ("Illinois", "Chicago", 41.8781, -87.6298), ("Texas", "Dallas", 32.7767, -96.797), ("Virginia", "Ashburn", 39.0438, -77.4874), ("Washington", "Seattle", 47.6062, -122.3321), ("Florida", "Miami", 25.7617, -80.1918)]),
    "CA": (0.5, -5, {"en-CA": 7, "fr-CA": 2, "en-US": 2}, [("Ontario", "Toronto", 43.6532, -79.3832), ("Quebec", "Montreal", 45.5017, -73.5673), ("British Columbia", "Vancouver", 49.2827, -123.1207)]),
    "BR": (2.2, -3, {"pt-BR": 12, "en-US": 1}, [("Sao Paulo", "Sao Paulo", -23.5505, -46.6333), ("Rio de Janeiro", "Rio de Janeiro", -22.9068, -43.1729), ("Minas Gerais", "Belo Horizonte", -19.9167, -43.9345)]),
    "IN": (2.2, 5, {"en-IN": 6, "en-US": 3, "hi-IN": 1, "en-GB": 2}, [("Maharashtra", "Mumbai", 19.076, 72.8777), ("Karnataka", "Bengaluru", 12.9716, 77.5946), ("Delhi", "Delhi", 28.7041, 77.1025)]),
    "ID": (1.6, 7, {"id-ID": 8, "en-US": 2}, [("Jakarta", "Jakarta", -6.2088, 106.8456), ("East Java", "Surabaya", -7.2575, 112.7521)]),
    "VN": (1.6, 7, {"vi-VN": 9, "en-US": 1}, [("Hanoi", "Hanoi", 21.0278, 105.8342), ("Ho Chi Minh", "Ho Chi Minh City", 10.8231, 106.6297)]),
    "NG": (1.4, 1, {"en-NG": 5, "en-GB": 3, "en-US": 3}, [("Lagos", "Lagos", 6.5244, 3.3792), ("Abuja", "Abuja", 9.0765, 7.3986)]),
    "CN": (2.0, 8, {"zh-CN": 10, "en-US": 1}, [("Beijing", "Beijing", 39.9042, 116.4074), ("Guangdong", "Shenzhen", 22.5431, 114.0579), ("Shanghai", "Shanghai", 31.2304, 121.4737)]),
    "SG": (0.8, 8, {"en-SG": 5, "zh-CN": 2, "en-US": 3}, [("Singapore", "Singapore", 1.3521, 103.8198)]),
    "JP": (0.5, 9, {"ja-JP": 8, "en-US": 1}, [("Tokyo", "Tokyo", 35.6762, 139.6503), ("Osaka", "Osaka", 34.6937, 135.5023)]),
    "AU": (0.4, 10, {"en-AU": 9, "en-GB": 1, "en-US": 2}, [("New South Wales", "Sydney", -33.8688, 151.2093), ("Victoria", "Melbourne", -37.8136, 144.9631)]),
}
# Where a deployment's people may live; the seed picks one of them as home.
HOMES = ("NO", "SE", "DK", "FI", "DE", "NL", "BE", "FR", "GB", "IE", "ES", "IT", "PL")


@dataclass(frozen=True)
class City:
    """A place."""

    country: str
    region: str
    name: str
    latitude: float
    longitude: float


@dataclass(slots=True)
class Pool:
    """A /20 of one operator in one place; `where` and `listing` are what address databases say of it, as CSV."""

    operator: "Operator"
    city: City
    base: int
    where: str
    listing: str


@dataclass(eq=False, slots=True)
class Operator:
    """An autonomous system: what it really is, and its pools by city."""

    asn: int
    country: str
    kind: str
    weight: float
    pools: dict[City, list[Pool]] = field(default_factory=dict)

    def pool(self, chance: Chance, city: City | None = None) -> Pool:
        """A pool of that city, or of any when there is none."""
        found = self.pools.get(city) if city else None
        if found is None:
            found = self.pools[chance.choice(list(self.pools))]
        return found[0] if len(found) == 1 else chance.choice(found)

    def address(self, chance: Chance, city: City | None = None) -> "Address":
        """Some address of it."""
        return Address.of(self.pool(chance, city), chance)


class Address:
    """An IPv4 address. `flagged`: known for attacks, as the data set's column `Is Attack IP` means it."""

    __slots__ = ("ip", "pool", "flagged")

    def __init__(self, ip: str, pool: Pool) -> None:
        self.ip = ip
        self.pool = pool
        self.flagged = False

    @staticmethod
    def of(pool: Pool, chance: Chance) -> "Address":
        """A random host of the pool; network and broadcast ends of each /24 are left out for everybody."""
        low = chance.randrange(POOL_SIZE >> 8)
        value = pool.base + (low << 8) + 1 + chance.randrange(254)
        return Address(dotted(value), pool)


class AddressPlan:
    """All operators of a seed."""

    def __init__(self, seed: int, chance: Chance, places) -> None:
        self.seed = seed
        self.home = chance.choice(HOMES)
        self.operators: list[Operator] = []
        self.listed_vpn = places.listed_vpn
        self.misplaced = places.misplaced
        self.own_address = places.carrier_own_address
        self._blocks = _blocks(seed % SLOTS, chance)
        self._asns = count(ASN_FIRST + ASN_STEP * (seed % SLOTS))
        cities = {cc: [City(cc, *city) for city in row[3]] for cc, row in COUNTRIES.items()}
        self.cities = cities
        for cc in COUNTRIES:
            large = cc == self.home
            self._national(chance, cc, RESIDENTIAL, 7 if large else 3, 3 if large else 1)
            self._national(chance, cc, MOBILE, 3, 2 if large else 1)
            self._national(chance, cc, HOSTING, 4 if cc in ("US", "DE", "NL", "FR") else 1, 1)
        for _ in range(12):
            self._vpn(chance)
        for _ in range(4):
            cc = chance.choice(("DE", "NL", "US", "RO", "SE"))
            self._operator(chance, cc, TOR, [chance.choice(cities[cc])], 1)
        self._by: dict[tuple[str, str], Weighted] = {}
        for cc in COUNTRIES:
            for kind in (RESIDENTIAL, MOBILE, HOSTING):
                found = [o for o in self.operators if o.kind == kind and o.country == cc]
                self._by[cc, kind] = Weighted(found, [o.weight for o in found])
        self.vpns = [o for o in self.operators if o.kind == VPN]
        self.tors = [o for o in self.operators if o.kind == TOR]
        self.attack_countries = Weighted(list(COUNTRIES), [row[0] for row in COUNTRIES.values()])
        self._languages = {cc: Weighted(list(row[2]), list(row[2].values())) for cc, row in COUNTRIES.items()}
        # Carriers put thousands behind few addresses.
        self._egress: dict[tuple[int, City | None], list[Address]] = {}

    def operator(self, chance: Chance, country: str, kind: str) -> Operator:
        """An operator of that kind, the large ones more often."""
        return self._by[country, kind].pick(chance)

    def carrier_address(self, chance: Chance, carrier: Operator, city: City) -> Address:
        """An address of a mobile carrier: one of its own for this connection, or one of the few that thousands share."""
        if chance.happens(self.own_address):
            return carrier.address(chance, city)
        return chance.choice(self._shared(carrier, city, 24))

    def somewhere(self, chance: Chance, country: str, kind: str, city: City | None = None) -> Address:
        """An address of some operator of that kind; behind a carrier, one of its shared ones as for everybody."""
        operator = self.operator(chance, country, kind)
        if kind == MOBILE:
            return self.carrier_address(chance, operator, city or chance.choice(self.cities[country]))
        return operator.address(chance, city)

    def vpn_exit(self, chance: Chance, provider: Operator, country: str) -> Address:
        """An exit of a VPN provider in that country, or elsewhere when it has none there."""
        cities = [city for city in provider.pools if city.country == country] or list(provider.pools)
        return chance.choice(self._shared(provider, chance.choice(cities), 12))

    def tor_exit(self, chance: Chance) -> Address:
        """A Tor exit."""
        operator = chance.choice(self.tors)
        return chance.choice(self._shared(operator, next(iter(operator.pools)), 60))

    def language(self, chance: Chance, country: str) -> str:
        """A first language tag that browsers in that country send; some send it without a region."""
        tag = self._languages[country].pick(chance)
        return tag[:2] if chance.happens(BARE_LANGUAGE) else tag

    def offset(self, country: str) -> int:
        """Hours of local time before UTC."""
        return COUNTRIES[country][1]

    def _shared(self, operator: Operator, city: City, size: int) -> list[Address]:
        key = (operator.asn, city)
        found = self._egress.get(key)
        if found is None:
            # The same ones whoever asks first.
            chance = stream(self.seed, "egress", operator.asn, city.name)
            found = [operator.address(chance, city) for _ in range(size)]
            self._egress[key] = found
        return found

    def _national(self, chance: Chance, cc: str, kind: str, operators: int, pools_per_city: int) -> None:
        for rank in range(operators):
            served = self.cities[cc]
            # Carriers hand out addresses at one or two places for the whole country.
            if kind == MOBILE:
                served = chance.sample(served, min(2, len(served)))
            self._operator(chance, cc, kind, served, pools_per_city if rank < 3 else 1, 1.0 / (1 + rank) ** 1.2)

    def _vpn(self, chance: Chance) -> None:
        cc = chance.choice(("NL", "SE", "RO", "US", "DE"))
        served = {self.home, *chance.sample(list(COUNTRIES), 11)}
        self._operator(chance, cc, VPN, [chance.choice(self.cities[c]) for c in sorted(served)], 1)

    def _operator(self, chance: Chance, cc: str, kind: str, cities: list[City], pools: int, weight: float = 1.0) -> None:
        operator = Operator(next(self._asns), cc, kind, weight)
        for city in cities:
            operator.pools[city] = [self._pool(chance, operator, city) for _ in range(pools)]
        self.operators.append(operator)

    def _pool(self, chance: Chance, operator: Operator, city: City) -> Pool:
        shown = city
        if chance.happens(self.misplaced):
            shown = chance.choice(self.cities[city.country])
        # Lists of VPN exits are incomplete: the rest look like the data centres that they are in.
        kind = operator.kind
        if kind == VPN and not chance.happens(self.listed_vpn):
            kind = HOSTING
        where = f"{city.country},{shown.region},{shown.name},{operator.asn}"
        listing = f"{kind},{shown.latitude:.4f},{shown.longitude:.4f}"
        return Pool(operator, city, next(self._blocks), where, listing)


def dotted(value: int) -> str:
    """An IPv4 address as text."""
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


def _blocks(slot: int, chance: Chance) -> Iterator[int]:
    """The /20s of a slot, in random order: from every 48th /16 of public unicast space, so that slots look alike."""
    wide = [n for n in range(1 << 8, 224 << 8) if _public(n)][slot::SLOTS]
    blocks = [(n << 16) + (part << 12) for n in wide for part in range(16)]
    chance.shuffle(blocks)
    return iter(blocks)


def _public(prefix16: int) -> bool:
    first, second = prefix16 >> 8, prefix16 & 255
    if first in (10, 127) or (first == 100 and 64 <= second < 128) or (first == 172 and 16 <= second < 32):
        return False
    return (first, second) not in {(169, 254), (192, 0), (192, 88), (192, 168), (198, 18), (198, 19), (198, 51), (203, 0)}
