"""`reservasi audit`: who changed what, when and why."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reservasi.cli.invocation import configured, run
from reservasi.cli.output import AsJson, DataDir, PostgresDsn, moment, show_rows

if TYPE_CHECKING:
    from reservasi.bootstrap.records import RecordsOperations
    from reservasi.records import AuditRow, StaffChange
    from reservasi.settings import Settings

LIMIT_DEFAULT = 100
LIMIT_MAX = 10_000

From = Annotated[
    dt.datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="first date, in the program's time zone")
]
To = Annotated[
    dt.datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="last date, in the program's time zone")
]


def audit(
    program: Annotated[str | None, typer.Argument(help="the program, such as surabaya")] = None,
    quota: Annotated[str | None, typer.Option(help="only this quota and its reservations")] = None,
    opening: Annotated[str | None, typer.Option(help="only this opening")] = None,
    staff_keys: Annotated[
        bool, typer.Option("--staff-keys", help="changes of staff keys; of all, or of those for this program")
    ] = False,
    first: From = None,
    last: To = None,
    limit: Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="maximum number of changes")] = LIMIT_DEFAULT,
    data_dir: DataDir = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Show who changed quotas and openings of a program or ended reservations, when and why; newest first.

    With --staff-keys: who added, renamed, rotated or revoked keys. Times are in the program's time zone; in UTC with
    --json, for a program that was removed, and without a program.
    """
    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn)
    if staff_keys:
        if quota is not None or opening is not None:
            raise typer.BadParameter("staff keys do not belong to a quota or opening", param_hint="--staff-keys")
        rows_of_keys = _key_changes(settings, program, first, last, limit, as_json=as_json)
        show_rows(rows_of_keys, as_json=as_json)
        return
    if program is None:
        raise typer.BadParameter("give a program, or --staff-keys", param_hint="PROGRAM")
    from reservasi.bootstrap.records import open_records_operations
    from reservasi.records import AuditQuery

    async def work() -> tuple[list[AuditRow], dt.tzinfo]:
        async with open_records_operations(settings) as operations:
            zone = await _zone_of(operations, program)
            limits: dict[str, Any] = {}
            if first is not None:
                limits["from_ms"] = _midnight_ms(first, zone)
            if last is not None:
                limits["until_ms"] = _midnight_ms(last + dt.timedelta(days=1), zone)
            query = AuditQuery(program=program, quota=quota, opening=opening, limit=limit, **limits)
            return await operations.records.audit(query), zone

    rows, zone = run(work())
    show_rows([described(row, zone, as_json=as_json) for row in rows], as_json=as_json)


def _key_changes(
    settings: Settings,
    program: str | None,
    first: dt.datetime | None,
    last: dt.datetime | None,
    limit: int,
    *,
    as_json: bool,
) -> list[dict[str, Any]]:
    from reservasi.bootstrap.records import open_records_operations

    async def work() -> tuple[list[StaffChange], dt.tzinfo]:
        async with open_records_operations(settings) as operations:
            zone = dt.UTC if program is None else await _zone_of(operations, program)
            start = None if first is None else first.replace(tzinfo=zone)
            until = None if last is None else last.replace(tzinfo=zone) + dt.timedelta(days=1)
            return await operations.records.staff_changes(program, first=start, until=until, limit=limit), zone

    changes, zone = run(work())
    return [described_key(change, zone, as_json=as_json) for change in changes]


def described_key(change: StaffChange, zone: dt.tzinfo, *, as_json: bool) -> dict[str, Any]:
    """A change of a staff key as JSON, or with times in that time zone."""
    at_ms = int(change.at.timestamp() * 1000)
    row = {"at": moment(at_ms) if as_json else _local(at_ms, zone), "actor": change.actor, "change": change.change}
    if as_json:
        return {**row, "key": change.name, "after": change.after}
    shown = {name: " ".join(value) if isinstance(value, list) else value for name, value in change.after.items()}
    return {**row, "key": change.name, "after": " ".join(f"{name}={value}" for name, value in shown.items() if value)}


async def _zone_of(operations: RecordsOperations, program: str) -> dt.tzinfo:
    """The program's time zone; unknown for a removed program."""
    if await operations.records.is_removed(program):
        return dt.UTC
    return (await operations.program(program)).zone


def _midnight_ms(date: dt.datetime, zone: dt.tzinfo) -> int:
    return int(date.replace(tzinfo=zone).timestamp() * 1000)


def _local(at_ms: int, zone: dt.tzinfo) -> str | None:
    """A time with its offset, to the second, for comparison with logs."""
    if not at_ms:
        return None
    return dt.datetime.fromtimestamp(at_ms // 1000, zone).isoformat(sep=" ")


def described(row: AuditRow, zone: dt.tzinfo, *, as_json: bool) -> dict[str, Any]:
    """A change as JSON, or with times in that time zone."""

    def time(at_ms: int) -> str | None:
        return moment(at_ms) if as_json else _local(at_ms, zone)

    after = {
        name.removesuffix("_ms"): time(value) if name.endswith("_ms") else value for name, value in row.after.items()
    }
    head = {"at": time(row.at_ms), "actor": row.actor, "reason": row.reason}
    if as_json:
        return {
            **head, "quota": row.quota, "opening": row.opening, "reservation": row.reservation_id, "after": after
        }  # fmt: skip
    changed = " ".join(f"{name}={value}" for name, value in after.items() if value not in (None, "", False))
    return {**head, "of": row.reservation_id or row.quota or row.opening, "after": changed}
