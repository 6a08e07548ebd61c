"""The scenario as Locust runs it: `locust -f loadtest/locustfile.py --host http://... --people 20000`.

Locust's users are places in the crowd: each takes in the next person as soon as the one before has left. People arrive
at a fixed rate whether or not the service keeps up, so a stall shows in "since arrival", which counts from the moment
at which a person meant to come; the rows of single calls count from sending, as always.
"""

import itertools
import logging
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, TextIO

import gevent
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner

from loadtest.checker.history import INDEFINITE, write_exchange
from loadtest.crowd.scenario import Answered, Call, Pause, Plan, Result, exchange, read_answer, visit
from loadtest.stage.program import PROGRAM

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 15.0
EXIT_SURPRISED = 3  # somebody got an answer that the contract does not allow, or none at all in the end
EXIT_NO_HISTORY = 4
REFUSALS = frozenset({409})  # definite answers that are no failure


class Opening:
    def __init__(self, options: Namespace, worker: int = 0) -> None:
        self.plan = Plan(**{name: vars(options)[name] for name in Plan.__struct_fields__ if name in vars(options)})
        self.numbers = itertools.count(worker, options.workers)  # each worker has people of its own
        self.share = len(range(worker, options.people, options.workers))
        self.choices: list[str] = []
        self.ended = 0
        self.failed = 0  # visits that ended surprised or unanswered
        self.started_s = time.time()
        self._interval_s: float = 1 / options.arrivals_per_s
        self.history: TextIO | None = None
        if options.history:
            file = Path(f"{options.history}.{worker}" if options.workers > 1 else options.history)
            file.parent.mkdir(parents=True, exist_ok=True)  # `reports/` is not there yet in a new clone
            self.history = file.open("w")

    def arrives_at_s(self, number: int) -> float:
        return self.started_s + number * self._interval_s


def add_options(parser: LocustArgumentParser) -> None:
    defaults = Plan(program=PROGRAM, people=20_000)
    parser.add_argument("--program", default=defaults.program, help="program whose quotas are claimed")
    parser.add_argument("--people", type=int, default=defaults.people, help="distinct people in all")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="another seed: other people")
    parser.add_argument("--arrivals-per-s", type=float, default=500.0, help="people who arrive in a second")
    parser.add_argument("--abandon-share", type=float, default=defaults.abandon_share, help="hold and never confirm")
    parser.add_argument("--cancel-share", type=float, default=defaults.cancel_share, help="confirm, then cancel")
    parser.add_argument("--workers", type=int, default=1, help="workers of a distributed run")
    parser.add_argument("--history", default="", help="file for every request and answer, JSON lines")


OPENINGS: list[Opening] = []  # none, or that of the run


def begin(environment: Environment, **_: Any) -> None:
    if environment.parsed_options is not None and not isinstance(environment.runner, MasterRunner):
        worker = getattr(environment.runner, "worker_index", 0)
        try:
            OPENINGS[:] = [Opening(environment.parsed_options, max(0, worker))]
        except OSError as error:  # locust would go on, and nobody would be sent
            log.error("the history cannot be written: %s", error)  # noqa: TRY400 - whoever mistyped a path needs no trace
            environment.process_exit_code = EXIT_NO_HISTORY
            if environment.runner is not None:
                environment.runner.quit()


def finish(environment: Environment, **_: Any) -> None:
    for opening in OPENINGS:  # the master of a distributed run, which sends nobody, has none
        if opening.history:
            opening.history.close()
        if opening.failed:
            environment.process_exit_code = EXIT_SURPRISED


class Visitor(FastHttpUser):
    connection_timeout = ANSWER_TIMEOUT_S
    network_timeout = ANSWER_TIMEOUT_S
    concurrency = 1

    @task
    def next_person(self) -> None:
        (opening,) = OPENINGS
        number = next(opening.numbers)
        if number >= opening.plan.people:
            raise StopUser
        gevent.sleep(max(0.0, opening.arrives_at_s(number) - time.time()))
        self._report(opening, self._visit(opening, number), number)
        opening.ended += 1
        if opening.ended == opening.share:
            gevent.spawn(self.environment.runner.quit)  # quitting ends this very greenlet, and must go on after that

    def _visit(self, opening: Opening, number: int) -> Result:
        steps = visit(number, opening.plan, opening.choices)
        answered: Answered | None = None
        first_claim = True
        while True:
            try:
                step = steps.send(answered)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Pause):
                answered = None
                gevent.sleep(step.seconds)
                continue
            answered = self._send(opening, number, step)
            if step.name == "claim" and first_claim and answered.outcome not in INDEFINITE:
                first_claim = False
                self._fire("person", "first definite answer since arrival", opening.arrives_at_s(number))

    def _send(self, opening: Opening, number: int, call: Call) -> Answered:
        sent_ms = time.time() * 1000
        with self.client.request(
            call.method,
            call.path,
            name=call.name,
            headers=call.headers,
            data=call.body.decode() or None,
            catch_response=True,
        ) as response:
            answered = read_answer(response.status_code, response.headers or {}, response.content or b"")
            if response.status_code in REFUSALS:
                response.success()
        if opening.history is not None and call.name != "availability":
            write_exchange(opening.history, exchange(number, call, answered, sent_ms))
        return answered

    def _report(self, opening: Opening, result: Result, number: int) -> None:
        failed = result in (Result.SURPRISED, Result.UNANSWERED)
        opening.failed += failed
        fault = AssertionError(str(result)) if failed else None
        self._fire("visit", result.value, opening.arrives_at_s(number), fault)

    def _fire(self, kind: str, name: str, since_s: float, fault: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=(time.time() - since_s) * 1000,
            response_length=0,
            exception=fault,
            context={},
        )


events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]
events.test_start.add_listener(begin)  # type: ignore[no-untyped-call]
events.test_stop.add_listener(finish)  # type: ignore[no-untyped-call]
