#!/usr/bin/env python3
"""Writes the tiny geolocation databases of the tests into tests/data/geo/.

    python3 -m venv .venv && .venv/bin/pip install mmdb-writer==0.2.7 netaddr
    .venv/bin/python scripts/build-geo-test-data.py

The results are committed; run this only to change them. Everything comes from the table below: documentation ranges
(RFC 5737, RFC 3849) and documentation AS numbers (RFC 5398), so no entry says anything of a real network. The output
is the same byte for byte on every run. README.md in that folder is written from the same table.
"""

import hashlib
import ipaddress
import pathlib

import mmdb_writer
from mmdb_writer import MMDBWriter, MmdbF32
from netaddr import IPNetwork, IPSet

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "geo"
BUILD_EPOCH = 1_750_000_000  # 2025-06-15, the same on every run

# network, country, city, latitude, longitude, AS number, what it is for
PLACES = [
    ("192.0.2.0/25", "CH", "Zurich", 47.3769, 8.5417, 64496, "home of most test users"),
    ("192.0.2.128/26", "CH", "Geneva", 46.2044, 6.1432, 64496, "same operator and country, 224 km away"),
    ("192.0.2.192/26", "DE", "Berlin", 52.5200, 13.4050, 64497, "a neighbouring country"),
    ("198.51.100.0/25", "LK", "Colombo", 6.9271, 79.8612, 64498, "far away: impossible travel from Zurich"),
    ("198.51.100.128/26", "AU", "Sydney", -33.8688, 151.2093, 64499, "southern and far eastern coordinates"),
    ("198.51.100.192/26", "US", "New York", 40.7128, -74.0060, 64500, "western coordinates"),
    ("203.0.113.0/26", "DE", "Frankfurt am Main", 50.1109, 8.6821, 64501, "hosting, by the operator's name"),
    ("203.0.113.64/26", "NL", "Amsterdam", 52.3676, 4.9041, 64502, "VPN, by the operator's name"),
    ("203.0.113.128/26", "SE", "Stockholm", 59.3293, 18.0686, 64503, "VPN exits in .128/28, by the range list"),
    ("203.0.113.192/26", "RO", "Bucharest", 44.4268, 26.1025, 64504, "Tor exits in .192/29, by the range list"),
    ("2001:db8:1::/48", "CH", "Zurich", 47.3769, 8.5417, 64496, "home, over IPv6"),
    ("2001:db8:2::/48", "LK", "Colombo", 6.9271, 79.8612, 64498, "far away, over IPv6"),
    ("2001:db8:3::/48", "DE", "Frankfurt am Main", 50.1109, 8.6821, 64501, "hosting, over IPv6"),
    ("2001:db8:4::/48", "NL", "Amsterdam", 52.3676, 4.9041, 64502, "VPN, over IPv6"),
    ("2001:db8:5::/48", "RO", "Bucharest", 44.4268, 26.1025, 64504, "Tor exits in 2001:db8:5::/64, by the range list"),
    ("2001:db8:6::/48", "JP", None, None, None, None, "a country and nothing else"),
]

OPERATORS = {
    64496: "Example Telecom AG",
    64497: "Beispiel Netz GmbH",
    64498: "Lanka Example Broadband",
    64499: "Example Pacific Internet Pty Ltd",
    64500: "Example Cable, Inc.",
    64501: "Example Cloud Hosting GmbH",
    64502: "Example VPN B.V.",
    64503: "Example Access AB",
    64504: "Example Fiber SRL",
}

KINDS = [
    ("203.0.113.128/28", "vpn", "Example Privacy"),
    ("203.0.113.192/29", "tor", "Tor"),
    ("2001:db8:5::/64", "tor", "Tor"),
]


def kind_of(network, asn):
    """The kind that the gateway must find for the first address of a network."""
    first = ipaddress.ip_network(network)[1]
    for ranged, kind, _ in KINDS:
        if first in ipaddress.ip_network(ranged):
            return kind
    return {64501: "hosting", 64502: "vpn", None: "-"}.get(asn, "residential")


def database(name, version, kind, rows):
    writer = MMDBWriter(
        ip_version=version, database_type=kind, description="riskgate test data", ipv4_compatible=version == 6, int_type="u32"
    )
    for network, record in rows:
        writer.insert_network(IPSet([IPNetwork(network)]), record)
    writer.to_db_file(str(FOLDER / name))


def is_v4(network):
    return ":" not in network


def flat_city(place):
    """The schema of the ip-location-db city databases: flat, degrees as 32-bit floats."""
    _, country, city, latitude, longitude, _, _ = place
    return {
        "country_code": country, "state1": "", "city": city, "postcode": "",
        "latitude": MmdbF32(latitude), "longitude": MmdbF32(longitude), "timezone": "",
    }


