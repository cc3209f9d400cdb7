"""Every exported event keeps to the public schema of OCSF (tests/data/ocsf). The program is named by RISKGATE_BIN."""

import itertools
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "tests/data/ocsf/authentication.schema.json").read_text())

DOORS = ["authorize", "login", "authn", "token", "par", "device", "ciba", "saml", "wsfed", "basic", "pdp", "other"]
OUTCOMES = [
    "succeeded", "failed", "locked", "next_factor", "login_page", "consent", "code_issued", "tokens_issued", "approved",
    "returned", "request_refused", "refused_here", "upstream_error", "abandoned", "none",
]  # fmt: skip
ACTIONS = [
    "forwarded", "failed", "redirected", "rewritten", "refused", "blocked", "held", "rate_limited", "review_full",
    "step_up_by_authorization", "withheld",
]  # fmt: skip
MODES = [None, "off", "monitor", "advise", "enforce"]
LEVELS = [(None, None), (3, "low"), (50, "medium"), (99, "high")]
TIMING = {"state": 1, "score": 1, "decision": 1, "total": 1}


def record(seq, door, outcome, action, mode, level, full):
    found = {
        "schema": 2,
        "seq": seq,
        "time": "2026-11-26T15:00:00.123Z",
        "id": f"id-{seq}",
        "class": "scored",
        "door": door,
        "route": f"/{door}",
        "method": "POST",
        "mode": mode,
        "score": level[0],
        "level": level[1],
        "action": action,
        "response_status": 200,
        "outcome": outcome,
        "learnt": False,
        "config": 1,
        "timing": TIMING,
    }
    if full:
        found |= {
            "tenant": "carbon.super",
            "client_id": "app",
            "grant_type": "client_credentials",
            "subject": "ab" * 16,
            "address": "cd" * 16,
            "prefix": "192.0.2.0/24",
            "country": "CH",
            "asn": 64500,
            "as_org": "Example",
            "ja4": "t13d1516h2_8daaf6152771_02713d6af862",
            "reasons": ["impossible_travel", "risk_high"],
            "verdict": "block",
            "demand": "outstanding",
            "proof": "proven",
            "matched": "default_high",
            "policy": "0123456789abcdef",
            "model": "login-1.0.0",
        }
    return {name: value for name, value in found.items() if value is not None}


class Events(unittest.TestCase):
    def export(self, lines):
        with tempfile.TemporaryDirectory() as folder:
            log = pathlib.Path(folder) / "audit.jsonl"
            log.write_text("".join(line + "\n" for line in lines))
            command = [os.environ["RISKGATE_BIN"], "audit", "export", "--format", "ocsf", str(log)]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def test_they_keep_to_the_schema(self):
        cases = [*itertools.product(DOORS, OUTCOMES, ACTIONS, [True, False])]
        settings = itertools.cycle(itertools.product(MODES, LEVELS))
        records = [
            record(seq, door, outcome, action, *next(settings), full)
            for seq, (door, outcome, action, full) in enumerate(cases, 1)
        ]
        events, _ = self.export(map(json.dumps, records))
        self.assertEqual(len(events), len(cases))
        validator = jsonschema.Draft202012Validator(SCHEMA)
        for event in events:
            problems = [*validator.iter_errors(event)]
            self.assertEqual(problems, [], json.dumps(event))
            self.assertEqual(event["type_uid"], event["class_uid"] * 100 + event["activity_id"])

    def test_the_schema_is_one_that_refuses(self):
        (event,), _ = self.export([json.dumps(record(1, "login", "succeeded", "forwarded", None, LEVELS[0], True))])
        validator = jsonschema.Draft202012Validator(SCHEMA)
        self.assertTrue(validator.is_valid(event))
        for change in ({"action_id": 77}, {"time": "now"}, {"unknown": 1}, {"user": {}}, {"metadata": {}}):
            self.assertFalse(validator.is_valid(event | change), change)
        del event["service"]
        self.assertFalse(validator.is_valid(event))

    def test_what_is_no_authentication_is_left_out_and_counted(self):
        passed = record(1, "login", "none", "forwarded", None, LEVELS[0], False)
        del passed["door"]
        lines = [json.dumps(passed), '{"mark":"checkpoint"}', "no record"]
        events, said = self.export(lines)
        self.assertEqual(events, [])
        self.assertIn("0 events, 1 other records, 1 unreadable lines", said)


if __name__ == "__main__":
    unittest.main()
