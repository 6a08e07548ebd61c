"""What an opening asks of the machines: arithmetic with a run's medians and with those of `loadtest.bench`. Pure."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from loadtest.scale_out.experiments import ALL, Result
from loadtest.scale_out.idle import REST, WANTED, IdleResult
from loadtest.scale_out.measuring import Case
from loadtest.scale_out.recording import HOLD, LATER, RecordingResult

TITLE = "What an opening asks of the machines"
WORST_MINUTE = 0.5  # of all who join do so in one minute
RUSH_S = 10.0  # in which everybody comes where there is no waiting room
MB = 1e6
FRONTS = 16  # processes, for what each of them adds
Found: TypeAlias = Result | RecordingResult | IdleResult


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Who comes for what. Examples: nothing here is a fact about an office."""

    name: str
    people: int
    programs: int  # alike, on as many primaries as it takes
    places: int  # in all programs together
    mark_per_min: int = 6000  # numbers that a program's waiting room admits: the default's most


OPENINGS = (
    Opening(name="one office, a week", people=20_000, programs=1, places=600),
    Opening(name="150 offices, a week, at once", people=2_000_000, programs=150, places=225_000),
    Opening(name="the same in one program", people=2_000_000, programs=1, places=225_000),
    Opening(name="one program, the world", people=3_000_000, programs=1, places=100_000),
)


