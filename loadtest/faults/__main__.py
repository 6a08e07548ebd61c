"""`make faults`: every fault under a crowd of its own, several times, and a table of what was lost and sold twice.

Exit code 0: nothing lost, nothing sold twice, every service healed by itself, and each control lost something, which
shows that losses are seen; where the ledger itself is gone, a hold that nobody had recorded yet is not promised, and
the note says how many are gone. 1: something is wrong, or a fault could not be produced, and it is named. 2: there is
nothing to run.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import msgspec

from loadtest.faults import callers, contents, processes, rebuilding, stores
from loadtest.faults.fault import Fault
from loadtest.faults.running import Run, run_fault
from loadtest.stage.environment import describe
from loadtest.stage.shims import can_build
from loadtest.stage.tables import Table
from loadtest.stage.verdicts import conclude

FAULTS = (*processes.FAULTS, *callers.FAULTS, *stores.FAULTS, *contents.FAULTS, *rebuilding.FAULTS)
TITLE = "What each fault lost"
RUNS = 3
NO_COMPILER = "could not be produced: there is no compiler"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.faults", description=__doc__)
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--only", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--runs", type=_at_least_one, default=RUNS, help="of each fault")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where every run is written")
    parser.add_argument("--logs", type=Path, metavar="DIRECTORY", help="where the services' logs are kept")
    options = parser.parse_args(arguments)
    chosen = [fault for fault in FAULTS if fault.name in (options.only or names)]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no service is left behind
    environment = describe(Path(tempfile.gettempdir()))
    runs = asyncio.run(_run_all(chosen, options))
    by_fault = [(fault, [run for run in runs if run.fault == fault.name]) for fault in chosen]
    wrong = [f"{fault.name}: {line}" for fault, its_runs in by_fault for line in wrong_of(fault, its_runs)]
    return conclude(table(by_fault), wrong, options.json, environment, runs=msgspec.to_builtins(runs))


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least one run")
    return number


async def _run_all(faults: Sequence[Fault], options: argparse.Namespace) -> list[Run]:
    runs = []
    for fault, seed in product(faults, range(options.seed, options.seed + options.runs)):
        log = options.logs / f"{fault.name}-{seed}.log" if options.logs else None
        runs.append(run := await _run_one(fault, seed, log))
        counts = f"{run.operations} operations, {run.lost} lost, {run.oversold} oversold in {run.took_s:.1f} s"
        print("\n  ".join((f"{run.fault} (seed {run.seed}): {counts}; {run.note}", *run.wrong)), flush=True)
    return runs


async def _run_one(fault: Fault, seed: int, log: Path | None) -> Run:
    """Its run; what stops it counts as wrong, and the other faults have their turn."""
    if fault.shims and not can_build():
        return Run(fault=fault.name, seed=seed, wrong=(NO_COMPILER,))
    try:
        return await run_fault(fault, seed, log)
    except Exception as error:
        traceback.print_exc()
        return Run(fault=fault.name, seed=seed, wrong=(f"broke off: {type(error).__name__}: {error}",))


def wrong_of(fault: Fault, runs: Sequence[Run]) -> list[str]:
    lost, oversold = sum(run.lost for run in runs), sum(run.oversold for run in runs)
    wrong = [line for run in runs for line in run.wrong] if runs else ["it did not run"]
    if fault.control and not lost:
        wrong.append("the control lost nothing, so that losses may go unseen")
    if not fault.control and (lost or oversold):
        wrong.append(f"{lost} lost, {oversold} oversold")
    return wrong


def table(by_fault: Sequence[tuple[Fault, Sequence[Run]]]) -> Table:
    """One row per fault with the note of its last run; the sum leaves out the controls, which must lose something."""
    kept = [runs for fault, runs in by_fault if not fault.control]
    count, operations, lost, oversold = map(sum, zip(*map(_counts, kept), strict=True)) if kept else (0, 0, 0, 0)
    rows = []
    for fault, runs in by_fault:
        note = ("control, must lose: " if fault.control else "") + (runs[-1].note if runs else "")
        rows.append((fault.name, *map(str, _counts(runs)), note))
    return Table(
        title=TITLE,
        columns=("fault", "runs", "operations", "lost", "oversold", "note"),
        rows=tuple(rows),
        notes=(f"{len(kept)} faults, {count} runs, {operations} operations: {lost} lost, {oversold} oversold",),
    )


def _counts(runs: Sequence[Run]) -> tuple[int, int, int, int]:
    sums = (sum(getattr(run, name) for run in runs) for name in ("operations", "lost", "oversold"))
    return (len(runs), *sums)


if __name__ == "__main__":
    sys.exit(main())
