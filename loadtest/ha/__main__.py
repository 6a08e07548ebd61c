"""`python -m loadtest.ha`: each fault in each mode, as a table.

Exit code 1 where a promise was lost that holds, 2 where it could not be tried.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from itertools import product
from pathlib import Path

from loadtest.ha.faults import FAULTS, Fault
from loadtest.ha.gates import open_gates
from loadtest.ha.modes import MODES, Mode
from loadtest.ha.namespaces import obstacle, open_namespaces
from loadtest.ha.network import OpenNetwork
from loadtest.ha.runs import Outcomes, run
from reservasi import logs
from reservasi.embedded import EmbeddedPostgres, Places

START_TIMEOUT_S = 60
GATES, NAMESPACES = "gates", "namespaces"
NETWORKS: dict[str, OpenNetwork] = {GATES: open_gates, NAMESPACES: open_namespaces}


async def measure(asked: argparse.Namespace) -> bool:
    """Run what was asked for and print it; whether all was well."""
    directory = _new_directory()
    postgres = EmbeddedPostgres(directory, START_TIMEOUT_S)
    well = True
    try:
        await postgres.start()
        for fault, mode, _ in product(_faults(asked), MODES, range(asked.runs)):
            if asked.mode in (None, mode.name):
                seen = await run(fault, mode, postgres.dsn, open_network=NETWORKS[asked.network])
                well &= _show(fault, mode, seen)
    finally:
        await postgres.stop()
        for left in (Places.of(directory).run, directory):
            shutil.rmtree(left, ignore_errors=True)
    return well


def _faults(asked: argparse.Namespace) -> list[Fault]:
    """Those that were asked for and that this network can play."""
    able = [fault for fault in FAULTS if asked.network == GATES or not fault.by_gates]
    return [fault for fault in able if asked.only in (None, fault.name)]


def _new_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="rv-ha-"))
    directory.chmod(0o711)  # the server's account must pass
    return directory


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.ha", description=__doc__)
    parser.add_argument("--only", choices=[fault.name for fault in FAULTS], help="one fault")
    parser.add_argument("--mode", choices=[mode.name for mode in MODES], help="one mode")
    parser.add_argument("--runs", type=int, default=1, help="runs of each")
    parser.add_argument("--network", choices=NETWORKS, default=GATES, help="what is cut; namespaces need root and ip")
    asked = parser.parse_args()
    if not _faults(asked):
        parser.error(f"only gates can play {asked.only!r}")
    if asked.network == NAMESPACES and (reason := obstacle()):
        print(reason, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was made is removed
    logs.configure("error", "console")
    print(
        "| fault | an answer waits for | promised | confirmed | by the old primary | lost | oversold | outage | 503 |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    return int(not asyncio.run(measure(asked)))


def _show(fault: Fault, mode: Mode, seen: Outcomes) -> bool:
    """Print a run; whether it is well."""
    print(
        f"| {fault.name} | {mode.name} | {seen.promised} | {seen.confirmed} | {seen.apart} | {seen.lost} | "
        f"{seen.oversold} | {seen.outage_s:.1f} s | {seen.refused} |",
        flush=True,
    )
    safe = mode.replicas >= fault.safe_from
    for other in seen.others if safe else ():
        print(f"  also: {other}", file=sys.stderr)
    return not (seen.oversold or (safe and (seen.lost or seen.others)))


if __name__ == "__main__":
    sys.exit(main())