@dataclass(frozen=True, kw_only=True)
class Served:
    """What a whole front works through HTTP, and the ledger for joins: microseconds, from `loadtest.bench`."""

    claim_us: float = 54  # this service, everything switched on
    refusal_us: float = 40  # sold-out answers
    join_us: float = 44
    join_valkey_us: float = 9
    live_bytes: float = 299  # of the ledger's memory for each live reservation

    @classmethod
    def read(cls, path: Path) -> "Served":
        """From what `python -m loadtest.bench --only claims,reads,joins --json` wrote, with the fewest connections."""
        suites: list[dict[str, Any]] = json.loads(path.read_text())["suites"]
        found = min(suites, key=lambda suite: suite["connections"])
        joins = found["reads"]["joins"]["joins"]["busy_us"]
        return cls(
            claim_us=found["variants"]["ours"]["busy_us"]["front"],
            refusal_us=found["reads"]["sold_out"]["sold_out"]["busy_us"]["front"],
            join_us=joins["front"],
            join_valkey_us=joins["valkey"],
        )


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one of each costs, in microseconds and bytes."""

    served: Served
    claim_valkey_us: float  # in calls of 64
    alone_valkey_us: float  # alone in its call, as where people come one by one
    alone_front_us: float  # what that costs the front more
    confirm_valkey_us: float
    worker_us: float  # a hold and its confirmation later
    postgres_us: float
    file_bytes: float
    journal_bytes: float
    row_bytes: float
    log_bytes: float
    rest_valkey_us: float  # a second, for each program of each front
    rest_front_us: float  # a second, for each program
    wanted_valkey_us: float  # the same of a program that is sold out and still asked for
    wanted_front_us: float

    @classmethod
    def of(cls, results: Sequence[Found], served: Served) -> "Costs | None":
        """From a run; None where it lacks something."""
        measured = {result.experiment.name: result for result in results if isinstance(result, Result)}
        recorded = next((result for result in results if isinstance(result, RecordingResult)), None)
        still = next((result for result in results if isinstance(result, IdleResult)), None)
        if recorded is None or still is None or not {"primaries", "batches"} <= measured.keys():
            return None
        spread, batches = measured["primaries"], measured["batches"]
        first = spread.experiment.cases[0]
        alone, confirmation = _case("claims, 1 a call"), _case("confirmations, 1 a call")

        def both(figure: str) -> float:
            return recorded.median(HOLD, figure) + recorded.median(LATER, figure)

        return cls(
            served=served,
            claim_valkey_us=spread.median(first, "valkey_us"),
            alone_valkey_us=batches.median(alone, "valkey_us"),
            alone_front_us=batches.median(alone, "front_us") - spread.median(first, "front_us"),
            confirm_valkey_us=batches.median(confirmation, "valkey_us"),
            worker_us=both("recorder_us"),
            postgres_us=both("postgres_us"),
            file_bytes=spread.median(first, "file_bytes") + batches.median(confirmation, "file_bytes"),
            journal_bytes=spread.median(first, "journal_bytes"),
            row_bytes=both("row_bytes"),
            log_bytes=both("log_bytes"),
            rest_valkey_us=still.median(REST, "valkey_more_us"),
            rest_front_us=still.median(REST, "follower_us"),
            wanted_valkey_us=still.median(WANTED, "valkey_more_us"),
            wanted_front_us=still.median(WANTED, "follower_us"),
        )


def _case(name: str) -> Case:
    return next(case for experiment in ALL for case in experiment.cases if case.name == name)


Line: TypeAlias = tuple[str, Callable[[Opening, Costs], float]]


def _joins_per_s(of: Opening) -> float:
    return of.people * WORST_MINUTE / 60


def _admitted_per_s(of: Opening) -> float:
    return of.programs * of.mark_per_min / 60


LINES: Sequence[Line] = (
    ("people", lambda of, _: of.people),
    ("programs", lambda of, _: of.programs),
    ("places", lambda of, _: of.places),
    ("nothing happens: of each front's core", lambda of, costs: of.programs * costs.rest_front_us / 1e6),
    (
        f"- cores of primaries, {FRONTS} fronts",
        lambda of, costs: of.programs * FRONTS * costs.rest_valkey_us / 1e6,
    ),
    (
        "all sold out and still wanted: of each front's core",
        lambda of, costs: of.programs * costs.wanted_front_us / 1e6,
    ),
    (
        f"- cores of primaries, {FRONTS} fronts",
        lambda of, costs: of.programs * FRONTS * costs.wanted_valkey_us / 1e6,
    ),
    ("joins a second, half of all in one minute", lambda of, _: _joins_per_s(of)),
    ("- cores of fronts", lambda of, costs: _joins_per_s(of) * costs.served.join_us / 1e6),
    ("- cores of primaries", lambda of, costs: _joins_per_s(of) * costs.served.join_valkey_us / 1e6),
    ("claims a second that the marks admit", lambda of, _: _admitted_per_s(of)),
    (
        "- cores of fronts, each claim alone in its call",
        lambda of, costs: _admitted_per_s(of) * (costs.served.claim_us + costs.alone_front_us) / 1e6,
    ),
    ("- cores of primaries, the same", lambda of, costs: _admitted_per_s(of) * costs.alone_valkey_us / 1e6),
    ("- of one program's primary", lambda of, costs: of.mark_per_min / 60 * costs.alone_valkey_us / 1e6),
    ("- minutes until the last place is given", lambda of, _: of.places / of.programs / of.mark_per_min),
    (f"no waiting room: claims a second, all in {RUSH_S:.0f} s", lambda of, _: of.people / RUSH_S),
    (
        "- cores of fronts",
        lambda of, costs: (
            (of.places * costs.served.claim_us + (of.people - of.places) * costs.served.refusal_us) / RUSH_S / 1e6
        ),
    ),
    ("- cores of primaries, 64 claims a call", lambda of, costs: of.places * costs.claim_valkey_us / RUSH_S / 1e6),
    ("- of one program's primary", lambda of, costs: of.places / of.programs * costs.claim_valkey_us / RUSH_S / 1e6),
    (
        "confirming, each alone in its call: primaries, core seconds",
        lambda of, costs: of.places * costs.confirm_valkey_us / 1e6,
    ),
    (
        "recording holds and confirmations: worker, core seconds",
        lambda of, costs: of.places * costs.worker_us / 1e6,
    ),
    ("- PostgreSQL, core seconds", lambda of, costs: of.places * costs.postgres_us / 1e6),
    ("ledger memory, nothing recorded yet, MB", lambda of, costs: _memory_bytes(of, costs) / MB),
    ("append-only file, MB", lambda of, costs: of.places * costs.file_bytes / MB),
    ("PostgreSQL tables and indexes, MB", lambda of, costs: of.places * costs.row_bytes / MB),
    ("PostgreSQL write-ahead log, MB", lambda of, costs: of.places * costs.log_bytes / MB),
)


def _memory_bytes(of: Opening, costs: Costs) -> float:
    return of.places * (costs.served.live_bytes + costs.journal_bytes)


def rows(costs: Costs) -> list[tuple[str, ...]]:
    """A line for each quantity, with its value for each opening."""
    return [(name, *(_number(value(of, costs)) for of in OPENINGS)) for name, value in LINES]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"
