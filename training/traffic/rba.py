"""Reader of the public RBA data set (Wiefling et al. 2022, `rba-dataset.csv`): writes our form of login events.

`python -m traffic.rba FILE --out OUT [--split DIR]`. The file is 9 GB and is read as a stream. Its artefacts are dealt
with by name, each counted, so that nobody trains on them unknowingly:

- the one account that gathers all attempts at accounts that do not exist is dropped or, with `--unknown`, spread over
  names of its own;
- addresses in 10.0.0.0/8 and autonomous systems from 500000 are the anonymisation's: kept as opaque values, never to be
  looked up, and no network kind is claimed for them;
- User-Agent strings that hold the generator's URL, and Android versions that did not exist yet: the string is replaced
  by the parsed columns, which are right;
- region, city, hour, round-trip time and distance say nothing there: region, city and time of measurement are left out.

Splits by month: training up to July 2020, validation August, test September to November; take-overs are never part of
training. What lies between the months of two splits belongs to none.
"""

import argparse
import csv
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Iterator, TextIO

from .event import COLUMNS, RBA_COLUMNS, TENANT

NOBODY = "-4324475583306591935"
"""The account of attempts at accounts that do not exist: 14.0 of 31.3 million rows."""
ASN_INVENTED = 500_000
URL_MARKS = ("http://", "https://", "www.")
ANDROID_NEWEST = 11
"""At the end of the recording (February 2021)."""
FIELD_BYTES_MAX = 4096
SPLITS = (("train", "2020-01", "2020-07"), ("validate", "2020-08", "2020-08"), ("test", "2020-09", "2020-11"))


class Wrong(Exception):
    """The file is not in the data set's form; the message says where."""


