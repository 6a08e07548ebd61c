"""The timetable with Locust's client, for an installation of your own.

`locust -f loadtest/openloop/locustfile.py --headless --host http://... --program ID --users 300 --rate-per-s 200`

Locust's users are callers that take the next arrival of the timetable; there must be enough of them for all requests
that are in flight at once. Each worker of a distributed run has a share of the rate and people of its own.
"""

import itertools
import json
import random
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import gevent
import msgspec
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner

from loadtest.openloop.outcomes import NONE, Outcomes, outcome_of
from loadtest.openloop.schedule import poisson
from loadtest.stage.people import person
from loadtest.stage.program import PROGRAM

ANSWER_TIMEOUT_S = 15.0
START_S = 1.0  # until the first arrival: the users are there by then
ANSWERS = frozenset({201, 409, 429, 503})  # no failure; what they were is counted apart


class Arrivals:
    """What all callers of one process share."""

    def __init__(self, options: Namespace, worker: int) -> None:
        self.options = options
        self.seconds: float = options.seconds
        seed = options.seed * options.workers + worker
        self.times = poisson(options.rate_per_s / options.workers, self.seconds, seed)
        self.next = itertools.count()
        self.people = itertools.count(worker, options.workers)
        self.chance = random.Random(seed)
        self.quotas: list[str] = []
        self.outcomes = Outcomes(seconds=self.seconds, offered=len(self.times))
        self.started_s = time.perf_counter() + START_S

    def claim(self) -> tuple[bytes, str]:
        """A claim of somebody new, and its key."""
        one = person(next(self.people), self.options.seed)
        body = {
            "quota": self.chance.choice(self.quotas),
            "applicants": [one.applicant()],
            "contact": {"email": one.email, "phone": one.phone},
        }
        return msgspec.json.encode(body), f"openloop-{one.number}-{self.options.seed}"


ARRIVALS: dict[int, Arrivals] = {}  # by environment


def add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--program", default=PROGRAM, help="program whose quotas are claimed")
    parser.add_argument("--rate-per-s", type=float, default=100.0, help="claims a second, of all workers together")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the timetable")
    parser.add_argument("--seed", type=int, default=0, help="another seed: another timetable, other people")
    parser.add_argument("--workers", type=int, default=1, help="workers of a distributed run")
    parser.add_argument("--outcomes", default="", help="file for the outcomes as JSON")


def begin(environment: Environment, **_: Any) -> None:
    if environment.parsed_options is not None and not isinstance(environment.runner, MasterRunner):
        worker = max(0, getattr(environment.runner, "worker_index", 0))
        ARRIVALS[id(environment)] = Arrivals(environment.parsed_options, worker)


def finish(environment: Environment, **_: Any) -> None:
    arrivals = ARRIVALS.get(id(environment))
    if arrivals is None:  # the master of a distributed run
        return
    facts = arrivals.outcomes.facts()
    print(json.dumps(facts, indent=2))
    if arrivals.options.outcomes:
        worker = getattr(environment.runner, "worker_index", 0)
        suffix = f".{worker}" if arrivals.options.workers > 1 else ""
        Path(arrivals.options.outcomes + suffix).write_text(json.dumps(facts, indent=2) + "\n")


class Caller(FastHttpUser):
    """Sends whatever is due next."""

    connection_timeout = ANSWER_TIMEOUT_S
    network_timeout = ANSWER_TIMEOUT_S
    concurrency = 1

    @task
    def next_arrival(self) -> None:
        arrivals = ARRIVALS[id(self.environment)]
        if not arrivals.quotas:
            self._look(arrivals)
        number = next(arrivals.next)
        if number >= len(arrivals.times):
            raise StopUser
        body, key = arrivals.claim()
        due_s = arrivals.started_s + arrivals.times[number]
        gevent.sleep(max(0.0, due_s - time.perf_counter()))
        arrivals.outcomes.late(time.perf_counter() - due_s)
        self._send(arrivals, body, key, due_s)
        if arrivals.outcomes.counts.total() == len(arrivals.times):
            gevent.spawn(self.environment.runner.quit)  # quitting ends this very greenlet, and must go on after that

    def _look(self, arrivals: Arrivals) -> None:
        path = f"/v1/availability?program={arrivals.options.program}"
        with self.client.get(path, name="availability", catch_response=True) as response:
            quotas = msgspec.json.decode(response.content or b"{}").get("quotas", [])
            arrivals.quotas = [quota["id"] for quota in quotas if quota["remaining"] > 0]
        if not arrivals.quotas:
            raise StopUser

    def _send(self, arrivals: Arrivals, body: bytes, key: str, due_s: float) -> None:
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        with self.client.post(
            "/v1/reservations", name="claim", headers=headers, data=body.decode(), catch_response=True
        ) as response:
            status = response.status_code
            outcome = outcome_of(status, response.content or b"") if status else NONE
            says_when = "Retry-After" in (response.headers or {})
            if status in ANSWERS:
                response.success()
        now_s = time.perf_counter()
        in_time = now_s - arrivals.started_s <= arrivals.seconds
        arrivals.outcomes.count(outcome, now_s - due_s, in_time=in_time, says_when=says_when)
        self.environment.events.request.fire(
            request_type="claim",
            name=f"{outcome} since intended",
            response_time=(now_s - due_s) * 1000,
            response_length=0,
            exception=None,
            context={},
        )


events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]
events.test_start.add_listener(begin)  # type: ignore[no-untyped-call]
events.test_stop.add_listener(finish)  # type: ignore[no-untyped-call]
