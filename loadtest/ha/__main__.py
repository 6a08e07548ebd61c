"""`python -m loadtest.ha`: each fault in each mode, as a table.

Exit code 1 where a promise was lost that holds, 2 where it could not be tried.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from itertools import product
from pathlib import Path

from loadtest.ha.gates import open_gates
from loadtest.ha.namespaces import obstacle, open_namespaces
from loadtest.ha.runs import FAULTS, MODES, Fault, Mode, Outcomes, run
from loadtest.ha.servers import OpenNetwork
from loadtest.stage.environment import describe
from loadtest.stage.stores import own_stores
from loadtest.stage.tables import Table
from loadtest.stage.verdicts import conclude
from reservasi import logs

GATES, NAMESPACES = "gates", "namespaces"
NETWORKS: dict[str, OpenNetwork] = {GATES: open_gates, NAMESPACES: open_namespaces}
COLUMNS = (
    *("fault", "an answer waits for", "promised", "confirmed", "by the old primary", "lost", "oversold", "outage"),
    "503",
)
NOTES = (
    "Promised: places that people were told they have. By the old primary: of them, those after it was cut off.",
    "Outage: after the fault, the longest time without a new place for people at the other fronts.",
    "503: answers that refused a request for a time.",
    "A killed primary starts again once the sentinels name the new one: the worker records nothing from the old one.",
)


async def measure(faults: list[Fault], options: argparse.Namespace) -> int:
    rows, wrong = list[tuple[str, ...]](), list[str]()
    environment = describe(Path(tempfile.gettempdir()))
    modes = [mode for mode in MODES if options.mode in (None, mode.name)]
    async with own_stores() as (_, postgres):
        for fault, mode, _ in product(faults, modes, range(options.runs)):
            outcomes = await run(fault, mode, postgres.dsn, open_network=NETWORKS[options.network])
            rows.append(_row(fault, mode, outcomes))
            print("; ".join(f"{name}: {cell}" for name, cell in zip(COLUMNS, rows[-1], strict=True)), flush=True)
            wrong += [f"{fault.name}, {mode.name}: {each}" for each in _wrong(fault, mode, outcomes)]
    table = Table(title="Failovers", columns=COLUMNS, rows=tuple(rows), notes=NOTES)
    return conclude(table, wrong, options.json, environment)


def _row(fault: Fault, mode: Mode, outcomes: Outcomes) -> tuple[str, ...]:
    counts = (outcomes.promised, outcomes.confirmed, outcomes.apart, outcomes.lost, outcomes.oversold)
    return (fault.name, mode.name, *map(str, counts), f"{outcomes.outage_s:.1f} s", str(outcomes.refused))


def _wrong(fault: Fault, mode: Mode, outcomes: Outcomes) -> list[str]:
    """What must not be: places sold twice, and where enough replicas acknowledge, anything lost."""
    wrong = [f"{outcomes.oversold} oversold"] if outcomes.oversold else []
    if mode.replicas >= fault.safe_from:
        wrong += [f"{outcomes.lost} lost"] if outcomes.lost else []
        wrong += outcomes.others
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.ha", description=__doc__)
    parser.add_argument("--only", choices=[fault.name for fault in FAULTS], help="one fault")
    parser.add_argument("--mode", choices=[mode.name for mode in MODES], help="one mode")
    parser.add_argument("--runs", type=int, default=1, help="runs of each")
    parser.add_argument("--network", choices=NETWORKS, default=GATES, help="what is cut; namespaces need root and ip")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the table is written")
    options = parser.parse_args()
    able = [fault for fault in FAULTS if options.network == GATES or not fault.by_gates]
    faults = [fault for fault in able if options.only in (None, fault.name)]
    if not faults:
        parser.error(f"only gates can play {options.only!r}")
    if options.network == NAMESPACES and (reason := obstacle()):
        print(reason, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was made is removed
    logs.configure("error", "console")
    return asyncio.run(measure(faults, options))


if __name__ == "__main__":
    sys.exit(main())
