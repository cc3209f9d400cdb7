#!/usr/bin/env python3
"""Turns the packed ranges of the `iporigin` package into the CSV that riskgate loads.

    build-network-kinds.py RANGES_BIN OUTPUT_CSV

A line is `first,last,kind,provider`, kind one of hosting, vpn, tor. Only the standard library is used, and nothing of
the package is executed: its data file is read as bytes.

Left out on purpose: providers whose ranges come, in part or whole, from lists that carry no licence (the package's own
NOTICE says so). Their networks are still recognized by the name of the organization, in the gateway.
"""

import ipaddress
import struct
import sys

HEADER = struct.Struct("<8sHQHII")
V4_RECORD = struct.Struct("<IIH")
V6_RECORD = struct.Struct("<16s16sH")

# A person behind a crawler's or a content network's address is behind a data centre all the same.
KINDS = {"hosting": "hosting", "cdn": "hosting", "bot": "hosting", "vpn": "vpn", "tor": "tor"}

NO_LICENCE = {
    "Akamai", "BunnyCDN", "BuyVM", "CDN77", "Cogent", "Contabo", "DataCamp", "GTHost", "GleSYS", "Melbicom", "Scalaxy",
    "Vercel",
}


def ranges(blob):
    """Yields (first, last, label) for every range, IPv4 first."""
    magic, version, _built_at, label_count, v4_count, v6_count = HEADER.unpack_from(blob, 0)
    if magic != b"IPORIGIN" or version != 1:
        raise SystemExit("error: not a version 1 range file")
    offset = HEADER.size
    labels = []
    for _ in range(label_count):
        (length,) = struct.unpack_from("<H", blob, offset)
        offset += 2
        provider, _, kind = blob[offset : offset + length].decode("utf-8").partition("\t")
        labels.append((provider, kind))
        offset += length
    for _ in range(v4_count):
        first, last, label = V4_RECORD.unpack_from(blob, offset)
        offset += V4_RECORD.size
        yield ipaddress.IPv4Address(first), ipaddress.IPv4Address(last), labels[label]
    for _ in range(v6_count):
        first, last, label = V6_RECORD.unpack_from(blob, offset)
        offset += V6_RECORD.size
        yield ipaddress.IPv6Address(first), ipaddress.IPv6Address(last), labels[label]
    if offset != len(blob):
        raise SystemExit("error: the range file does not end where its header says")


def main():
    if len(sys.argv) != 3:
        raise SystemExit("usage: build-network-kinds.py RANGES_BIN OUTPUT_CSV")
    with open(sys.argv[1], "rb") as source:
        blob = source.read()
    kept = dropped = 0
    with open(sys.argv[2], "w", encoding="utf-8", newline="\n") as output:
        for first, last, (provider, kind) in ranges(blob):
            if provider in NO_LICENCE:
                dropped += 1
                continue
            output.write(f"{first},{last},{KINDS[kind]},{provider}\n")
            kept += 1
    print(f"    {kept} ranges kept, {dropped} left out for their licence")


if __name__ == "__main__":
    main()
