#!/usr/bin/env python3
"""Chooses the records of the tests from audit logs: make.py DEMO.jsonl [OTHER.jsonl ...] (in the root of the source).

The first log is that of the demo, of the others every record at the login door is taken: one of a gateway whose Redis is
away (state.url = "redis://127.0.0.1:1") and one without a model (model.dir = a folder that is empty). Then:
BLESS=1 cargo test --test analyst golden
"""

import json
import pathlib
import shutil
import sys

HERE = pathlib.Path("tests/data/records")
# Of many records alike every so many, and so many at most.
EVERY = {"native": 2, "provenance": 3}
GUESSES_MAX = 5
PASSED_MAX = 3


def chosen(lines):
    seen = {}
    for line in lines:
        event = json.loads(line)
        group = event.get("matched")
        if group == "default_low":
            group = event.get("source")
        number = seen[group] = seen.get(group, 0) + 1
        if group is None and number > PASSED_MAX:
            continue
        if group == "password-guessing" and number > GUESSES_MAX:
            continue
        if group in EVERY and number % EVERY[group] != 0 and event.get("matched") == "default_low":
            continue
        yield line


def name(event):
    if event.get("status") == "unscored":
        return "unscored"
    if event.get("source") == "stateless":
        return "stateless"
    if event.get("door") == "token" and event.get("verdict") == "step_up":
        return "token"
    if event.get("door") == "login" and event.get("contributions"):
        if event["verdict"] == "allow" and event.get("logins", 0) > 0:
            return "allow"
        if event["verdict"] == "step_up":
            return "step_up"
        if event["matched"] == "default_high":
            return "block"
    return None


def main(demo, *others):
    lines = list(chosen(pathlib.Path(demo).read_text().splitlines()))
    for other in others:
        more = pathlib.Path(other).read_text().splitlines()
        lines += [line for line in more if json.loads(line).get("door") == "login"]
    (HERE / "demo.jsonl").write_text("\n".join(lines) + "\n")
    shutil.copy("conf/policy.toml", HERE / "policy.toml")
    for model in pathlib.Path("conf/model").glob("*.onnx"):
        shutil.copy(model, HERE / "model")
    named = {}
    for line in lines:
        event = json.loads(line)
        named.setdefault(name(event), event["id"])
    named.pop(None, None)
    for label, decision in named.items():
        (HERE / "explained" / f"{label}.txt").write_text(f"Decision {decision}\n")
    print(len(lines), "records;", ", ".join(sorted(named)))


if __name__ == "__main__":
    main(*sys.argv[1:])
