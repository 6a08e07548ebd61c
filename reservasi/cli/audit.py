"""`reservasi audit`: who changed what, when and why."""

import datetime as dt
from typing import Annotated, Any

import typer

from reservasi.bootstrap import open_operations
from reservasi.cli.invocation import configured, run
from reservasi.cli.output import AsJson, DataDir, PostgresDsn, moment, show_rows
from reservasi.records import AuditQuery, AuditRow

LIMIT_DEFAULT = 100
LIMIT_MAX = 10_000
DAY_MS = 24 * 3600 * 1000

From = Annotated[dt.datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="first date, in UTC")]
To = Annotated[dt.datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="last date, in UTC")]


def audit(
    program: Annotated[str, typer.Argument(help="the program, such as surabaya")],
    quota: Annotated[str | None, typer.Option(help="only this quota and its reservations")] = None,
    opening: Annotated[str | None, typer.Option(help="only this opening")] = None,
    first: From = None,
    last: To = None,
    limit: Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="changes at the most")] = LIMIT_DEFAULT,
    data_dir: DataDir = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Show who changed quotas and openings of a program, and ended reservations, when and why; newest first."""
    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn)
    limits: dict[str, Any] = {}
    if first is not None:
        limits["from_ms"] = _midnight_ms(first)
    if last is not None:
        limits["until_ms"] = _midnight_ms(last) + DAY_MS

    async def work() -> list[AuditRow]:
        async with open_operations(settings) as operations:
            known = await operations.program(program)
            query = AuditQuery(program=known.id, quota=quota, opening=opening, limit=limit, **limits)
            return await operations.records.audit(query)

    show_rows([_described(row, as_json=as_json) for row in run(work())], as_json=as_json)


def _midnight_ms(date: dt.datetime) -> int:
    return int(date.replace(tzinfo=dt.UTC).timestamp() * 1000)


def _described(row: AuditRow, *, as_json: bool) -> dict[str, Any]:
    after = {
        name.removesuffix("_ms"): moment(value) if name.endswith("_ms") else value for name, value in row.after.items()
    }
    said = {"at": moment(row.at_ms), "actor": row.actor, "reason": row.reason}
    if as_json:
        return {
            **said, "quota": row.quota, "opening": row.opening, "reservation": row.reservation_id, "after": after
        }  # fmt: skip
    changed = " ".join(f"{name}={value}" for name, value in after.items() if value not in (None, "", False))
    return {**said, "of": row.reservation_id or row.quota or row.opening, "after": changed}
