"""Chance from a seed: independent streams by name, and the few distributions that people and attackers follow.

Each concern draws from a stream of its own, so that, say, more brute force does not change what the good users do.
(Theft does: a stolen token ends what its owner would have done with it.)
"""

import hashlib
import math
from itertools import accumulate
from random import Random
from typing import Sequence


class Chance(Random):
    """`random.Random` with the distributions used here."""

    def poisson(self, mean: float) -> int:
        """A Poisson count; by multiplication below 30, beyond that by a rounded normal."""
        if mean <= 0.0:
            return 0
        if mean > 30.0:
            return max(0, round(self.gauss(mean, math.sqrt(mean))))
        limit, product, count = math.exp(-mean), self.random(), 0
        while product > limit:
            product *= self.random()
            count += 1
        return count

    def exponential(self, mean: float) -> float:
        """An exponential waiting time."""
        return -mean * math.log(1.0 - self.random())

    def log_uniform(self, low: float, high: float) -> float:
        """Uniform in the logarithm."""
        return low * (high / low) ** self.random()

    def log_normal(self, median: float, sigma: float) -> float:
        """Log-normal around a median."""
        return median * math.exp(self.gauss(0.0, sigma))

    def happens(self, share: float) -> bool:
        """True with this probability."""
        return self.random() < share

    def hex(self, digits: int) -> str:
        """Random hexadecimal text of that many digits."""
        return f"{self.getrandbits(4 * digits):0{digits}x}"


class Weighted:
    """A choice among weighted values, prepared once."""

    def __init__(self, values: Sequence, weights: Sequence[float]) -> None:
        self.values = list(values)
        self.sums = list(accumulate(weights))

    def pick(self, chance: Chance):
        """One value."""
        return chance.choices(self.values, cum_weights=self.sums)[0]


def stream(seed: int, *names: object) -> Chance:
    """The stream of that name under the seed."""
    return Chance(number(seed, *names))


def number(seed: int, *names: object) -> int:
    """64 bits that follow from the seed and the names."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def signed(value: int) -> int:
    """64 bits read as a signed number, which is the form of user ids in the RBA data set."""
    return value - (1 << 64) if value >> 63 else value


def token_text(seed: int, *names: object, length: int = 28) -> str:
    """Text of letters, digits and underscore, in the form of WSO2's client ids."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
    chance = stream(seed, "text", *names)
    return "".join(chance.choice(letters) for _ in range(length))
