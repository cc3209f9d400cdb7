"""Tests of the readers for the public data set and for the gateway's audit log."""

import csv
import io
import json
import re
import tempfile
import unittest
from contextlib import redirect_stderr
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

from traffic import audit, describe, event, rba

SAMPLE = Path(__file__).resolve().parent / "samples" / "rba-small.csv"
# Written by the gateway's own code; a test beside `riskgate label` fails when it would write something else today.
WRITTEN = Path(__file__).resolve().parents[1] / "tests" / "data" / "labels"
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


def converted(**options) -> tuple[rba.Reader, list[dict[str, str]]]:
    reader, out = rba.Reader(**options), io.StringIO()
    rba.convert(SAMPLE.read_text(encoding="utf-8").splitlines(True), reader, out)
    return reader, list(csv.DictReader(out.getvalue().splitlines(True)))


class DataSet(unittest.TestCase):
    def test_rows_come_in_our_columns_and_in_order(self) -> None:
        _, rows = converted()
        self.assertEqual(tuple(rows[0]), event.COLUMNS)
        times = [row["Login Timestamp"] for row in rows]
        self.assertEqual(times, sorted(times))
        self.assertEqual({row["Event Kind"] for row in rows}, {"login"})

    def test_artefacts_are_dealt_with_and_counted(self) -> None:
        reader, rows = converted()
        self.assertEqual(len(rows), 11)
        self.assertEqual(
            dict(reader.found),
            {
                "rows": 13,
                "kept": 11,
                "attempts at unknown accounts": 2,
                "addresses in 10.0.0.0/8": 2,
                "invented autonomous systems": 3,
                "agents with the generator's URL": 1,
                "Android of the future": 1,
                "with round-trip time": 2,
                "take-overs": 2,
            },
        )
        by_index = {row["index"]: row for row in rows}
        self.assertFalse(any(row["City"] or row["Region"] or row["Round-Trip Time [ms]"] for row in rows))
        self.assertEqual(by_index["4"]["Network Kind"], "residential")
        self.assertEqual(by_index["2"]["Network Kind"], "")
        self.assertEqual(by_index["6"]["User Agent String"], "Mozilla/5.0 (Windows 7) Chrome/69.0.3497")
        self.assertNotIn("Android 13", by_index["5"]["User Agent String"])
        # A crawler's own address is no artefact.
        self.assertIn("bot.invalid", by_index["7"]["User Agent String"])

    def test_unknown_accounts_can_be_kept_apart(self) -> None:
        _, rows = converted(unknown=True)
        unknown = [row["User ID"] for row in rows if row["User ID"].startswith("nobody-")]
        self.assertEqual(len(set(unknown)), 2)

    def test_labels_are_take_overs_and_on_request_addresses(self) -> None:
        kinds = lambda rows: [row["Attacker Kind"] for row in rows if row["Attacker Kind"]]  # noqa: E731
        self.assertEqual(kinds(converted()[1]), ["takeover", "takeover"])
        self.assertEqual(sorted(kinds(converted(unknown=True, label_addresses=True)[1])), ["address", "takeover", "takeover"])

    def test_splits_follow_the_months_and_training_has_no_take_over(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(quietly(rba.main, [str(SAMPLE), "--split", folder]), 0)
            rows = {name: table(Path(folder) / f"{name}.csv") for name, _, _ in rba.SPLITS}
        self.assertEqual({name: [row["index"] for row in found] for name, found in rows.items()}, {"train": ["2", "3", "4", "5", "6", "7"], "validate": ["9"], "test": ["10", "11"]})
        self.assertFalse([row for row in rows["train"] if row["Attacker Kind"]])

    def test_what_is_written_can_be_described(self) -> None:
        description = describe.Description()
        for row in converted()[1]:
            description.add(row)
        self.assertEqual(description.figures()["takeover.count"], 2)

    def test_bad_files_are_refused_with_the_line(self) -> None:
        good = SAMPLE.read_text(encoding="utf-8")
        for old, new, message in (
            (",ASN,", ",AS,", "column `ASN` is missing"),
            ("2020-03-01 00:00:00.000", "01.03.2020 00:00", "line 5: `01.03.2020 00:00` is no time"),
            ("2020-03-01 00:00:00.000", "2020-01-01 00:00:00.000", "line 5: time goes back"),
            ("mobile,True,False,False", "mobile,yes,False,False", "line 6: `Login Successful` is neither"),
            ("desktop,True,True,True", "desktop,True,True", "line 10: not as many fields"),
            ("Vestland,Urangsvag", "x" * 5000 + ",y", "field larger"),
        ):
            with self.subTest(message), self.assertRaisesRegex(rba.Wrong, re.escape(message)):
                list(rba.Reader().rows(good.replace(old, new).splitlines(True)))

    def test_the_command_says_what_is_wrong(self) -> None:
        self.assertEqual(quietly(rba.main, ["/does/not/exist.csv", "--out", "-"]), 2)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def quietly(command, arguments: list[str]) -> int:
    with redirect_stderr(io.StringIO()):
        return command(arguments)


def record(id: str, days_ago: float = 20, **more) -> str:
    time = NOW - timedelta(days=days_ago)
    base = {
        "schema": audit.RECORD_SCHEMAS[-1],
        "id": id,
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "class": "scored",
        "status": "scored",
        "door": "login",
        "features": [0.5, None, 1.0],
        "score": 3,
        "level": "low",
        "verdict": "allow",
        "action": "forwarded",
        "outcome": "succeeded",
        "model": "1.0.0",
    }
    return json.dumps(base | more) + "\n"


def labels(*rows: str) -> dict[str, audit.Label]:
    return audit.read_labels(["id,label,source,confidence,propensity\n", *(row + "\n" for row in rows)])


def taken(lines: list[str], known: dict[str, audit.Label], **more) -> list[audit.Example]:
    return list(audit.Reader(known, NOW, 3, **more).examples(lines))


class AuditLog(unittest.TestCase):
    def test_features_are_those_of_the_record(self) -> None:
        (example,) = taken([record("a")], {})
        np.testing.assert_array_equal(example.features, np.array([0.5, np.nan, 1.0], np.float32))
        self.assertEqual((example.attack, example.source, example.weight, example.kind), (False, "undisputed", 1.0, "login"))

    def test_what_is_not_known_is_left_out_and_not_good(self) -> None:
        for what in ({"outcome": "failed"}, {"level": "medium"}, {"verdict": "step_up"}, {"action": "redirected"}):
            with self.subTest(what):
                self.assertEqual(taken([record("a", **what)], {}), [])
        self.assertEqual(taken([record("a")], {}, undisputed=False), [])

    def test_nothing_younger_than_the_delay_counts(self) -> None:
        known = labels("a,1,analyst,95,")
        self.assertEqual(taken([record("a", days_ago=13.9)], known), [])
        self.assertEqual(len(taken([record("a", days_ago=14.1)], known)), 1)

    def test_a_label_wins_over_silence_and_the_surer_one_over_the_other(self) -> None:
        (denied,) = taken([record("a")], labels("a,1,account_locked,60,"))
        self.assertTrue(denied.attack)
        for rows in (("a,0,step_up,80,", "a,1,analyst,95,"), ("a,1,analyst,95,", "a,0,step_up,80,")):
            (example,) = taken([record("a")], labels(*rows))
            self.assertTrue(example.attack)
        for last in (0, 1):
            (example,) = taken([record("a")], labels(f"a,{1 - last},analyst,95,", f"a,{last},analyst,95,"))
            self.assertEqual(example.attack, last == 1)

    def test_labels_weigh_by_how_sure_they_are(self) -> None:
        sure, hint = taken([record("a"), record("b")], labels("a,0,step_up,80,", "b,1,factor_failed,40,"))
        self.assertEqual((sure.weight, hint.weight), (0.8, 0.4))

    def test_attacks_found_by_chance_stand_for_those_that_were_not_looked_for(self) -> None:
        known = labels("a,1,analyst,100,0.005", "b,0,step_up,100,0.005", "c,1,analyst,100,0.0001")
        lines = [record("a"), record("b"), record("c")]
        self.assertEqual([e.weight for e in taken(lines, known)], [200.0, 1.0, audit.WEIGHT_MAX])
        self.assertEqual([e.weight for e in taken(lines, known, undisputed=False)], [200.0, 200.0, audit.WEIGHT_MAX])

    def test_records_of_other_versions_are_left_out_and_those_of_the_first_taken(self) -> None:
        for schema, count in ((1, 1), (2, 1), (3, 0), ("2", 0), (None, 0)):
            with self.subTest(schema):
                self.assertEqual(len(taken([record("a", schema=schema)], {})), count)

    def test_kinds_of_requests_are_told_apart(self) -> None:
        for more, kind in (
            ({"door": "token", "grant_type": "client_credentials"}, "m2m"),
            ({"door": "token", "grant_type": "refresh_token"}, "token"),
            ({"door": "token", "grant_type": "password"}, "login"),
            ({"door": "authorize"}, "login"),
        ):
            self.assertEqual(audit.kind_of({"door": "login"} | more), kind)

    def test_hostile_lines_are_counted_and_passed_over(self) -> None:
        reader = audit.Reader({}, NOW, 3)
        lines = ["{", "[]", "[" * 100_000, "x" * (audit.LINE_BYTES_MAX + 1), record("a", features=[1, 2]), record("a", features=["x"]), record("a", time="now"), record("a", status="unscored"), record("b")]
        self.assertEqual([e.id for e in reader.examples(lines)], ["b"])
        self.assertEqual((reader.found["not a record"], reader.found["taken"]), (4, 1))

    def test_bad_labels_are_refused(self) -> None:
        for row, message in (
            ("a,1,rumour,1,", "unknown source `rumour`"),
            ("a,0,account_locked,60,", "source `account_locked` cannot say `0`"),
            ("a,1,step_up,80,", "source `step_up` cannot say `1`"),
            ("a,yes,analyst,95,", "source `analyst` cannot say `yes`"),
            ("a,1,analyst,0.95,", "`0.95` is no percentage from 1 to 100"),
            ("a,1,analyst,101,", "`101` is no percentage"),
            ("a,1,analyst,0,", "`0` is no percentage"),
            ("a,1,analyst,٩٥,", "is no percentage"),
            ("a,1,analyst", "line 2: not as many fields"),
            ("a,1,analyst,95,2", "`2` is not above 0 and at most 1"),
            ("a,1,analyst,95,nan", "`nan` is not above 0"),
        ):
            with self.subTest(row), self.assertRaisesRegex(audit.Wrong, message):
                labels(row)

    def test_labels_of_another_form_are_refused(self) -> None:
        with self.assertRaisesRegex(audit.Wrong, "column `id` is missing"):
            audit.read_labels(["decision,label,source,confidence\n"])

    def test_what_the_gateway_records_and_exports_becomes_rows(self) -> None:
        now = datetime(2026, 12, 31, tzinfo=timezone.utc)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            files = ["--labels", str(WRITTEN / "labels.csv"), "--features", str(place / "x.npy"), "--rows", str(place / "y.csv")]
            self.assertEqual(quietly(audit.main, [str(WRITTEN / "audit.jsonl"), "--now", now.isoformat(), *files]), 0)
            features, rows = np.load(place / "x.npy"), table(place / "y.csv")
        self.assertEqual(features.shape, (len(rows), audit.schema_width()))
        self.assertEqual(
            {row["decision"]: (row["label"], row["source"], row["weight"], row["attacker_kind"]) for row in rows},
            {
                "undisputed": ("0", "undisputed", "1", ""),
                "asked": ("0", "step_up", "0.8", ""),
                "released": ("0", "review", "0.9", ""),
                "analyst_compromised": ("1", "analyst", "0.95", "phishing"),
                "analyst_safe": ("0", "analyst", "0.95", ""),
                "account_locked": ("1", "account_locked", "0.6", "account_locked"),
                "credential_updated": ("1", "credential_updated", "0.5", "credential_updated"),
                "session_revoked": ("1", "session_revoked", "0.5", "session_revoked"),
                "factor_failed": ("1", "factor_failed", "0.4", "factor_failed"),
            },
        )
        self.assertTrue(np.isnan(features[:, 0]).all())
        np.testing.assert_allclose(features[0, 1], 0.05)

    def test_each_source_of_the_gateway_is_written_and_known(self) -> None:
        self.assertEqual({row["source"] for row in table(WRITTEN / "labels.csv")}, set(audit.SOURCES))
        schemas = {json.loads(line)["schema"] for line in (WRITTEN / "audit.jsonl").read_text(encoding="utf-8").splitlines()}
        self.assertLessEqual(schemas, set(audit.RECORD_SCHEMAS))

    def test_the_command_writes_features_and_rows(self) -> None:
        width = audit.schema_width()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "log").write_text("".join(record(id, features=[1.0] * width) for id in "ab") + '{"torn', encoding="utf-8")
            (place / "labels").write_text("id,label,source,confidence\na,1,analyst,95\n", encoding="utf-8")
            files = ["--labels", str(place / "labels"), "--features", str(place / "x.npy"), "--rows", str(place / "y.csv")]
            self.assertEqual(quietly(audit.main, [str(place / "log"), "--now", NOW.isoformat(), *files]), 0)
            self.assertEqual(np.load(place / "x.npy").shape, (2, width))
            self.assertEqual([row["label"] for row in table(place / "y.csv")], ["1", "0"])


if __name__ == "__main__":
    unittest.main()
