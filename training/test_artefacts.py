"""The fingerprint audit of the simulated traffic, and proof that it finds leaks."""

import csv
import unittest
from dataclasses import replace

from traffic import artefacts, event, plan, simulation


def rows(which: plan.Plan, seed: int, users: int, days: int) -> list[dict[str, str]]:
    run = simulation.Simulation(which, seed, users, days)
    lines = event.Rows(run.start).lines(run.events())
    return list(csv.DictReader([",".join(event.COLUMNS) + "\n", *lines]))


def imitators_only() -> plan.Plan:
    """Many of those who imitate their victims from near by, and nobody else."""
    full = plan.Plan.read()
    near = plan.Share(1.0)
    off = {
        name: replace(part, **{"rate" if hasattr(part, "rate") else "campaigns": 0.0})
        for name in ("naive", "vpn", "stuffing", "spraying", "brute_force", "session_theft", "code_replay", "secret_theft")
        for part in [getattr(full.attacks, name)]
    }
    many = {
        "first_day": 2.0,
        "targeted": replace(full.attacks.targeted, rate=1500.0),
        "token_replay": replace(full.attacks.token_replay, rate=1500.0, near=near),
        "refresh_theft": replace(full.attacks.refresh_theft, rate=0.0),
    }
    return replace(full, attacks=replace(full.attacks, **off, **many))


class Imitators(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.rows = rows(imitators_only(), 21, 700, 26)

    def test_attackers_who_imitate_leave_no_artefact(self) -> None:
        for kind, without in (("targeted", {"token"}), ("token_replay", {"device"})):
            bad, good = artefacts.imitators(self.rows, kind)
            for group in artefacts.GROUPS:
                with self.subTest(kind=kind, group=group.name):
                    auc = artefacts.separability(bad, good, group, good)
                    self.assertEqual(auc is None, group.name in without)
                    self.assertLess(auc or 0.0, artefacts.LIMIT)

    def test_each_leak_is_found(self) -> None:
        def time(row: dict[str, str]) -> dict[str, str]:
            return {"Login Timestamp": row["Login Timestamp"][:-1] + "0"}

        def address(row: dict[str, str]) -> dict[str, str]:
            head, _, last = row["IP Address"].rpartition(".")
            return {"IP Address": f"{head}.{int(last) | 1}"}

        leaks = {
            "index": lambda row: {"index": str(int(row["index"]) // 2 * 2)},
            "time": time,
            "ids": lambda row: {"User ID": row["User ID"].lstrip("-")},
            "device": lambda row: {"Device ID": row["Device ID"].upper()},
            "family": lambda row: {"Family ID": row["Family ID"][:15]},
            "agent": lambda row: {"User Agent String": row["User Agent String"].replace(") ", ")  ")},
            "tls": lambda row: {"TLS Fingerprint": row["TLS Fingerprint"][:-4] + "ffff"},
            "language": lambda row: {"Language": row["Language"].lower()},
            "place": address,
            "form": lambda row: {"Tenant": ""},
        }
        bad, good = artefacts.imitators(self.rows, "targeted")
        tokens = artefacts.imitators(self.rows, "token_replay")
        for group in artefacts.GROUPS:
            with self.subTest(group.name):
                if group.name == "token":
                    leaking = [row | {"Token ID": row["Token ID"].upper()} for row in tokens[0]]
                    found = artefacts.separability(leaking, tokens[1], group, tokens[1])
                else:
                    leaking = [row | leaks[group.name](row) for row in bad]
                    found = artefacts.separability(leaking, good, group, good)
                self.assertGreaterEqual(found or 0.0, artefacts.LIMIT)


class Seeds(unittest.TestCase):
    def test_good_people_of_two_seeds_look_alike_in_form(self) -> None:
        first, second = (artefacts.good_people(rows(plan.Plan.read(), seed, 500, 16)) for seed in (21, 22))
        for group in artefacts.GROUPS:
            with self.subTest(group.name):
                self.assertLess(artefacts.separability(first, second, group) or 0.0, artefacts.LIMIT)


if __name__ == "__main__":
    unittest.main()
