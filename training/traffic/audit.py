"""Reader of riskgate's own audit log (`docs/reference/audit.md`) with labels: rows for retraining.

`python -m traffic.audit LOG --labels LABELS.csv --now TIME --features OUT.npy --rows OUT.csv`. The features are those of
the record, which the model saw: nothing is replayed or guessed. Labels are what `riskgate label --export` writes.

Rules:

- A label names a decision, what it was (1 attack, 0 good), how that is known (`SOURCES`) and how surely, in percent: that
  is its weight. Of two labels for one decision the surer one counts; of equals the later line.
- A decision younger than `DELAY` is left out whatever is known, so that early labels do not stand for all.
- Without a label a decision is good if it scored low, was let through, succeeded, and nobody disputed it since; it is
  unknown, and left out, otherwise. Failed logins are never taken for attacks.
- Where only a share of decisions was going to be labelled (low-risk logins challenged at random), `propensity` says
  which share. With `undisputed` an attack found so weighs 1/propensity, for those that were not asked; without it
  good ones do as well, and nothing counts without a label.
"""

import argparse
import csv
import json
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Iterable, Iterator

import numpy as np

SCHEMA = Path(__file__).resolve().parents[2] / "conf" / "model" / "features.toml"
DELAY = timedelta(days=14)
"""How long a take-over may take to be noticed."""
LINE_BYTES_MAX = 1 << 20
LABELS_MAX = 5_000_000
WEIGHT_MAX = 200.0
"""One challenged login in two hundred; a smaller propensity would let single rows rule."""

RECORD_SCHEMAS = (1, 2)
"""Versions of the record (`AUDIT_SCHEMA`) whose features and results mean the same."""

# How a label is known (`Source` in src/domain/label.rs), and what it can say.
SOURCES: dict[str, tuple[int, ...]] = {
    "analyst": (0, 1),
    "review": (0, 1),
    "step_up": (0,),
    "account_locked": (1,),
    "credential_updated": (1,),
    "session_revoked": (1,),
    "factor_failed": (1,),
}


class Wrong(Exception):
    """A file is not in its form; the message says where."""


@dataclass(frozen=True)
class Label:
    """What is known of a decision."""

    attack: bool
    source: str
    confidence: int
    propensity: float
    attacker: str = ""

    @property
    def weight(self) -> float:
        """What a row with it counts beside one that is certain."""
        return self.confidence / 100


@dataclass(frozen=True)
class Example:
    """One row for training."""

    time: datetime
    id: str
    kind: str
    features: np.ndarray
    attack: bool
    source: str
    weight: float
    attacker: str
    model: str
    score: float


@dataclass
class Reader:
    """Examples from a log. `found` counts what was taken and what was left out, and why."""

    labels: dict[str, Label]
    now: datetime
    width: int
    undisputed: bool = True
    found: Counter[str] = field(default_factory=Counter)

    def examples(self, lines: Iterable[str]) -> Iterator[Example]:
        """In the order of the log. A line that is no record is counted and passed over: a log may end in a torn line."""
        for text in lines:
            self.found["lines"] += 1
            record = _record(text)
            if record is None:
                self.found["not a record"] += 1
                continue
            example = self._example(record)
            if example is not None:
                self.found["taken"] += 1
                self.found[f"taken: {example.kind} {'attack' if example.attack else 'good'}"] += 1
                yield example

    def _example(self, record: dict) -> Example | None:
        if record.get("class") != "scored" or record.get("status") != "scored" or record.get("schema") not in RECORD_SCHEMAS:
            return self._left("not scored")
        try:
            time = datetime.fromisoformat(str(record["time"]))
            row = np.array([np.nan if value is None else float(value) for value in record["features"]], np.float32)
        except (KeyError, TypeError, ValueError):
            return self._left("without time or features")
        if time.tzinfo is None or len(row) != self.width:
            return self._left("of another feature schema")
        if time > self.now - DELAY:
            return self._left("too young")
        label = self.labels.get(str(record.get("id")))
        if label is None:
            if not (self.undisputed and _looks_good(record)):
                return self._left("unknown")
            label = Label(False, "undisputed", 100, 1.0)
        weight = label.weight
        if label.attack or not self.undisputed:
            weight = min(WEIGHT_MAX, weight / label.propensity)
        return Example(
            time=time,
            id=str(record.get("id")),
            kind=kind_of(record),
            features=row,
            attack=label.attack,
            source=label.source,
            weight=weight,
            attacker=(label.attacker or label.source) if label.attack else "",
            model=str(record.get("model", "")),
            score=float(record.get("score") or 0.0),
        )

    def _left(self, why: str) -> None:
        self.found[f"left out: {why}"] += 1


