"""Tests of the exporters: `training/.venv/bin/python -m unittest discover training`."""

import unittest

import numpy as np
import onnx

import additive
import export_starter
import make_test_models


class Starter(unittest.TestCase):
    def setUp(self) -> None:
        self.schema = additive.Schema.read()
        self.version, self.shapes, self.bias, self.typical = export_starter.read_starter(self.schema)
        self.weights = additive.Additive.of(self.schema, self.shapes, self.bias)

    def test_situations_stay_in_their_ranges(self) -> None:
        for kind, at_least in (("login", 30), ("token", 10), ("m2m", 8)):
            _, shapes, bias, typical = export_starter.read_starter(self.schema, kind)
            weights = additive.Additive.of(self.schema, shapes, bias)
            scenarios = export_starter.read_scenarios(self.schema, typical, kind)
            self.assertGreaterEqual(len(scenarios), at_least)
            probability, _ = weights.evaluate(np.array([row for _, row, *_ in scenarios]))
            for (name, _, low, high), p in zip(scenarios, probability):
                with self.subTest(kind=kind, name=name):
                    self.assertTrue(low <= export_starter.points(p) <= high, f"{export_starter.points(p)}")

    def test_a_situation_out_of_range_is_refused(self) -> None:
        with self.assertRaises(export_starter.Refused):
            export_starter.check_scenarios([("x", None, 30, 40)], np.array([0.294]))

    def test_a_typical_login_has_no_contributions(self) -> None:
        probability, contributions = self.weights.evaluate(np.array([self.typical], np.float32))
        self.assertLess(np.abs(contributions).max(), 1e-6)
        self.assertAlmostEqual(float(probability[0]), 1.0 / (1.0 + np.exp(-self.bias)), places=6)

    def test_risk_moves_in_the_direction_of_the_schema(self) -> None:
        for f, direction in enumerate(self.schema.monotone):
            low, high = self.schema.clip[f]
            rows = np.tile(np.array(self.typical, np.float32), (200, 1))
            rows[:, f] = np.linspace(low, high, 200)
            probability, _ = self.weights.evaluate(rows)
            with self.subTest(self.schema.names[f]):
                self.assertGreaterEqual((np.diff(probability) * direction).min(), -1e-9)

    def test_every_feature_can_count(self) -> None:
        for kind in additive.KINDS:
            _, shapes, _, _ = export_starter.read_starter(self.schema, kind)
            for name, kinds, shape in zip(self.schema.names, self.schema.kinds, shapes):
                with self.subTest(kind=kind, name=name):
                    # What strangers show is left to training.
                    counts = kind in kinds and not name.startswith("newcomer_")
                    self.assertEqual(max(shape.y) - min(shape.y) > 0.0, counts)

    def test_the_files_in_place_are_up_to_date(self) -> None:
        for path, content in (export_starter.outputs() | make_test_models.outputs()).items():
            with self.subTest(str(path.relative_to(additive.ROOT))):
                self.assertTrue(path.read_bytes() == content)

    def test_the_model_says_that_it_was_not_trained(self) -> None:
        path = export_starter.MODEL_DIR / f"risk-login-{self.version}.onnx"
        props = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
        self.assertIn("not trained", props["note"])
        self.assertEqual(props["feature_schema_sha256"], self.schema.digest)


if __name__ == "__main__":
    unittest.main()
