"""`reservasi quota show`: a quota, or those of a program."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reservasi.cli.fences import require_snapshot
from reservasi.cli.invocation import configured, run_with_stores
from reservasi.cli.known_names import refuse_unknown
from reservasi.cli.moments import for_people
from reservasi.cli.output import (
    EXIT_FAILED,
    AsJson,
    DataDir,
    PostgresDsn,
    RedisUrl,
    fail,
    show,
)
from reservasi.cli.quota_listing import (
    Channel,
    First,
    Last,
    Limit,
    Office,
    Page,
    Service,
    State,
    Wanted,
    describe,
    show_page,
    wanted_quotas,
)
from reservasi.model import Quota
from reservasi.programs import Program, program_of

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations
    from reservasi.ledger.wire.messages import Snapshot


def show_quota(
    quota: Annotated[str, typer.Argument(help="a quota's id, or a program's to list its quotas")],
    office: Office = None,
    service: Service = None,
    channel: Channel = None,
    first: First = None,
    last: Last = None,
    state: State = None,
    limit: Limit = None,
    page: Page = 1,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Show one quota, or the matching quotas of a program, from the ledger."""
    wanted = wanted_quotas(office=office, service=service, channel=channel, first=first, last=last, state=state)
    if "." in quota and (wanted != Wanted() or limit is not None or page != 1):
        raise typer.BadParameter("filters and pages need a program in place of a quota")
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    program, snapshot = run_with_stores(settings, partial(look_up, program=program_of(quota)))
    if "." not in quota:
        if wanted != Wanted():
            refuse_unknown(program, snapshot.quotas, wanted, as_json=as_json)
        quotas = sorted((each for each in snapshot.quotas if wanted.fits(each, snapshot.now_ms)), key=_in_order)
        show_page(quotas, now_ms=snapshot.now_ms, zone=program.zone, limit=limit, page=page, as_json=as_json)
        return
    one = next((each for each in snapshot.quotas if each.id == quota), None)
    if one is None:
        fail(f"there is no quota {quota}", as_json=as_json)
        raise typer.Exit(EXIT_FAILED)
    show_one(describe(one, snapshot.now_ms), program, as_json=as_json)


def show_one(description: dict[str, Any], program: Program, *, as_json: bool) -> None:
    """Print with times in the program's zone, or as JSON in UTC."""
    show(description if as_json else for_people(description, program.timezone), as_json=as_json)


async def look_up(operations: Operations, program: str) -> tuple[Program, Snapshot]:
    """A program, and its quotas in the ledger."""
    snapshot = await require_snapshot(operations, program)
    return await operations.program(program), snapshot


def _in_order(quota: Quota) -> str:
    return quota.id
