"""Tests of the figures of merit against counts by hand."""

import unittest
from types import SimpleNamespace

import numpy as np

import evaluate
import measure


class Measure(unittest.TestCase):
    def test_auc_counts_pairs_and_halves_ties(self) -> None:
        self.assertEqual(measure.auc(np.array([1.0, 2.0]), np.array([3.0, 2.0])), (1 + 1 + 1 + 0.5) / 4)

    def test_a_threshold_keeps_the_budget(self) -> None:
        good = np.arange(1000.0)
        self.assertEqual((good > measure.threshold(good, 0.01)).sum(), 10)
        self.assertEqual((good > measure.threshold(good, 0.001)).sum(), 1)
        self.assertEqual((good > measure.threshold(good, 0.0)).sum(), 0)
        # Ties may leave some of the budget unused, never exceed it.
        self.assertEqual((np.ones(50) > measure.threshold(np.ones(50), 0.1)).sum(), 0)

    def test_the_curve_ends_where_it_must(self) -> None:
        fpr, tpr = measure.roc(np.array([0.0, 1.0, 1.0]), np.array([1.0, 2.0]))
        self.assertEqual((list(fpr), list(tpr)), ([0.0, 0.0, 2 / 3, 1.0], [0.0, 0.5, 1.0, 1.0]))

    def test_precision_of_a_perfect_score_is_one(self) -> None:
        _, _, area = measure.precision_recall(np.array([0.0, 0.1]), np.array([0.9, 0.8, 0.7]))
        self.assertAlmostEqual(area, 1.0)

    def test_alike_rows_of_one_campaign_widen_the_interval(self) -> None:
        bad = np.repeat([0.0, 1.0, 1.0, 1.0], 100)
        alone = measure.detection(bad, 0.5, np.arange(400))
        together = measure.detection(bad, 0.5, np.repeat(np.arange(4), 100))
        self.assertEqual(alone.value, together.value)
        self.assertGreater(together.high - together.low, 4 * (alone.high - alone.low))
        self.assertEqual(together.groups, 4)

    def test_all_found_is_not_certainty(self) -> None:
        few = measure.detection(np.ones(300), 0.5, np.repeat(np.arange(3), 100))
        self.assertEqual(few.value, 1.0)
        self.assertLess(few.low, 0.6)

    def test_an_incident_is_caught_by_one_of_its_requests(self) -> None:
        rate = measure.caught(np.array([0.9, 0.1, 0.1, 0.2]), 0.5, np.array(["a", "a", "b", "c"]))
        self.assertAlmostEqual(rate.value, 1 / 3)

    def test_calibration_error_weighs_bins_by_their_rows(self) -> None:
        p = np.array([0.1, 0.1, 0.9, 0.9])
        label = np.array([0.0, 0.0, 1.0, 0.0])
        error, _ = measure.calibration(p, label, np.ones(4))
        self.assertAlmostEqual(error, 0.5 * 0.1 + 0.5 * 0.4)
        error, _ = measure.calibration(p, label, np.array([1.0, 1.0, 0.0, 0.0]))
        self.assertAlmostEqual(error, 0.1)

    def test_a_true_probability_stays_true_where_attacks_are_rarer(self) -> None:
        # In both halves exactly as many attacks as are said, however much weight is taken from them.
        logit = np.repeat([-2.0, 1.0], 1000)
        p = 1.0 / (1.0 + np.exp(-logit))
        rows = SimpleNamespace(label=np.tile([False, True], 1000))
        weight = np.where(rows.label, p, 1.0 - p)
        for rarer in (1.0, 7.0, 100.0):
            self.assertLess(evaluate.at_base_rate(rows, logit, weight, rarer)["ece"], 1e-12)
        self.assertGreater(evaluate.at_base_rate(rows, logit + 1.0, weight, 1.0)["ece"], 0.1)

    def test_the_same_shares_are_stable(self) -> None:
        self.assertAlmostEqual(measure.stability(np.array([0.2, 0.8]), np.array([0.2, 0.8])), 0.0)
        self.assertGreater(measure.stability(np.array([0.2, 0.8]), np.array([0.6, 0.4])), 0.25)


if __name__ == "__main__":
    unittest.main()
