"""After PostgreSQL is restored from a real dump, the commands recover every booking."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from reservasi.bootstrap.commands import open_operations
from reservasi.bootstrap.worker import open_worker
from reservasi.cli.invocation import run
from reservasi.cli.output import EXIT_DRIFT
from reservasi.embedded.binaries import postgres_binaries
from reservasi.health import Health
from reservasi.ledger.journal.stream import Journal
from reservasi.settings import load
from tests.acceptance.test_cli import WEEK, Deployment, deployment, failing
from tests.ledgers import eventually

__all__ = ["deployment", "failing"]  # fixtures
Failing = Callable[..., tuple[int, str]]
pytestmark = pytest.mark.timeout(240)


def postgres(program: str, *words: str) -> None:
    """One of PostgreSQL's own programs at this test's database."""
    dsn = urlsplit(load().postgres_dsn or "")
    host = parse_qs(dsn.query)["host"][0]
    at = ["--host", host, "--username", "reservasi", "--dbname", dsn.path.removeprefix("/")]
    done = subprocess.run([postgres_binaries() / program, *at, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def dump(to: Path) -> None:
    postgres("pg_dump", "--format=custom", f"--file={to}")


def restore(of: Path) -> None:
    postgres("psql", "--quiet", "--command", "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    postgres("pg_restore", "--no-owner", str(of))


def forget_journal(of: Deployment) -> None:
    """What the recorder does in time, without its margin of 5,000 changes."""

    async def work() -> None:
        async with open_operations(load()) as operations:
            position = await operations.records.position(of.program)
            assert position is not None
            journal: Journal = operations.ledgers.journal(of.program)
            await journal.trim(position, margin=0)

    run(work())


def fenced_by_a_worker(of: Deployment) -> None:
    """Let a worker look until it sells no more; what it says then."""

    async def work() -> None:
        health = Health()

        async def is_said() -> bool:
            part, why = health.missing().get(of.program, ("", ""))
            return part == "records" and "only in the ledger" in why

        async with open_worker(load(), health):
            await eventually(is_said, 30)

    run(work())


def booking_codes(*reservations: str) -> list[str | None]:
    async def work() -> list[str | None]:
        async with open_operations(load()) as operations:
            bookings = await asyncio.gather(*map(operations.records.booking, reservations))
            return [each.booking_code if each else None for each in bookings]

    return run(work())


def test_a_restored_dump_leads_to_no_lost_booking(deployment: Deployment, failing: Failing, tmp_path: Path) -> None:
    quota = deployment.imported()
    kept = deployment.confirmed(quota)
    deployment.recorded()
    dump(tmp_path / "records.dump")
    later = [deployment.confirmed(quota) for _ in range(3)]
    held = deployment.held(quota)
    deployment.recorded()
    codes = booking_codes(kept, *later)
    forget_journal(deployment)
    restore(tmp_path / "records.dump")
    assert booking_codes(kept, *later) == [codes[0], None, None, None]
    fenced_by_a_worker(deployment)
    stake = "3 confirmed bookings (3 places) and 1 holds are only in the ledger"
    way = f"`reservasi rebuild --from-ledger --program {deployment.program}`"
    for message in (
        deployment.finding(f"program {deployment.program}"),
        failing("quota", "show", deployment.program)[1],
        failing("rebuild")[1],
        failing("rebuild", "--discard")[1],
    ):
        assert "the records are an older copy" in message
        assert stake in message
        assert way in message
    assert "--discard-confirmed" in failing("rebuild", "--discard")[1]
    (report,) = deployment.ok("rebuild", "--from-ledger")
    assert (report["found"], report["restored"]) == ("records_old", True)
    # The last entry is never trimmed: that hold has its envelope.
    assert (report["bookings"], report["holds"], report["without_envelope"]) == (3, 1, 3)
    assert booking_codes(kept, *later) == codes
    assert deployment.call("reconcile").exit_code == 0
    shown = deployment.ok("reservation", "show", later[0])
    assert shown["applicants"] == [{"name": "unknown: the records were restored from an older copy"}]
    assert shown["booking_code"] == codes[1]
    assert "*" in deployment.ok("reservation", "show", kept)["applicants"][0]["nik"]
    (again,) = deployment.ok("rebuild", "--from-ledger")
    assert (again["found"], again["restored"]) == ("owned", False)
    deployment.confirmed(quota)
    deployment.recorded()
    assert deployment.call("reconcile").exit_code == 0
    assert deployment.ok("reservation", "show", held)["status"] == "held"


def test_an_emptied_database_is_recorded_anew_once_the_program_is_imported(
    deployment: Deployment, failing: Failing
) -> None:
    quota = deployment.imported()
    booked = [deployment.confirmed(quota) for _ in range(3)]
    deployment.recorded()
    codes = booking_codes(*booked)
    forget_journal(deployment)
    postgres("psql", "--quiet", "--command", "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    deployment.ok("db", "upgrade")
    assert "import the program files first" in failing("rebuild", "--from-ledger")[1]
    deployment.call("program", "import", str(deployment.file), *WEEK)  # it is stored, whatever is said of its quotas
    fenced_by_a_worker(deployment)
    assert "--from-ledger" in failing("program", "import", str(deployment.file), *WEEK)[1]
    (report,) = deployment.ok("rebuild", "--from-ledger")
    assert (report["restored"], report["bookings"]) == (True, 3)
    assert booking_codes(*booked) == codes
    assert deployment.call("reconcile").exit_code == 0
    deployment.ok("program", "import", str(deployment.file), *WEEK, "--open-now")


def test_confirmed_bookings_are_discarded_with_two_words_only(
    deployment: Deployment, failing: Failing, tmp_path: Path
) -> None:
    quota = deployment.imported()
    deployment.recorded()
    dump(tmp_path / "records.dump")
    booked = deployment.confirmed(quota)
    deployment.recorded()
    forget_journal(deployment)
    restore(tmp_path / "records.dump")
    assert failing("rebuild", "--discard")[0] == 1
    assert deployment.call("rebuild", "--discard-confirmed").exit_code == 2
    assert deployment.call("rebuild", "--from-ledger", "--force").exit_code == 2
    assert deployment.call("reconcile").exit_code == EXIT_DRIFT
    (report,) = deployment.ok("rebuild", "--discard", "--discard-confirmed")
    assert (report["found"], report["rebuilt"]) == ("records_old", True)
    assert booking_codes(booked) == [None]
    assert deployment.call("reconcile").exit_code == 0


def test_records_in_step_are_not_touched(deployment: Deployment, failing: Failing) -> None:
    quota = deployment.imported()
    deployment.confirmed(quota)
    deployment.recorded()
    deployment.change_meta(chain="0" * 40)
    assert "not an older copy" in failing("rebuild", "--from-ledger")[1]
