"""`python -m loadtest.ha`: each fault in each mode, as a table; exit code 1 where a promise was lost that holds."""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from loadtest.ha.runs import FAULTS, MODES, Mode, Outcomes, run
from reservasi import logs
from reservasi.embedded import EmbeddedPostgres, Places

START_TIMEOUT_S = 60


async def measure(fault: str, mode: Mode) -> Outcomes:
    """One run on servers of its own."""
    directory = _new_directory()
    postgres = EmbeddedPostgres(directory, START_TIMEOUT_S)
    try:
        await postgres.start()
        return await run(FAULTS[fault], mode, postgres.dsn, directory)
    finally:
        await postgres.stop()
        for left in (Places.of(directory).run, directory):
            shutil.rmtree(left, ignore_errors=True)


def _new_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="rv-ha-"))
    directory.chmod(0o711)
    return directory


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.ha", description=__doc__)
    parser.add_argument("--only", choices=list(FAULTS), help="one fault")
    parser.add_argument("--mode", choices=[mode.name for mode in MODES], help="one mode")
    asked = parser.parse_args()
    logs.configure("error", "console")
    failed = False
    print("| fault | an answer waits for | promised | by the cut-off primary | lost | oversold | no answer for |")
    print("|---|---|---|---|---|---|---|")
    for fault in FAULTS:
        for mode in MODES:
            if asked.only not in (None, fault) or asked.mode not in (None, mode.name):
                continue
            seen = asyncio.run(measure(fault, mode))
            failed |= bool(seen.oversold or (mode.promises and seen.lost))
            print(
                f"| {fault} | {mode.name} | {seen.promised} | {seen.promised_apart} | {seen.lost} | {seen.oversold} | "
                f"{seen.outage_s:.1f} s |",
                flush=True,
            )
            for other in seen.others:
                print(f"  also: {other}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