@dataclass
class Reader:
    """Rows of the data set as rows of ours. `unknown`: keep attempts at accounts that do not exist. `label_addresses`:
    also take each row from an attack address for an attack."""

    unknown: bool = False
    label_addresses: bool = False
    found: Counter[str] = field(default_factory=Counter)

    def rows(self, lines: Iterable[str]) -> Iterator[dict[str, str]]:
        """Converted rows in the order of the file, which must be the order of time."""
        csv.field_size_limit(FIELD_BYTES_MAX)
        reader = csv.DictReader(lines)
        missing = [name for name in RBA_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise Wrong(f"column `{missing[0]}` is missing")
        last = ""
        try:
            for row in reader:
                self.found["rows"] += 1
                if None in row or None in row.values():
                    raise Wrong(f"line {reader.line_num}: not as many fields as columns")
                converted = self._convert(row, reader.line_num)
                if converted is None:
                    continue
                if converted["Login Timestamp"] < last:
                    raise Wrong(f"line {reader.line_num}: time goes back; sort the file first")
                last = converted["Login Timestamp"]
                self.found["kept"] += 1
                yield converted
        except csv.Error as error:
            raise Wrong(f"line {reader.line_num}: {error}") from error

    def _convert(self, row: dict[str, str], line: int) -> dict[str, str] | None:
        user, time = row["User ID"], row["Login Timestamp"]
        if len(time) == 19:
            time += ".000"
        if len(time) != 23 or time[4] != "-" or time[10] != " " or not time[:4].isdigit():
            raise Wrong(f"line {line}: `{time[:40]}` is no time of the form YYYY-MM-DD HH:MM:SS.mmm")
        for name in ("Login Successful", "Is Attack IP", "Is Account Takeover"):
            if row[name] not in ("True", "False"):
                raise Wrong(f"line {line}: `{name}` is neither True nor False")
        if user == NOBODY:
            self.found["attempts at unknown accounts"] += 1
            if not self.unknown or row["Login Successful"] == "True":
                return None
            # One name each: whoever tries names knows no name twice.
            user = f"nobody-{row['index']}"
        network = ""
        if row["IP Address"].startswith("10."):
            self.found["addresses in 10.0.0.0/8"] += 1
            network = "residential"
        if row["ASN"].isdigit() and int(row["ASN"]) >= ASN_INVENTED:
            self.found["invented autonomous systems"] += 1
        text = self._agent(row)
        self.found["with round-trip time"] += row["Round-Trip Time [ms]"] != ""
        takeover = row["Is Account Takeover"] == "True"
        attacker = "takeover" if takeover else "address" if self.label_addresses and row["Is Attack IP"] == "True" else ""
        self.found["take-overs"] += takeover
        return dict.fromkeys(COLUMNS, "") | {
            **{name: row[name] for name in RBA_COLUMNS},
            "Login Timestamp": time,
            "User ID": user,
            "Region": "",
            "City": "",
            "Round-Trip Time [ms]": "",
            "User Agent String": text,
            "Event Kind": "login",
            "Tenant": TENANT,
            "Network Kind": network,
            "Attacker Kind": attacker,
        }

    def _agent(self, row: dict[str, str]) -> str:
        """The User-Agent, or one made of the parsed columns where the string is the generator's."""
        text, system = row["User Agent String"], row["OS Name and Version"]
        android = system.removeprefix("Android ").split(".")[0] if system.startswith("Android ") else ""
        if any(mark in text for mark in URL_MARKS) and row["Device Type"] != "bot":
            self.found["agents with the generator's URL"] += 1
        elif android.isdigit() and int(android) > ANDROID_NEWEST:
            self.found["Android of the future"] += 1
            system = f"Android {ANDROID_NEWEST}"
        else:
            return text
        name, _, version = row["Browser Name and Version"].rpartition(" ")
        return f"Mozilla/5.0 ({system}) {name.replace(' ', '')}/{version}"


def split_of(time: str, attacker: str) -> str:
    """The split to which a row belongs, or nothing."""
    month = time[:7]
    for name, first, last in SPLITS:
        if first <= month <= last:
            return "" if name == "train" and attacker else name
    return ""


def convert(lines: Iterable[str], reader: Reader, out: TextIO) -> None:
    """Everything into one file."""
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(reader.rows(lines))


def convert_split(lines: Iterable[str], reader: Reader, folder: Path) -> None:
    """One file per split. Each account's history begins in the first one, so replay them one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as files:
        writers = {}
        for name, _, _ in SPLITS:
            out = files.enter_context(open(folder / f"{name}.csv", "w", encoding="utf-8", newline=""))
            writers[name] = csv.DictWriter(out, COLUMNS, lineterminator="\n")
            writers[name].writeheader()
        for row in reader.rows(lines):
            name = split_of(row["Login Timestamp"], row["Attacker Kind"])
            reader.found[f"split {name or 'none'}"] += 1
            if name:
                writers[name].writerow(row)


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="traffic.rba", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", help="one file with everything; `-` is standard output")
    parser.add_argument("--split", type=Path, help="folder for train.csv, validate.csv, test.csv")
    parser.add_argument("--unknown", action="store_true", help="keep failed attempts at accounts that do not exist, each under a name of its own")
    parser.add_argument("--label-addresses", action="store_true", help="take rows from attack addresses for attacks")
    options = parser.parse_args(arguments)
    if bool(options.out) == bool(options.split):
        parser.error("one of --out and --split is needed")
    reader = Reader(options.unknown, options.label_addresses)
    try:
        with open(options.file, encoding="utf-8", newline="") as lines, ExitStack() as files:
            if options.split:
                convert_split(lines, reader, options.split)
            elif options.out == "-":
                convert(lines, reader, sys.stdout)
            else:
                convert(lines, reader, files.enter_context(open(options.out, "w", encoding="utf-8", newline="")))
    except (OSError, UnicodeDecodeError, Wrong) as error:
        print(f"traffic.rba: `{options.file}`: {error}", file=sys.stderr)
        return 2
    for name, count in reader.found.items():
        print(f"{count:10} {name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
