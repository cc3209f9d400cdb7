"""Tests of the fit: it finds what is there, keeps directions and floors, and calibrates."""

import unittest

import numpy as np

import additive
import fit


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-z))


class Fit(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        chance = np.random.Generator(np.random.PCG64(5))
        cls.x = np.clip(chance.normal(size=(8000, 6)), -3, 3).astype(np.float32)
        # The fifth never moves in these data; the sixth is a switch.
        cls.x[:, 4] = 0.0
        cls.x[:, 5] = chance.random(8000) < 0.3
        z = 2.0 * np.maximum(cls.x[:, 0], 0.0) - 1.5 * cls.x[:, 1] + 0.2 * cls.x[:, 2] + 1.2 * cls.x[:, 5] - 2.0
        cls.label = chance.random(8000) < sigmoid(z)
        cls.weight = np.ones(8000)
        # The third is bound against what the data say.
        cls.monotone = [1, -1, -1, 1, 1, 1]
        cls.floors = {3: fit.Floor([-3.0, 0.0, 3.0], [0.0, 0.0, 0.3]), 4: fit.Floor([0.0, 1.0, 4.0], [0.0, 0.2, 0.8])}
        cls.fitted = fit.fit(cls.x, cls.label, cls.weight, cls.monotone, cls.floors, set(), fit.Settings(shrink=1e-6, smooth=1e-5))

    def height(self, f: int, value: float) -> float:
        return float(np.interp(value, self.fitted.knots[f], self.fitted.heights[f]))

    def test_it_finds_the_shapes(self) -> None:
        self.assertAlmostEqual(self.height(0, 2.0) - self.height(0, 0.0), 4.0, delta=0.5)
        self.assertAlmostEqual(self.height(0, 0.0) - self.height(0, -2.0), 0.0, delta=0.3)
        self.assertAlmostEqual(self.height(1, 2.0) - self.height(1, 0.0), -3.0, delta=0.4)
        self.assertAlmostEqual(self.height(5, 1.0), 1.2, delta=0.2)

    def test_directions_hold_against_the_data(self) -> None:
        for f, direction in enumerate(self.monotone):
            self.assertTrue((np.diff(self.fitted.heights[f]) * direction >= -1e-12).all(), f)
        self.assertGreater(self.height(2, 3.0), -0.4)

    def test_floors_hold_where_there_are_no_data(self) -> None:
        self.assertGreaterEqual(self.height(3, 3.0) - self.height(3, 0.0), 0.3 - 1e-9)
        for value, least in ((1.0, 0.2), (4.0, 0.8)):
            self.assertGreaterEqual(self.height(4, value), least - 1e-9)

    def test_ceilings_hold_against_the_data(self) -> None:
        ceilings = {0: fit.Ceiling([-3.0, 0.0, 3.0], [0.0, 0.1, 1.0]), 1: fit.Ceiling([-3.0, 3.0], [0.0, -1.0])}
        fitted = fit.fit(
            self.x, self.label, self.weight, self.monotone, self.floors, set(), fit.Settings(shrink=1e-6, smooth=1e-5), None, None, ceilings
        )
        for f, ceiling in ceilings.items():
            at = np.interp(ceiling.x, fitted.knots[f], fitted.heights[f])
            self.assertTrue((np.abs(np.diff(at)) <= np.abs(np.diff(ceiling.y)) + 1e-9).all(), f)
        # The data want all of it.
        self.assertAlmostEqual(float(fitted.heights[0][-1]), 1.0, places=6)

    def test_what_is_frozen_says_nothing(self) -> None:
        fitted = fit.fit(self.x, self.label, self.weight, self.monotone, {}, {0}, fit.Settings(iterations=20))
        self.assertEqual(list(fitted.heights[0]), [0.0])

    def test_the_gradient_is_that_of_the_loss(self) -> None:
        # A worse point nearby: what the optimiser returns is a minimum of the stated loss.
        x, chance = self.x[:2000], np.random.Generator(np.random.PCG64(1))
        free = fit.fit(x, self.label[:2000], self.weight[:2000], [0] * 6, {}, set(), fit.Settings(shrink=1e-3))

        def loss(heights: list[np.ndarray], bias: float) -> float:
            z = fit.logits(fit.Fitted(free.knots, heights, bias, 0, 0.0), x)
            w = [np.diff(h) for h in heights]
            pull = 1e-3 * sum(float(v @ v) for v in w) + 2e-4 * sum(float(np.diff(v) @ np.diff(v)) for v in w)
            return float(np.mean(np.logaddexp(0.0, z) - self.label[:2000] * z)) + pull

        best = loss(free.heights, free.bias)
        self.assertAlmostEqual(best, free.loss, places=6)
        for _ in range(20):
            moved = [np.concatenate([[0.0], h[1:] + 0.02 * chance.normal(size=len(h) - 1)]) for h in free.heights]
            self.assertGreater(loss(moved, free.bias + 0.02 * chance.normal()), best - 1e-7)

    def test_calibration_is_undone_and_folded_in(self) -> None:
        logit = fit.logits(self.fitted, self.x)
        slope, intercept = fit.platt(2.0 * logit + 1.0, self.label.astype(float), self.weight)
        self.assertAlmostEqual(slope, 0.5, delta=0.05)
        shapes, bias = fit.folded(self.fitted, slope, intercept, self.x[~self.label], np.ones((~self.label).sum()))
        names = [f"f{i}" for i in range(6)]
        schema = additive.Schema(1, names, [0.0] * 6, [(-3.0, 3.0)] * 6, self.monotone, [["login"]] * 6, "")
        model = additive.Additive.of(schema, shapes, bias)
        probability, contributions = model.evaluate(self.x)
        self.assertLess(np.abs(np.log(probability / (1 - probability)) - (slope * logit + intercept)).max(), 1e-4)
        # A typical good row is the zero of every shape.
        self.assertLess(np.abs(contributions[~self.label].mean(axis=0)).max(), 1e-4)

    def test_few_values_get_a_knot_each(self) -> None:
        values = np.array([0.0, 0.5, 1.0, 0.5], np.float32)
        self.assertEqual(list(fit.knots_of(values, np.ones(4), 12, [])), [0.0, 0.5, 1.0])
        self.assertEqual(len(fit.knots_of(np.zeros(4, np.float32), np.ones(4), 12, [])), 1)

    def test_many_values_get_no_more_segments_than_allowed(self) -> None:
        chance = np.random.Generator(np.random.PCG64(2))
        values = chance.exponential(size=50000).astype(np.float32)
        knots = fit.knots_of(values, np.ones(50000), 40, [0.0, 1.0])
        self.assertLessEqual(len(knots) - 1, fit.SEGMENTS_MAX)
        self.assertTrue((np.diff(knots) > 0).all())
        self.assertAlmostEqual(knots[-1], float(values.max()), places=4)


if __name__ == "__main__":
    unittest.main()
