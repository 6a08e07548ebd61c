"""When people arrive: a Poisson process, drawn before the load begins, the same for the same seed."""

import random
from collections.abc import Sequence


def poisson(rate_per_s: float, seconds: float, seed: int = 0) -> Sequence[float]:
    """Seconds from the start at which somebody arrives, in order; about `rate_per_s * seconds` of them.

    Raises:
        ValueError: the rate is not above zero.
    """
    if rate_per_s <= 0:
        raise ValueError("a rate must be above zero")
    chance = random.Random(f"{seed}/{float(rate_per_s)}/{float(seconds)}")  # 100 is 100.0
    arrivals: list[float] = []
    at_s = chance.expovariate(rate_per_s)
    while at_s < seconds:
        arrivals.append(at_s)
        at_s += chance.expovariate(rate_per_s)
    return arrivals