def read_labels(lines: Iterable[str]) -> dict[str, Label]:
    """Labels by decision, from the CSV that `riskgate label --export` writes; a column `propensity` may be added to it."""
    reader = csv.DictReader(lines)
    for name in ("id", "label", "source", "confidence"):
        if name not in (reader.fieldnames or ()):
            raise Wrong(f"labels: column `{name}` is missing")
    found: dict[str, Label] = {}
    for row in reader:
        line = f"labels, line {reader.line_num}"
        if None in row.values():
            raise Wrong(f"{line}: not as many fields as columns")
        if row["source"] not in SOURCES:
            raise Wrong(f"{line}: unknown source `{row['source'][:40]}`")
        if row["label"] not in {str(says) for says in SOURCES[row["source"]]}:
            raise Wrong(f"{line}: source `{row['source']}` cannot say `{row['label'][:10]}`")
        confidence, propensity = _percent(row["confidence"], line), _share(row.get("propensity") or "1", line)
        if len(found) == LABELS_MAX:
            raise Wrong(f"{line}: more than {LABELS_MAX} labels")
        label = Label(row["label"] == "1", row["source"], confidence, propensity, row.get("attacker_kind") or "")
        known = found.get(row["id"])
        if known is None or label.confidence >= known.confidence:
            found[row["id"]] = label
    return found


def kind_of(record: dict) -> str:
    """The model's kind of request, as `RequestKind::of` in src/domain/kind.rs has it: `login`, `token` or `m2m`."""
    if record.get("door") != "token":
        return "login"
    grant = record.get("grant_type", "")
    if grant == "client_credentials":
        return "m2m"
    return "login" if grant == "password" else "token"


def schema_width(path: Path = SCHEMA) -> int:
    """How many features a record must hold."""
    return len(tomllib.loads(path.read_text(encoding="utf-8"))["feature"])


def write(examples: Iterable[Example], features: Path, rows: Path) -> int:
    """Features as NumPy float32 [N, F] and one CSV line each, in the same order; returns N."""
    blocks: list[np.ndarray] = []
    with open(rows, "w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("time", "decision", "kind", "label", "source", "weight", "attacker_kind", "model", "score"))
        for e in examples:
            blocks.append(e.features)
            writer.writerow((e.time.isoformat(), e.id, e.kind, int(e.attack), e.source, f"{e.weight:.6g}", e.attacker, e.model, e.score))
    np.save(features, np.stack(blocks) if blocks else np.zeros((0, 0), np.float32))
    return len(blocks)


def _looks_good(record: dict) -> bool:
    """Low, let through and right; not asked for a second factor, which would be a label of its own."""
    return (
        record.get("level") == "low"
        and record.get("verdict") == "allow"
        and record.get("action") == "forwarded"
        and record.get("outcome") in ("succeeded", "code_issued", "tokens_issued")
    )


def _record(text: str) -> dict | None:
    if len(text) > LINE_BYTES_MAX:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _percent(text: str, line: str) -> int:
    # At most three digits, all of ASCII: `int` takes more than a percentage is written with.
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else 0
    if not 0 < value <= 100:
        raise Wrong(f"{line}: `{text[:20]}` is no percentage from 1 to 100")
    return value


def _share(text: str, line: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1.0:
        raise Wrong(f"{line}: `{text[:20]}` is not above 0 and at most 1")
    return value


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="traffic.audit", description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--now", help="time up to which labels are in (RFC 3339; default: the present)")
    parser.add_argument("--labelled-only", action="store_true", help="take nothing without a label, and weigh by propensity throughout")
    parser.add_argument("--features", type=Path, required=True, help="NumPy file to write")
    parser.add_argument("--rows", type=Path, required=True, help="CSV file to write")
    options = parser.parse_args(arguments)
    try:
        now = datetime.fromisoformat(options.now) if options.now else datetime.now(timezone.utc)
        if now.tzinfo is None:
            raise Wrong(f"`{options.now}` has no time zone")
        with open(options.labels, encoding="utf-8", newline="") as lines:
            labels = read_labels(lines)
        reader = Reader(labels, now, schema_width(), not options.labelled_only)
        with open(options.log, encoding="utf-8", errors="replace") as lines:
            write(reader.examples(lines), options.features, options.rows)
    except (OSError, ValueError, Wrong) as error:
        print(f"traffic.audit: {error}", file=sys.stderr)
        return 2
    for name, count in sorted(reader.found.items()):
        print(f"{count:10} {name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
