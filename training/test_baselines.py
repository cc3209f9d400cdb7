"""Tests of the scores that the model is compared with."""

import unittest

import lightgbm
import numpy as np

import additive
import challengers
import freeman
import rules
import trees


def event(user: str, address: str, agent: str, **more: str) -> dict[str, str]:
    return {
        "User ID": user,
        "IP Address": address,
        "ASN": address.split(".")[0],
        "Country": "NO",
        "User Agent String": agent,
        "Browser Name and Version": agent,
        "OS Name and Version": "Linux",
        "Device Type": "desktop",
        "Login Successful": "True",
        "Event Kind": "login",
        "Attacker Kind": "",
    } | more


class Literature(unittest.TestCase):
    def test_by_hand(self) -> None:
        state = freeman.Freeman()
        state.learn(event("a", "1.1.1.1", "x"))
        state.learn(event("a", "1.1.1.1", "x"))
        state.learn(event("b", "2.1.1.1", "y"))
        found = state.score(event("a", "2.1.1.1", "x"))
        # Address: seen once of three by others (add-one over two distinct values), network likewise, country by all.
        everywhere = 0.6 * 2 / 6 + 0.3 * 1 / 3 + 0.1 * 1.0
        here = 0.6 * 2 / 6 / 4 + 0.3 * 1 / 3 / 4 + 0.1 * 1.0
        top, rest = freeman.AGENT[0][1], [w for _, w in freeman.AGENT[1:]]
        agent = top * 3 / 6 + rest[0] * 2 / 3 + rest[1] + rest[2]
        expected = np.log((1 / 3) / (3 / 4)) + np.log(everywhere / here) + np.log(agent / 1.0)
        self.assertAlmostEqual(found, expected, places=9)

    def test_a_stranger_scores_above_the_owner(self) -> None:
        history = [event(f"u{n % 5}", f"{n % 5}.1.1.1", f"agent {n % 5}") for n in range(100)]
        owner, stranger = event("u1", "1.1.1.1", "agent 1"), event("u1", "9.9.9.9", "agent 9", **{"Attacker Kind": "naive"})
        *_, of_owner, of_stranger, again = freeman.scores([*history, owner, stranger, stranger])
        self.assertGreater(of_stranger, of_owner + 1.0)
        # An attack is not learnt.
        self.assertEqual(of_stranger, again)

    def test_other_kinds_of_event_are_not_scored(self) -> None:
        self.assertTrue(np.isnan(freeman.scores([event("a", "1.1.1.1", "x", **{"Event Kind": "refresh"})])[0]))


class Trees(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        chance = np.random.Generator(np.random.PCG64(2))
        cls.x = np.round(chance.normal(size=(3000, 4)), 2).astype(np.float32)
        cls.x[chance.random(3000) < 0.2, 1] = np.nan
        label = (np.nan_to_num(cls.x[:, 1], nan=1.0) + cls.x[:, 0] * cls.x[:, 2] + chance.normal(size=3000)) > 0.5
        cls.model = challengers.boosted(cls.x, label, np.ones(3000), None)

    def test_the_graph_gives_what_lightgbm_gives(self) -> None:
        # The training rows lie on the thresholds' grid; the last ones are missing where training had no missing value.
        rows = np.concatenate([self.x, np.full((3, 4), np.nan, np.float32), np.nextafter(self.x[:500], np.float32(9.0))])
        found = trees.session(trees.onnx_of(self.model.booster_)).run(["probability"], {"features": rows})[0][:, 0]
        self.assertLess(np.abs(found - self.model.predict_proba(rows)[:, 1]).max(), 1e-5)

    def test_a_threshold_decides_every_float_alike(self) -> None:
        for value in (0.1, 1.0 / 3.0, -0.7, 1.0, 1e-30, 123456.789):
            down = trees.float_down(value)
            self.assertLessEqual(down, value)
            self.assertGreater(float(np.nextafter(np.float32(down), np.float32(np.inf))), value)

    def test_a_split_of_another_kind_is_refused(self) -> None:
        columns = np.arange(3000) % 5
        rows = np.column_stack([columns, self.x[:, 0]])
        model = lightgbm.train(
            {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_per_group": 1},
            lightgbm.Dataset(rows, columns % 2, categorical_feature=[0]),
            2,
        )
        with self.assertRaises(trees.Unknown):
            trees.onnx_of(model)


class Rules(unittest.TestCase):
    def test_points_add_up_and_missing_gives_none(self) -> None:
        names = additive.Schema.read().names
        rows = np.full((3, len(names)), np.nan, np.float32)
        rows[1, names.index("device_cookie")] = 0.5
        rows[1, names.index("network_kind")] = 2.0
        rows[2, names.index("device_cookie")] = 0.1
        self.assertEqual(list(rules.scores(rows, names)), [0.0, 20 + 15 + 20, 0.0])


if __name__ == "__main__":
    unittest.main()
