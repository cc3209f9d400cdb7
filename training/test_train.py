"""Tests of splits, weights, the trained model's promises and what the exported file says of itself."""

import json
import math
import tomllib
import unittest

import numpy as np

import additive
import compare
import evaluate
import export_model
import levels
import train
from replay import Rows

PLAN = train.Plan.read(quick=True)
SCHEMA = additive.Schema.read()
# Seeds that earlier models were tested on: what has been seen can no longer judge.
SPENT = {301, 302, 303, 304, 311, 312, 401, 402, 411}


def rows(kind: str, count: int, seed: int) -> Rows:
    """Rows in which attackers have more of everything, in campaigns of very different size."""
    chance = np.random.Generator(np.random.PCG64(seed))
    kinds = list(PLAN.weight[kind])
    label = chance.random(count) < 0.1
    attacker = np.where(label, np.array(kinds)[chance.integers(0, len(kinds), count)], "")
    low, high = np.array(SCHEMA.clip).T
    shift = np.where(label, 0.5, 0.15)[:, None]
    features = low + (high - low) * np.clip(chance.normal(shift, 0.15, (count, len(low))), 0.0, 1.0)
    features[chance.random(features.shape) < 0.1] = np.nan
    features[:, [kind not in k for k in SCHEMA.kinds]] = np.nan
    group = np.where(label, [f"{a} {int(n**2 * 20)}" for a, n in zip(attacker, chance.random(count))], [f"user {n}" for n in chance.integers(0, 60, count)])
    return Rows(
        features=features.astype(np.float32),
        probability=np.zeros(count),
        verdict=np.full(count, "allow"),
        kind=np.full(count, kind),
        label=label,
        attacker=attacker,
        cohort=np.where(chance.random(count) < 0.2, "vpn mobile", ""),
        logins=chance.integers(0, 30, count),
        user=group,
        group=group,
        time=np.sort(chance.random(count)) * PLAN.traffic["days"] * train.DAY,
        event=np.arange(count),
        variant=np.full(count, ""),
        succeeded=chance.random(count) < 0.8,
    )