def nested_city(place):
    """The schema of GeoLite2-City: nested, degrees as 64-bit floats."""
    _, country, city, latitude, longitude, _, _ = place
    return {
        "city": {"geoname_id": 1, "names": {"de": f"{city} (de)", "en": city}},
        "country": {"iso_code": country, "names": {"en": country}},
        "location": {"accuracy_radius": 20, "latitude": latitude, "longitude": longitude, "time_zone": "UTC"},
        "registered_country": {"iso_code": country, "names": {"en": country}},
    }


def csv_line(network, *rest):
    parsed = ipaddress.ip_network(network)
    quoted = [f'"{value}"' if "," in str(value) else str(value) for value in rest]
    return ",".join([str(parsed[0]), str(parsed[-1]), *quoted]) + "\n"


def write_readme():
    lines = [
        "# Geolocation databases of the tests",
        "",
        "Written by `scripts/build-geo-test-data.py`; change the table there, never the files. All addresses and AS",
        "numbers are reserved for documentation (RFC 5737, RFC 3849, RFC 5398).",
        "",
        "| file | schema | holds |",
        "| --- | --- | --- |",
        "| `country.mmdb` | flat (`country_code`) | countries, both IP versions |",
        "| `city-ipv4.mmdb`, `city-ipv6.mmdb` | flat, 32-bit degrees | cities and coordinates, one IP version each |",
        "| `geolite2-city.mmdb` | nested, 64-bit degrees | the same cities in MaxMind's schema, both IP versions |",
        "| `geolite2-asn.mmdb` | `autonomous_system_*` | the same operators in MaxMind's schema |",
        "| `asn.csv` | `first,last,asn,organization` | operators, both IP versions |",
        "| `network-kinds.csv` | `first,last,kind,provider` | VPN and Tor ranges |",
        "| `manifest.toml` | | version `test-1`, sizes and digests |",
        "",
        "Settings for all of it: `country.mmdb`, both `city-ipv*.mmdb`, `asn.csv`, `network-kinds.csv`.",
        "",
        "## What an address gives",
        "",
        "The kind is that of the network's first host; where it comes from a narrower range, the last column says so, and",
        "the rest of the network is residential.",
        "",
        "| network | first host | country | city | latitude, longitude | AS | organization | kind | for |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for network, country, city, latitude, longitude, asn, purpose in PLACES:
        first = ipaddress.ip_network(network)[1]
        point = "-" if latitude is None else f"{latitude}, {longitude}"
        lines.append(
            f"| `{network}` | `{first}` | {country} | {city or '-'} | {point} | {asn or '-'} | {OPERATORS.get(asn, '-')} "
            f"| {kind_of(network, asn)} | {purpose} |"
        )
    lines += ["", "Every other address, private and loopback ones included, gives no facts.", ""]
    (FOLDER / "README.md").write_text("\n".join(lines), encoding="utf-8")


def write_manifest(names):
    text = '# Written by scripts/build-geo-test-data.py.\nversion = "test-1"\n'
    for name in names:
        content = (FOLDER / name).read_bytes()
        text += (
            f'\n[[file]]\nname = "{name}"\nsource = "scripts/build-geo-test-data.py"\nsource_version = "1"\n'
            f'licence = "Apache-2.0"\nbytes = {len(content)}\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n'
        )
    (FOLDER / "manifest.toml").write_text(text, encoding="utf-8")


def main():
    mmdb_writer.time.time = lambda: BUILD_EPOCH
    FOLDER.mkdir(parents=True, exist_ok=True)
    cities = [place for place in PLACES if place[2]]

    database("country.mmdb", 6, "test-country", [(p[0], {"country_code": p[1]}) for p in PLACES])
    database("city-ipv4.mmdb", 4, "test-city-ipv4", [(p[0], flat_city(p)) for p in cities if is_v4(p[0])])
    database("city-ipv6.mmdb", 6, "test-city-ipv6", [(p[0], flat_city(p)) for p in cities if not is_v4(p[0])])
    database("geolite2-city.mmdb", 6, "GeoLite2-City", [(p[0], nested_city(p)) for p in cities])
    database(
        "geolite2-asn.mmdb", 6, "GeoLite2-ASN",
        [
            (p[0], {"autonomous_system_number": p[5], "autonomous_system_organization": OPERATORS[p[5]]})
            for p in cities
        ],
    )
    (FOLDER / "asn.csv").write_text("".join(csv_line(p[0], p[5], OPERATORS[p[5]]) for p in cities), encoding="utf-8")
    (FOLDER / "network-kinds.csv").write_text("".join(csv_line(*k) for k in KINDS), encoding="utf-8")
    write_manifest([
        "country.mmdb", "city-ipv4.mmdb", "city-ipv6.mmdb", "geolite2-city.mmdb", "geolite2-asn.mmdb", "asn.csv",
        "network-kinds.csv",
    ])
    write_readme()


if __name__ == "__main__":
    main()
