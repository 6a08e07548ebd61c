"""`reservasi reservation`: shows a reservation from ledger and records, or ends it on behalf of staff."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from reservasi.cli.actor import Reason, cli_actor
from reservasi.cli.invocation import configured, run_with_stores
from reservasi.cli.output import EXIT_FAILED, AsJson, DataDir, PostgresDsn, RedisUrl, fail, moment, show
from reservasi.model import Find, Outcome
from reservasi.sealing import TAG_CHARS, SealBroken, program_tag

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.reservations import Change

app = typer.Typer(help="Reservations of people.", no_args_is_help=True)

ReservationId = Annotated[str, typer.Argument(help="26 characters, as the claim returned it")]
NIK_SHOWN = 4  # last digits; the others are masked


@app.command("show")
def show_reservation(
    reservation_id: ReservationId,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Show a reservation: from the ledger, and its booking in PostgreSQL."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)

    async def work(operations: Operations) -> dict[str, Any] | None:
        return await _describe(operations, reservation_id)

    description = run_with_stores(settings, work)
    if description is None:
        fail(f"there is no reservation {reservation_id}", as_json=as_json)
        raise typer.Exit(EXIT_FAILED)
    show(description, as_json=as_json)


@app.command("cancel")
def cancel_reservation(
    reservation_id: ReservationId,
    reason: Reason = "",
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """End a reservation as staff, also after the applicant's last moment for it."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)

    from reservasi.reservations import ACCEPTED

    async def work(operations: Operations) -> Change | None:
        program = await _program_of(operations, reservation_id)
        return await _end(operations, program, reservation_id, reason) if program is not None else None

    change = run_with_stores(settings, work)
    if change is None or change.answer.outcome is Outcome.NOT_FOUND:
        fail(f"there is no reservation {reservation_id}", as_json=as_json)
        raise typer.Exit(EXIT_FAILED)
    answer = change.answer
    if answer.outcome not in ACCEPTED:
        fail(f"{reservation_id} cannot be ended: it is {answer.state}", as_json=as_json)
        raise typer.Exit(EXIT_FAILED)
    ended = {"id": reservation_id, "status": answer.state, "quota": answer.quota, "recorded": change.recorded}
    show(ended, as_json=as_json)


async def _end(operations: Operations, program: str, reservation_id: str, reason: str) -> Change:
    from reservasi.bootstrap.commands import open_program
    from reservasi.reservations import end_reservation, until_recorded

    recorded = operations.ledgers.recorded()
    recorded.follow(program)
    wait_s = operations.settings.confirm_wait_ms / 1000
    try:
        async with open_program(operations, program) as group:
            answer = await end_reservation(group, reservation_id, by_staff=True, actor=cli_actor(), reason=reason)
        return await until_recorded(recorded, program, reservation_id, answer, wait_s)
    finally:
        await recorded.close()


async def _program_of(operations: Operations, reservation_id: str) -> str | None:
    programs = await operations.records.programs()
    return next((each.id for each in programs if program_tag(each.id) == reservation_id[:TAG_CHARS]), None)


async def _describe(operations: Operations, reservation_id: str) -> dict[str, Any] | None:
    from reservasi.bootstrap.commands import open_program

    program = await _program_of(operations, reservation_id)
    if program is None:
        return None
    async with open_program(operations, program) as group:
        answer = await group.submit(Find(reservation_id=reservation_id))
    booking = await operations.records.booking(reservation_id)
    hold = None if booking else await operations.records.hold(reservation_id)
    row = booking or hold
    if answer.outcome is Outcome.NOT_FOUND and row is None:
        return None
    lacks = await operations.records.lacking(program, reservation_id) if row else ()
    return {
        "id": reservation_id,
        "program": program,
        "status": answer.state or (booking.state if booking else None),
        "quota": answer.quota or (row.quota if row else None),
        "places": answer.places or (row.places if row else None),
        "hold_expires_at": moment(answer.deadline_ms),
        "recorded": booking.state if booking else ("held" if hold else None),
        "booking_code": booking.booking_code if booking else None,
        "payment_reference": booking.payment_reference if booking else None,
        "applicants": _applicants(operations, reservation_id, row.sealed, lacks) if row else [],
        **({"not_restored": ", ".join(lacks)} if lacks else {}),
    }


def _applicants(
    operations: Operations, reservation_id: str, sealed: str, lacks: Collection[str]
) -> list[dict[str, str]]:
    """The applicants, with masked numbers."""
    from reservasi.records.erasure import ERASED

    if sealed == ERASED and "envelope" in lacks:
        return [{"name": "unknown: the records were restored from an older copy"}]
    if sealed == ERASED:
        return [{"name": "erased"}]
    try:
        personal = msgspec.json.decode(operations.sealing.open(reservation_id, sealed))
    except SealBroken:
        return [{"name": "sealed under another key"}]
    return [
        {"name": each["name"], "nik": "*" * (len(each["nik"]) - NIK_SHOWN) + each["nik"][-NIK_SHOWN:]}
        for each in personal["applicants"]
    ]
