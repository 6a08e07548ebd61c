"""`python -m loadtest.bench`: starts everything, measures, verifies, prints a table, stops everything."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

import uvloop

from loadtest.bench.against.comparison import OPERATIONS, against_revision
from loadtest.bench.answers import Joiners, measure_answers, prepare_answers
from loadtest.bench.command import carry_out, names_of, parser_of, positive
from loadtest.bench.experiments import growth, memory
from loadtest.bench.figures import Say
from loadtest.bench.ground import describe, prepared
from loadtest.bench.measuring import JUDGED, ONE_FRONT, SEVERAL_FRONTS, Arrangement, Bench, Meter, Plan
from loadtest.bench.report import Run, Suite
from loadtest.bench.variants.redis_rivals import CONNECTIONS_MAX
from loadtest.stage.cores import Cores, pinned
from loadtest.stage.shims import can_build

MODULE = "loadtest.bench"
SMOKE = Plan(rounds=1, connections=8, seconds=0.0, warm_up_claims=50)
ROUNDS = 6  # those on shaky ground do not count
CONNECTIONS = (64, 256)  # what is usual in such comparisons, and the first second of an opening
EXPERIMENTS = (memory, growth)
CLAIMS, ANSWERS, FRONTS = "claims", "answers", "fronts"
SECTIONS = (CLAIMS, ANSWERS, FRONTS, *(module.NAME for module in EXPERIMENTS))


def read_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = parser_of(MODULE, __doc__, SECTIONS, "6; against a revision 5")
    parser.add_argument(
        "--connections",
        type=_connections,
        default=CONNECTIONS,
        metavar="N,...",
        help=f"requests in flight; all is measured with each (default {','.join(map(str, CONNECTIONS))})",
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    against = "compare this tree with that revision instead: checked out beside it, installed, measured interleaved"
    parser.add_argument("--against", metavar="REV", help=against)
    operations = "with --against: only these operations"
    parser.add_argument("--operations", type=names_of(OPERATIONS), metavar="NAME,...", help=operations)
    return parser.parse_args(argv)


def _connections(text: str) -> tuple[int, ...]:
    numbers = tuple(positive(part) for part in text.split(","))
    if max(numbers) > CONNECTIONS_MAX or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"must be different numbers, none above {CONNECTIONS_MAX}")
    return numbers


def plans_of(arguments: argparse.Namespace) -> list[Plan]:
    """One for each number of connections."""
    if arguments.smoke:
        return [SMOKE]
    rounds, seconds = arguments.rounds or ROUNDS, arguments.seconds
    return [
        Plan(rounds=rounds, connections=connections, seconds=seconds, warm_up_claims=2000)
        for connections in arguments.connections
    ]


async def run(results: Run, arguments: argparse.Namespace, cores: Cores, say: Say) -> None:
    """Fill `results` as the run goes on, so that what was measured before a failure is not lost."""
    sections, plans = arguments.only, plans_of(arguments)
    if sections.intersection((CLAIMS, ANSWERS)):
        await _measure(results, ONE_FRONT, plans, sections, cores=cores, say=say)
    if FRONTS in sections and not can_build():
        say("fronts: those on a slow disk are left out, since there is no gcc to slow it with")
    for arrangement in (JUDGED,) if arguments.smoke else SEVERAL_FRONTS:
        if FRONTS in sections and (can_build() or not arrangement.fsync_ms):
            await _measure(results, arrangement, plans[-1:], frozenset({CLAIMS}), cores=cores, say=say)
    for module in EXPERIMENTS:
        if module.NAME in sections:
            say(f"experiment: {module.NAME}")
            results.experiments[module.TITLE] = await module.run(cores, arguments.smoke, say)


async def _measure(
    results: Run, arrangement: Arrangement, plans: Sequence[Plan], sections: frozenset[str], *, cores: Cores, say: Say
) -> None:
    """Claims and other answers in one arrangement, with each number of connections."""
    async with (
        prepared(cores, processes=arrangement.processes, fsync_ms=arrangement.fsync_ms) as ground,
        AsyncExitStack() as stack,
    ):
        results.environment |= await describe(ground)
        bench, joiners = Bench(ground), Joiners(ground)
        await prepare_answers(ground)
        await bench.start(stack)
        results.answer_bytes = bench.answer_bytes
        measured = [(Suite(arrangement, plan.connections), Meter(plan)) for plan in plans]
        results.suites += [suite for suite, _ in measured]
        if CLAIMS in sections:
            async with bench.compared(arrangement.variants) as (bare, subjects):
                for suite, meter in measured:
                    say(f"claims: {suite.name}")
                    suite.claims = await meter.rounds(bare, subjects, say)
        if ANSWERS in sections:
            for suite, meter in measured:
                say(f"other answers: {suite.name}")
                suite.answers = await measure_answers(bench, joiners, meter, say)


def main(argv: list[str] | None = None) -> int:
    arguments = read_arguments(argv)
    if arguments.against is not None:
        return against_revision(arguments)
    results = Run()

    def measure(cores: Cores, say: Say) -> None:
        with pinned(cores.rest):
            uvloop.run(run(results, arguments, cores, say))

    return carry_out(results, measure, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
