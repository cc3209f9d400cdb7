"""The trainer's features are the gateway's, on vectors that the gateway wrote."""

import json
import unittest

import numpy as np

import additive
import features_tokens
import make_feature_vectors

FROM_GATEWAY = additive.ROOT / "tests" / "data" / "features" / "from-gateway.json"


class Features(unittest.TestCase):
    def setUp(self) -> None:
        self.schema = additive.Schema.read()

    def test_they_are_those_of_the_gateway(self) -> None:
        vectors = json.loads(FROM_GATEWAY.read_text())
        self.assertGreaterEqual(len(vectors), 100)
        for vector in vectors:
            found = features_tokens.vector(vector["raw"], self.schema)
            expected = np.array([np.nan if v is None else v for v in vector["features"]], np.float32)
            for name, a, b in zip(self.schema.names, found, expected):
                with self.subTest(f"{vector['name']}: {name}"):
                    self.assertEqual(np.isnan(a), np.isnan(b), f"{a} {b}")
                    if not np.isnan(a):
                        self.assertLessEqual(abs(float(a) - float(b)), 1e-6 * max(1.0, abs(float(b))))

    def test_the_vectors_for_the_gateway_are_up_to_date(self) -> None:
        self.assertTrue(make_feature_vectors.FILE.read_bytes() == make_feature_vectors.content())

    def test_features_of_another_kind_are_missing(self) -> None:
        for vector in json.loads(make_feature_vectors.FILE.read_text()):
            kind = vector["raw"]["kind"]
            for name, kinds, value in zip(self.schema.names, self.schema.kinds, vector["features"]):
                if kind not in kinds:
                    self.assertIsNone(value, f"{vector['name']}: {name}")


if __name__ == "__main__":
    unittest.main()