class Trained(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.fitting, cls.calibrating = rows("login", 4000, 1), rows("login", 2000, 2)
        cls.model = train.train("login", cls.fitting, cls.calibrating, SCHEMA, PLAN)
        cls.weights = cls.model.weights(SCHEMA)

    def test_it_separates_what_can_be_separated(self) -> None:
        probability, _ = self.weights.evaluate(self.calibrating.features)
        self.assertGreater(evaluate.by_attacker(self.calibrating, probability)["all"]["auc"], 0.97)

    def test_directions_hold_in_the_whole_range(self) -> None:
        for f, (direction, (low, high)) in enumerate(zip(SCHEMA.monotone, SCHEMA.clip)):
            swept = np.tile(self.fitting.features[:1], (100, 1))
            swept[:, f] = np.linspace(low, high, 100)
            probability, _ = self.weights.evaluate(swept)
            with self.subTest(SCHEMA.names[f]):
                self.assertGreaterEqual((np.diff(probability) * direction).min(), -1e-9)

    def test_floors_survive_the_calibration(self) -> None:
        own = {f for f, kinds in enumerate(SCHEMA.kinds) if "login" in kinds}
        for f, floor in PLAN.floors_of(SCHEMA, "login").items():
            if f not in own:
                continue
            shape = self.model.shapes[f]
            at = np.interp(floor.x, shape.x, shape.y)
            least = np.diff(floor.y) * min(self.model.slope, 1.0)
            with self.subTest(SCHEMA.names[f]):
                self.assertTrue((np.diff(at) >= least - 1e-6).all(), f"{at} {floor.y}")

    def test_bounds_of_one_kind_are_not_those_of_another(self) -> None:
        address = SCHEMA.names.index("address_trust")
        self.assertIn(address, PLAN.ceilings_of(SCHEMA, "token"))
        self.assertNotIn(address, PLAN.ceilings_of(SCHEMA, "login"))
        failures = SCHEMA.names.index("user_failures_10m")
        self.assertNotEqual(PLAN.floors_of(SCHEMA, "m2m")[failures], PLAN.floors_of(SCHEMA, "login")[failures])
        # A model of all kinds has those that hold for all.
        self.assertEqual(PLAN.floors_of(SCHEMA, "")[failures], PLAN.floors_of(SCHEMA, "login")[failures])

    def test_contributions_add_up_and_everything_is_answered(self) -> None:
        chance = np.random.Generator(np.random.PCG64(3))
        odd = chance.choice([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0], (200, len(SCHEMA.names))).astype(np.float32)
        probability, contributions = self.weights.evaluate(odd)
        self.assertTrue(np.isfinite(probability).all() and np.isfinite(contributions).all())
        probability, contributions = self.weights.evaluate(self.calibrating.features)
        logit = contributions.sum(axis=1) + self.model.bias
        self.assertLess(np.abs(1.0 / (1.0 + np.exp(-logit)) - probability).max(), 1e-6)

    def test_many_rows_are_answered_as_few(self) -> None:
        many = np.concatenate([self.fitting.features, self.calibrating.features])
        self.assertGreater(len(many), 2 * additive.ROWS_AT_ONCE)
        whole = self.weights.evaluate(many)
        pieces = [self.weights.evaluate(part) for part in np.array_split(many, 50)]
        for found, parts in zip(whole, zip(*pieces)):
            self.assertTrue(np.allclose(found, np.concatenate(parts), rtol=0.0, atol=1e-12))

    def test_features_of_other_kinds_have_no_part(self) -> None:
        for f, (name, kinds) in enumerate(zip(SCHEMA.names, SCHEMA.kinds)):
            if "login" not in kinds:
                self.assertEqual(set(self.model.shapes[f].y), {0.0}, name)

    def test_the_same_rows_give_the_same_model(self) -> None:
        again = train.train("login", self.fitting, self.calibrating, SCHEMA, PLAN)
        self.assertEqual(again.shapes, self.model.shapes)

    def test_a_seed_is_calibrated_by_a_fit_that_has_not_seen_it(self) -> None:
        def of_seeds(found: Rows) -> Rows:
            seed = np.where(np.arange(len(found)) % 2, "8 ", "9 ")
            return Rows(**{**vars(found), "group": np.char.add(seed, found.group)})

        fitting, later = of_seeds(self.fitting), of_seeds(self.calibrating)
        own = train.seeds_of(fitting) == "8"
        # What is turned upside down is the attackers' rows of one seed.
        features = np.where((own & fitting.label)[:, None], np.roll(fitting.features, 700, axis=0), fitting.features)
        spoilt = Rows(**{**vars(fitting), "features": features})
        before, after = (
            train.logits_across("login", found, later, SCHEMA, PLAN, train.Choices()) for found in (fitting, spoilt)
        )
        here = train.seeds_of(later) == "8"
        self.assertTrue((before[here] == after[here]).all())
        self.assertTrue((before[~here] != after[~here]).any())

    def test_what_is_left_out_does_not_count(self) -> None:
        score = compare.logit_of(
            train.train("login", self.fitting, self.calibrating, SCHEMA, PLAN, train.Choices(without=("device_cookie",))), SCHEMA
        )
        moved = self.calibrating.features.copy()
        moved[:, SCHEMA.names.index("device_cookie")] = 1.0
        found = Rows(**{**vars(self.calibrating), "features": moved})
        self.assertTrue((score(found) == score(self.calibrating)).all())

    def test_the_file_says_what_it_was_made_of(self) -> None:
        props = export_model.properties(self.model, SCHEMA, PLAN, self.fitting, self.calibrating, "00")
        baseline = json.loads(props["baseline"])
        self.assertEqual(set(baseline), {n for n, k in zip(SCHEMA.names, SCHEMA.kinds) if "login" in k and n not in PLAN.silent})
        for entry in baseline.values():
            self.assertAlmostEqual(sum(entry["shares"]), 1.0, places=3)
            self.assertEqual(len(entry["shares"]), len(entry["edges"]) + 2)
            self.assertTrue((np.diff(entry["edges"]) > 0).all())
        self.assertAlmostEqual(sum(json.loads(props["score_baseline"])["shares"]), 1.0, places=3)
        bars = [entry["probability"] for entry in json.loads(props["thresholds"])]
        self.assertEqual(bars, sorted(bars, reverse=True))


class Chosen(unittest.TestCase):
    def test_what_was_looked_at_is_not_tested_on(self) -> None:
        traffic = train.Plan.read().traffic
        sets = [set(traffic[name]) for name in ("train", "look", "test")] + [{traffic["cold"]}, SPENT]
        self.assertEqual(len(set().union(*sets)), sum(len(seeds) for seeds in sets))

    def test_a_model_of_other_levels_replays_under_its_own(self) -> None:
        found = tomllib.loads(levels.policy_of(30, 71))
        self.assertEqual(found["thresholds"], {"medium": 30, "high": 71})
        self.assertEqual(found | {"thresholds": levels.CONTENT["thresholds"]}, levels.CONTENT)
        self.assertAlmostEqual(1.0 / (1.0 + math.exp(-levels.log_odds(levels.MEDIUM))), (levels.MEDIUM - 0.5) / 100.0)


class Splits(unittest.TestCase):
    def test_calibration_is_later_than_the_fit_and_the_warm_up_is_left_out(self) -> None:
        found = rows("login", 3000, 4)
        fitting, calibrating = train.split(found, PLAN)
        self.assertGreater(fitting.time.min() - found.time.min(), PLAN.traffic["warm_up_days"] * train.DAY - 1)
        self.assertLess(fitting.time.max(), calibrating.time.min())
        self.assertLess(len(fitting) + len(calibrating), len(found))

    def test_each_attacker_has_its_share_and_no_campaign_speaks_for_all(self) -> None:
        found = rows("login", 6000, 5)
        weight = train.mix(found, PLAN.weight["login"])
        good = (~found.label).sum()
        for kind, share in PLAN.weight["login"].items():
            self.assertAlmostEqual(weight[found.attacker == kind].sum(), share * good, delta=1e-6 * good)
        first = found.attacker == next(iter(PLAN.weight["login"]))
        _, index, sizes = np.unique(found.group[first], return_inverse=True, return_counts=True)
        totals = np.bincount(index, weight[first])
        self.assertAlmostEqual(totals.max() / totals.min(), np.sqrt(sizes.max() / sizes.min()), places=6)

    def test_an_attacker_without_a_weight_is_an_error(self) -> None:
        with self.assertRaises(ValueError):
            train.mix(rows("login", 500, 6), {"naive": 0.1})


if __name__ == "__main__":
    unittest.main()
