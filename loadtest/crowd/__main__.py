"""`make loadtest`: a service of its own, a crowd far larger than its places, and the checker afterwards.

Exit code 0: every promise was kept, every answer was definite, every place is somebody's. 1: something is wrong, and
is named.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.checker.check import Finding, check
from loadtest.checker.check import show as show_findings
from loadtest.checker.history import Exchange, read_history, server_errors
from loadtest.stage.program import PROGRAM
from loadtest.stage.service import Service, running_service
from reservasi.errors import ReservasiError

ROOT = Path(__file__).parents[2]
LOCUSTFILE = ROOT / "loadtest" / "locustfile.py"
SPIKE = ROOT / "loadtest" / "spike.py"  # the same people; it alone says how many come at each moment
PATIENCE_S = 240  # after the last arrival; then the run counts as failed
SPAWN_RATE = 10_000  # Locust's users start at once; people arrive at a rate of their own
EXIT_SURPRISED = 3  # as the locustfile says, which must not be imported here
SHARED_OPTIONS = ("people", "seed", "arrivals_per_s", "cancel_share", "abandon_share")  # with the locustfile


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    reports = options.reports.resolve()
    reports.mkdir(parents=True, exist_ok=True)
    history_path = reports / "loadtest-history.jsonl"
    print(f"starting a service: {options.quotas} quotas of {options.places} places, {options.processes} fronts")
    with running_service(
        quotas=options.quotas,
        places=options.places,
        processes=options.processes,
        log_copy=reports / "loadtest-service.log",
    ) as service:
        print(f"{options.people} people arrive at {options.arrivals_per_s:g}/s at {service.url}")
        wrong = _send_crowd(service, options, reports, history_path)
        history = read_history(history_path)
        try:
            findings = asyncio.run(check(service.redis_url, service.postgres_dsn, history, [PROGRAM]))
        except ReservasiError as error:
            print(f"cannot be checked: {error}", file=sys.stderr)
            return 1
    if options.spike:
        came = len({exchange.person for exchange in history})
        print(f"{came} of {options.people} people came before the spike ended")
    wrong += _wrong(options, history, findings[0])
    show_findings(findings)
    print(f"report: {reports / 'loadtest.html'}")
    for line in wrong:
        print(f"FAILED: {line}")
    if not wrong:
        print("every promise was kept")
    return 1 if wrong else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.crowd", description=__doc__)
    parser.add_argument("--people", type=int, default=20_000, help="distinct people in all")
    parser.add_argument("--quotas", type=int, default=50)
    parser.add_argument("--places", type=int, default=20, help="in each quota")
    parser.add_argument("--processes", type=int, default=1, help="fronts")
    parser.add_argument("--at-once", type=int, default=1500, help="people on the site at the same time, at most")
    parser.add_argument("--arrivals-per-s", type=float, default=500.0, help="people who arrive in a second")
    parser.add_argument("--cancel-share", type=float, default=0.05, help="of those who confirmed")
    parser.add_argument("--abandon-share", type=float, default=0.05, help="of those who hold")
    parser.add_argument("--seed", type=int, default=0, help="another seed: other people")
    parser.add_argument("--spike", action="store_true", help="a calm, the opening, its decay; ends after 40 s")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="where report and history are written")
    return parser.parse_args(arguments)


def _send_crowd(service: Service, options: argparse.Namespace, reports: Path, history: Path) -> list[str]:
    """Run Locust in a process of its own, since gevent changes the interpreter it runs in; what it found wrong."""
    flags = {
        "--host": service.url,
        "--users": min(options.at_once, options.people),
        "--spawn-rate": SPAWN_RATE,
        "--html": reports / "loadtest.html",
        "--history": history,
        **{f"--{name.replace('_', '-')}": getattr(options, name) for name in SHARED_OPTIONS},
    }
    file = SPIKE if options.spike else LOCUSTFILE
    command = (sys.executable, "-m", "locust", "-f", str(file), "--headless", "--only-summary")
    words = [word for flag, value in flags.items() for word in (flag, str(value))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    quietly = ("--loglevel", "ERROR")  # it warns of the spawn rate, which is meant
    timeout_s = options.people / options.arrivals_per_s + PATIENCE_S
    try:
        done = subprocess.run((*command, *quietly, *words), timeout=timeout_s, check=False, cwd=ROOT, env=environment)
    except subprocess.TimeoutExpired:
        return [f"the crowd was not done {PATIENCE_S} s after the last one arrived"]
    if done.returncode == EXIT_SURPRISED:
        return ["somebody got an answer that the contract does not allow, or none at all in the end"]
    return [f"Locust counted failures (exit code {done.returncode})"] if done.returncode else []


def _wrong(options: argparse.Namespace, history: Sequence[Exchange], finding: Finding) -> list[str]:
    wrong = [f"{len(finding.violations)} violations"] if finding.violations else []
    wrong += [f"{count} answers {outcome}" for outcome, count in sorted(server_errors(history).items())]
    if strange := {exchange.outcome for exchange in history if exchange.call == "claim"} - {201, 409}:
        wrong.append(f"claims were answered {sorted(strange)}")
    people = len({exchange.person for exchange in history if exchange.outcome in (201, 409)})
    if people != options.people and not options.spike:  # a spike may end before everybody has come
        wrong.append(f"{options.people - people} of {options.people} people got no definite answer")
    taken = finding.held + finding.confirmed
    if taken != finding.capacity and options.people > finding.capacity:
        wrong.append(f"{taken} of {finding.capacity} places are somebody's, though people were left without one")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
