"""Tests of the scores that the model is compared with."""

import unittest

import numpy as np

import additive
import freeman
import rules


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
