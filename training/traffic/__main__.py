"""`python -m traffic`: writes simulated login events as CSV, or says what is in them."""

import argparse
import csv
import sys
from itertools import chain

from .describe import describe
from .event import COLUMNS, Rows, write
from .plan import Plan, Wrong
from .simulation import START, Simulation


def main(arguments: list[str]) -> int:
    """Runs the command; the exit code is 2 for a plan that cannot be used."""
    parser = argparse.ArgumentParser(prog="traffic", description=__doc__)
    parser.add_argument("--seed", type=int, default=11, help="everything follows from it; seeds that differ modulo 48 share no address")
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--days", type=int, default=110)
    parser.add_argument("--start", default=START, help="date of the first day (default %(default)s)")
    parser.add_argument("--plan", default="default", help="plan by name (in traffic/plans) or path of a TOML file")
    parser.add_argument("--cold-start", action="store_true", help="a new installation: everybody's first login lies in the run")
    parser.add_argument("--out", default="-", help="file to write; `-` is standard output")
    parser.add_argument("--describe", action="store_true", help="print figures beside the published ones instead of events")
    parser.add_argument("--from", dest="source", help="with --describe: a file of events instead of a run")
    parser.add_argument("--artefacts", nargs="+", metavar="FILE", help="fingerprint audit: attackers against good people of one file, or good people of two")
    options = parser.parse_args(arguments)
    if options.artefacts:
        return _audit(options.artefacts)
    if options.source:
        with open(options.source, encoding="utf-8", newline="") as source:
            print("\n".join(describe(source)))
        return 0
    try:
        plan = Plan.read(options.plan)
    except Wrong as error:
        print(f"traffic: {error}", file=sys.stderr)
        return 2
    simulation = Simulation(plan, options.seed, options.users, options.days, options.cold_start, options.start)
    if options.describe:
        lines = chain([",".join(COLUMNS) + "\n"], Rows(simulation.start).lines(simulation.events()))
        print("\n".join(describe(lines)))
    elif options.out == "-":
        write(simulation.events(), simulation.start, sys.stdout)
    else:
        with open(options.out, "w", encoding="utf-8") as out:
            count = write(simulation.events(), simulation.start, out)
        print(f"{count} events", file=sys.stderr)
    return 0


def _audit(files: list[str]) -> int:
    """Prints the fingerprint audit; the exit code is 1 when something leaks."""
    from . import artefacts  # scikit-learn takes its time to load

    sources = []
    for name in files[:2]:
        with open(name, encoding="utf-8", newline="") as file:
            sources.append(list(csv.DictReader(file)))
    lines = list(artefacts.report(*sources))
    print("\n".join(lines))
    return int(any(line.endswith("LEAK") for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
