"""Tests of the models in conf/model/ as they are: what they say, and that the report speaks of them."""

import hashlib
import json
import tomllib
import unittest

import numpy as np
import onnx
from onnx import numpy_helper

import additive
import export_starter
import levels
import train

DIR = additive.ROOT / "conf" / "model"
SCHEMA = additive.Schema.read()
PLAN = train.Plan.read()


def weights(path: str) -> tuple[additive.Additive, dict[str, str]]:
    """The arrays of a model file and what it says of itself."""
    made = onnx.load(DIR / path)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    names = ("cold_start", "knot_lo", "knot_inv", "seg_weight", "offset", "bias")
    return additive.Additive(**{name: arrays[name] for name in names}), {p.key: p.value for p in made.metadata_props}


class Shipped(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.manifest = tomllib.loads((DIR / "manifest.toml").read_text())
        cls.models = {entry["kind"]: (entry, *weights(entry["file"])) for entry in cls.manifest["model"]}

    def test_there_is_one_for_each_kind_and_they_are_the_files_listed(self) -> None:
        self.assertEqual(list(self.models), list(additive.KINDS))
        for entry, _, props in self.models.values():
            self.assertEqual(hashlib.sha256((DIR / entry["file"]).read_bytes()).hexdigest(), entry["sha256"])
            self.assertEqual((entry["version"], props["model_kind"]), (PLAN.version, entry["kind"]))
            self.assertEqual(props["feature_schema_sha256"], SCHEMA.digest)

    def test_known_situations_are_judged_within_their_ranges(self) -> None:
        for kind, (_, model, _) in self.models.items():
            _, _, _, typical = export_starter.read_starter(SCHEMA, kind)
            scenarios = export_starter.read_scenarios(SCHEMA, typical, kind, "trained")
            probability, _ = model.evaluate(np.array([row for _, row, *_ in scenarios], np.float32))
            export_starter.check_scenarios(scenarios, probability)

    def test_the_landmarks_hold(self) -> None:
        _, model, _ = self.models["login"]
        _, _, _, typical = export_starter.read_starter(SCHEMA, "login")
        scenarios = export_starter.read_scenarios(SCHEMA, typical, "login")
        points = {name: export_starter.points(model.evaluate(row[None])[0][0]) for name, row, *_ in scenarios}
        self.assertLess(points["first login of a new account, residential network, browser"], levels.MEDIUM)
        self.assertLess(points["nothing is known at all"], levels.MEDIUM)
        self.assertGreaterEqual(points["stolen password: hosting, scripted agent, everything new"], levels.HIGH)
        self.assertLessEqual(points["returning user, known cookie, everything known"], 6)

    def test_golden_vectors_are_theirs(self) -> None:
        for entry, model, _ in self.models.values():
            golden = json.loads((DIR / entry["golden"]).read_text())
            rows = np.array([[np.nan if v is None else v for v in row["features"]] for row in golden["rows"]], np.float32)
            probability, contributions = model.evaluate(rows)
            for row, p, c in zip(golden["rows"], probability, contributions):
                self.assertLess(abs(row["probability"] - p), 1e-6, row["name"])
                self.assertLess(np.abs(np.array(row["contributions"]) - c).max(), 1e-6, row["name"])

    def test_directions_are_in_the_weights(self) -> None:
        for _, model, _ in self.models.values():
            for f, direction in enumerate(SCHEMA.monotone):
                if direction:
                    self.assertTrue((model.seg_weight[f] * direction >= 0).all(), SCHEMA.names[f])

    def test_rarity_weighs_something(self) -> None:
        for kind, (_, model, _) in self.models.items():
            for name in ("asn_rarity", "country_rarity"):
                self.assertGreater(model.seg_weight[SCHEMA.names.index(name)].sum(), 0.2, f"{kind} {name}")

    def test_everything_is_answered(self) -> None:
        chance = np.random.Generator(np.random.PCG64(3))
        odd = chance.choice([np.nan, np.inf, -np.inf, 1e30, -1e30, 0.0, 3.0], (500, len(SCHEMA.names))).astype(np.float32)
        for _, model, _ in self.models.values():
            probability, contributions = model.evaluate(odd)
            self.assertTrue(np.isfinite(probability).all() and np.isfinite(contributions).all())

    def test_card_and_report_are_of_this_version(self) -> None:
        self.assertIn(PLAN.version, (DIR / "CARD.md").read_text().splitlines()[0])
        report = (additive.ROOT / "training" / "REPORT.md").read_text()
        self.assertIn(f"seeds {PLAN.traffic['test']}", report)


if __name__ == "__main__":
    unittest.main()
