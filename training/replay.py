"""Login events through the gateway's own code: raw events in, rows for the trainer out.

Runs `riskgate model eval` on a file of events and reads back what it wrote, together with the columns of the events that
the trainer groups by. Holds no definition of a feature: those are the gateway's. What was computed once is kept in
`training/.cache/` under the digest of everything that it depends on.
"""

import csv
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from datetime import timezone
from pathlib import Path
from typing import Any

import numpy as np

import additive
import levels

CACHE = additive.ROOT / "training" / ".cache"
KINDS = ("login", "token", "m2m")


@dataclass(frozen=True)
class Traffic:
    """What to generate: the arguments of the generator."""

    seed: int
    users: int
    days: int
    options: tuple[str, ...] = ()


def traffic_of(plan: Any, seed: int, *options: str) -> Traffic:
    """One seed of what a plan (train.Plan) generates."""
    return Traffic(seed, plan.traffic["users"], plan.traffic["days"], options)


@dataclass(frozen=True)
class Rows:
    """One row per event: what the gateway computed, and what the generator knows."""

    features: np.ndarray
    probability: np.ndarray
    verdict: np.ndarray
    kind: np.ndarray
    label: np.ndarray
    attacker: np.ndarray
    cohort: np.ndarray
    logins: np.ndarray
    user: np.ndarray
    group: np.ndarray
    time: np.ndarray
    event: np.ndarray
    variant: np.ndarray
    succeeded: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def where(self, mask: np.ndarray) -> "Rows":
        """The rows that `mask` selects."""
        return Rows(**{name: array[mask] for name, array in vars(self).items()})

    @staticmethod
    def joined(parts: list["Rows"]) -> "Rows":
        """All rows of all parts."""
        return Rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def binary() -> Path:
    """The gateway's program: `RISKGATE_BIN`, else the newest build."""
    given = os.environ.get("RISKGATE_BIN")
    if given:
        return Path(given)
    built = [additive.ROOT / "target" / profile / "riskgate" for profile in ("release", "debug")]
    found = [path for path in built if path.exists()]
    if not found:
        sys.exit("there is no riskgate program; build it with `cargo build --release --package riskgate`")
    return max(found, key=lambda path: path.stat().st_mtime)


def digest(*parts: bytes | Path) -> str:
    """SHA-256 over bytes and the contents of files and folders."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
            for file in files:
                total.update(file.read_bytes())
        else:
            total.update(part)
        total.update(b"\0")
    return total.hexdigest()


def sources() -> list[Path]:
    """What the generator is made of."""
    folder = additive.ROOT / "training" / "traffic"
    return sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".toml", ".csv") and "__pycache__" not in p.parts)


def generated(traffic: Traffic) -> Path:
    """The file of events of `traffic`, made unless it is there."""
    arguments = [f"--seed={traffic.seed}", f"--users={traffic.users}", f"--days={traffic.days}", *traffic.options]
    name = digest(json.dumps(arguments).encode(), *sources())[:16]
    path = CACHE / f"events-{traffic.seed}-{name}.csv"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as out:
            subprocess.run(
                [sys.executable, "-m", "traffic", *arguments], cwd=additive.ROOT / "training", stdout=out, check=True
            )
        part.rename(path)
    return path


def outputs(events: Path, model: Path) -> tuple[Path, Path]:
    """Where scores and features of `events` under `model` are put."""
    name = digest(events.name.encode(), model, binary(), json.dumps(levels.CONTENT).encode())[:16]
    return CACHE / f"scores-{name}.csv", CACHE / f"features-{name}.npy"


def replayed(events: Path, model: Path) -> tuple[Path, Path]:
    """Scores and features of `events` under the model in `model`, computed unless they are there. A policy beside the model
    takes the place of the shipped one."""
    program = binary()
    scores, features = outputs(events, model)
    if not (scores.exists() and features.exists()):
        CACHE.mkdir(exist_ok=True)
        part = scores.with_suffix(".part")
        own = model / "policy.toml"
        policy = own if own.exists() else levels.POLICY
        subprocess.run(
            [program, "model", "eval", model, "--evaluator", "native", "--policy", policy, "--events", events, "--scores", part, "--features", features],
            cwd=additive.ROOT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        part.rename(scores)
    return scores, features


def seconds(text: str) -> float:
    """Seconds since the epoch of a timestamp in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def rows(events: Path, model: Path) -> Rows:
    """All rows of `events`, replayed under `model`."""
    with np.load(packed(events, model)) as found:
        arrays = {name: found[name] for name in found.files}
    return Rows(**{name: np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array for name, array in arrays.items()})


def packed(events: Path, model: Path) -> Path:
    """The rows of `events` under `model` as a file, made unless it is there. What it was made from is removed: it is as
    large again."""
    scores, features = outputs(events, model)
    found = features.with_suffix(".npz")
    if not found.exists():
        replayed(events, model)
        part = found.with_suffix(".part.npz")
        arrays = vars(read(events, scores, features))
        np.savez(part, **{name: np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array for name, array in arrays.items()})
        part.rename(found)
        scores.unlink()
        features.unlink()
    return found


def read(events: Path, scores_file: Path, features_file: Path) -> Rows:
    """The rows of one replay, with what the events say of them."""
    features = np.load(features_file)
    with scores_file.open(newline="") as file:
        found = list(csv.DictReader(file))
    if len(found) != len(features):
        sys.exit(f"{scores_file} has {len(found)} rows and {features_file} {len(features)}")
    with events.open(newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        wanted = ("Login Timestamp", "Campaign", "User ID", "Variant", "Login Successful")
        at = {name: header.index(name) for name in wanted if name in header}
        raw = [tuple(row[at[name]] if name in at else "" for name in wanted) for row in reader]
    # What the model was not asked about has no row: the step before was refused, or its decision stands.
    asked = ~np.isnan(features).all(axis=1)
    features = features[asked]
    found = [row for row, is_asked in zip(found, asked) if is_asked]
    index = np.array([int(row["index"]) for row in found])
    group = [raw[i][1] or f"user {raw[i][2]}" for i in index]
    return Rows(
        features=np.array(features, np.float32),
        probability=np.array([float(row["probability"] or "nan") for row in found]),
        verdict=np.array([row["verdict"] for row in found]),
        kind=np.array([row["kind"] for row in found]),
        label=np.array([row["label"] in ("1", "True", "true", "attack") for row in found]),
        attacker=np.array([row["attacker_kind"] for row in found]),
        cohort=np.array([row["cohort"] for row in found]),
        logins=np.array([int(row["logins"] or 0) for row in found]),
        user=np.array([row["user"] for row in found]),
        group=np.array(group),
        time=np.array([seconds(raw[i][0]) for i in index]),
        event=index,
        variant=np.array([raw[i][3] for i in index]),
        succeeded=np.array([raw[i][4] == "True" for i in index]),
    )


def events_of(path: Path) -> list[dict[str, str]]:
    """The raw events."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
