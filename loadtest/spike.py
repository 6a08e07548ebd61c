"""A calm, the opening, its decay: `locust -f loadtest/spike.py --host http://... --people 5000`.

The people and what they do are those of `locustfile.py`; this file says only how many come in a second. In a
distributed run each worker has its own share of the people: tell the master how many there are with `--workers`.
"""

from argparse import Namespace
from typing import ClassVar

from locust import LoadTestShape

from loadtest.locustfile import Visitor

__all__ = ["Spike", "Visitor"]


# A minute has the hour around an opening: until when (seconds since the start), which share of the users that are asked
# for are there, and which share comes or goes in a second.
STAGES = (
    (5.0, 0.05, 0.05),  # calm: a few look around
    (20.0, 1.0, 1.0),  # the opening: everybody within a second
    (30.0, 0.4, 0.1),  # decay
    (40.0, 0.1, 0.1),
)
USERS_DEFAULT = 300


class Spike(LoadTestShape):
    """How many visitors there are at each moment; the run ends with the last stage, or with the last person."""

    use_common_options: ClassVar[bool] = True  # `--users` is the size of the crowd at the opening

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now and how fast they come; None: the run is over."""
        options: Namespace | None = self.runner.environment.parsed_options if self.runner else None
        users = (options.num_users if options else None) or USERS_DEFAULT
        run_time_s: float = self.get_run_time()  # type: ignore[no-untyped-call]
        for until_s, share, spawn_per_s in STAGES:
            if run_time_s < until_s:
                return max(1, round(users * share)), max(1.0, users * spawn_per_s)
        return None
