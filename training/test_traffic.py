"""Tests of the simulated traffic: `training/.venv/bin/python -m unittest discover training`."""

import csv
import tempfile
import tracemalloc
import unittest
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from traffic import describe, event, plan, simulation


def run(seed: int = 11, users: int = 400, days: int = 30, **more) -> simulation.Simulation:
    return simulation.Simulation(plan.Plan.read(), seed, users, days, **more)


def lines(run: simulation.Simulation) -> list[str]:
    return list(event.Rows(run.start).lines(run.events()))


def rows(run: simulation.Simulation) -> list[dict[str, str]]:
    return list(csv.DictReader([",".join(event.COLUMNS) + "\n", *lines(run)]))


class Contract(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.rows = rows(run())

    def test_columns_are_those_of_the_data_set_and_ours(self) -> None:
        self.assertEqual(event.COLUMNS[:16], event.RBA_COLUMNS)
        for row in self.rows:
            self.assertNotIn(None, row)
            self.assertNotIn(None, row.values())

    def test_time_never_goes_back(self) -> None:
        times = [row["Login Timestamp"] for row in self.rows]
        self.assertEqual(times, sorted(times))
        self.assertTrue(all(len(time) == 23 for time in times))

    def test_nobody_goes_back_to_an_hour_that_is_over(self) -> None:
        """East of Greenwich the small hours of a local day lie in the day before: a night worker who has logged in at
        23:57 must not come again at 23:35."""
        made = run(users=300)
        people = made.world.people
        evening = 23 * event.HOUR_MS + 57 * 60_000
        for user in people.users:
            user.habit, user.offset_hours, user.hours = "daily", 9, [(2.0, 1.5), (4.0, 1.5)]
            for day in range(20):
                after = day * event.DAY_MS + evening
                self.assertGreater(people._next(user, after), after)

    def test_what_lies_in_the_past_is_refused(self) -> None:
        made = run(days=3)
        events = made.events()
        first = next(e for e in events if e.at > event.DAY_MS)
        with self.assertRaisesRegex(ValueError, "on the agenda"):
            made.at(made.now - 1, lambda simulation, now: None)
        with self.assertRaisesRegex(ValueError, "were given out"):
            made.emit(event.Event(0, event.LOGIN, first.user, first.address, first.agent))

    def test_rows_are_counted(self) -> None:
        self.assertEqual([row["index"] for row in self.rows], [str(n) for n in range(len(self.rows))])

    def test_each_kind_has_what_the_replay_needs(self) -> None:
        for row in self.rows:
            kind = row["Event Kind"]
            with self.subTest(kind):
                self.assertIn(kind, ("login", "sso", "code", "refresh", "client_credentials"))
                self.assertTrue(row["IP Address"] and row["TLS Fingerprint"] and row["Client ID"])
                self.assertEqual(row["User ID"] == "", kind == "client_credentials")
                self.assertEqual(row["Token ID"] != "", kind == "refresh")
                if kind in ("sso", "code", "refresh"):
                    self.assertTrue(row["Family ID"])

    def test_a_family_begins_with_a_login_and_has_one_user(self) -> None:
        users: dict[str, str] = {}
        for row in self.rows:
            family = row["Family ID"]
            if row["Event Kind"] == "login" and family:
                self.assertNotIn(family, users)
                users[family] = row["User ID"]
            elif family:
                self.assertEqual(users[family], row["User ID"])

    def test_codes_and_tokens_come_twice_only_from_thieves_or_in_retries(self) -> None:
        codes: set[str] = set()
        tokens: dict[tuple[str, str], tuple[str, str]] = {}
        retries = 0
        for row in self.rows:
            good = not row["Attacker Kind"]
            if row["Event Kind"] == "code" and good:
                self.assertNotIn(row["Family ID"], codes)
                codes.add(row["Family ID"])
            if row["Event Kind"] == "refresh" and good:
                key = (row["Family ID"], row["Token ID"])
                if key in tokens:
                    retries += 1
                    time, address = tokens[key]
                    self.assertEqual(row["IP Address"], address)
                    self.assertLess(seconds(row["Login Timestamp"]) - seconds(time), 5.0)
                tokens[key] = (row["Login Timestamp"], row["IP Address"])
        self.assertGreater(retries, 0)

    def test_labels_agree(self) -> None:
        for row in self.rows:
            bad = bool(row["Attacker Kind"])
            takeover = bad and row["Event Kind"] == "login" and row["Login Successful"] == "True"
            self.assertEqual(row["Is Account Takeover"] == "True", takeover)
            self.assertEqual(bad, bool(row["Campaign"]))
            if bad:
                self.assertEqual((row["Second Factor"], row["Cohort"]), ("False", ""))
            else:
                self.assertEqual(row["Variant"], "")

    def test_every_kind_of_attacker_comes(self) -> None:
        found = {row["Attacker Kind"] for row in rows(run(users=1500, days=40))} - {""}
        self.assertEqual(
            found,
            {
                *("naive", "vpn", "targeted", "stuffing", "spraying", "brute_force"),
                *("session_theft", "code_replay", "token_replay", "refresh_theft"),
                *("secret_theft", "secret_guess", "scope_probe", "volume_abuse"),
            },
        )


class Seeds(unittest.TestCase):
    def test_a_seed_gives_the_same_bytes(self) -> None:
        self.assertEqual(lines(run(days=12)), lines(run(days=12)))

    def test_seeds_share_no_address_no_person_no_fingerprint(self) -> None:
        columns = ("IP Address", "ASN", "User ID", "TLS Fingerprint", "Family ID", "Device ID", "Token ID", "Campaign", "Client ID")
        first, second = rows(run(seed=11)), rows(run(seed=12))
        for column in columns:
            with self.subTest(column):
                values = {row[column] for row in first} - {""}
                self.assertGreater(len(values), 3)
                self.assertFalse(values & {row[column] for row in second})

    def test_more_guessers_do_not_change_what_good_people_do(self) -> None:
        calm = plan.Plan.read()
        quiet = simulation.Simulation(_without_guessers(calm), 11, 300, 20)
        usual = simulation.Simulation(calm, 11, 300, 20)
        good = lambda run: [(e.at, e.user, e.address.ip) for e in run.events() if e.kind == "login" and not e.attacker]  # noqa: E731
        self.assertEqual(good(quiet), good(usual))


class Streaming(unittest.TestCase):
    def test_memory_does_not_grow_with_the_length_of_the_run(self) -> None:
        peaks = []
        for days in (30, 120):
            tracemalloc.start()
            events = sum(1 for _ in run(users=150, days=days).events())
            peaks.append((events, tracemalloc.get_traced_memory()[1]))
            tracemalloc.stop()
        (few, small), (many, large) = peaks
        self.assertGreater(many, 3 * few)
        self.assertLess(large, 1.6 * small)

    def test_the_first_events_come_before_the_run_is_made(self) -> None:
        self.assertEqual(len(list(islice(run(users=200, days=100_000).events(), 50))), 50)


class ColdStart(unittest.TestCase):
    def test_everybody_is_new_at_first(self) -> None:
        first: dict[str, dict[str, str]] = {}
        for row in rows(run(cold_start=True)):
            if row["Event Kind"] == "login" and not row["Attacker Kind"] and row["Login Successful"] == "True":
                first.setdefault(row["User ID"], row)
        self.assertTrue(all("new" in row["Cohort"].split() for row in first.values()))


class PlanFile(unittest.TestCase):
    def changed(self, old: str, new: str) -> plan.Plan:
        text = (plan.PLANS / "default.toml").read_text(encoding="utf-8")
        self.assertIn(old, text)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plan.toml"
            path.write_text(text.replace(old, new), encoding="utf-8")
            return plan.Plan.read(str(path))

    def test_bad_plans_are_refused_by_name_of_the_key(self) -> None:
        for old, new, message in (
            ("typo = 0.08", "typo = 1.5", "`people.typo` is out of range"),
            ("typo = 0.08", "typo = true", "`people.typo` is not a number"),
            ("typo = 0.08", "typos = 0.09", "unknown key `people.typos`"),
            ("typo = 0.08", "", "key `people.typo` is missing"),
            ("once = 0.40", "once = 0.60", "add up to"),
            ("hours = [0.5, 72.0]", "hours = [72.0, 0.5]", "`attacks.stuffing.hours` is no range"),
        ):
            with self.subTest(new), self.assertRaisesRegex(plan.Wrong, message):
                self.changed(old, new)

    def test_every_plan_that_is_shipped_can_be_read(self) -> None:
        for path in plan.PLANS.glob("*.toml"):
            self.assertEqual(plan.Plan.read(path.stem).name, path.stem)


class Rates(unittest.TestCase):
    def test_figures_lie_where_the_published_ones_do(self) -> None:
        made = run(users=1500, days=60)
        description = describe.Description()
        for row in csv.DictReader(chain([",".join(event.COLUMNS)], lines(made))):
            description.add(row)
        figures = description.figures()
        for name, low, high in (
            ("login.success_share", 0.70, 0.86),
            ("login.new_address", 0.33, 0.45),
            ("login.new_agent_string", 0.15, 0.50),
            ("login.once_share", 0.35, 0.55),
            ("login.round_trip_share", 0.03, 0.05),
            ("login.attack_address_share", 0.03, 0.20),
            ("login.mobile_share", 0.30, 0.70),
        ):
            with self.subTest(name):
                self.assertTrue(low <= figures[name] <= high, f"{name} = {figures[name]:.3f}")


def seconds(timestamp: str) -> float:
    day, time = timestamp.split(" ")
    hour, minute, second = time.split(":")
    return int(day[-2:]) * 86400 + int(hour) * 3600 + int(minute) * 60 + float(second)


def _without_guessers(full: plan.Plan) -> plan.Plan:
    none = {}
    for name in ("naive", "vpn", "targeted", "stuffing", "spraying", "brute_force"):
        part = getattr(full.attacks, name)
        none[name] = replace(part, **{"rate" if hasattr(part, "rate") else "campaigns": 0.0})
    return replace(full, attacks=replace(full.attacks, **none))


if __name__ == "__main__":
    unittest.main()
