"""`reservasi staff`: the keys of callers of the staff API."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reservasi.cli.actor import cli_actor
from reservasi.cli.invocation import configured, run
from reservasi.cli.output import AsJson, DataDir, PostgresDsn, show, show_rows
from reservasi.errors import ConfigurationError
from reservasi.logs import get_logger
from reservasi.model import SCOPES_OF_ROLE, StaffRole, StaffScope
from reservasi.tidying import name_character, plain_spaces

if TYPE_CHECKING:
    from reservasi.bootstrap.records import RecordsOperations
    from reservasi.records import StaffRow
    from reservasi.settings import Settings

log = get_logger()
app = typer.Typer(help="Staff and their API keys.", no_args_is_help=True)

KEY_BYTES = 32
NAME_CHARS_MAX = 64
OVERLAP_DEFAULT = "10m"
OVERLAP_MAX = dt.timedelta(days=7)
_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _open(settings: Settings) -> AbstractAsyncContextManager[RecordsOperations]:
    from reservasi.bootstrap.records import open_records_operations

    return open_records_operations(settings)


def _named(name: str) -> str:
    """A name with single plain spaces, as it is stored; other characters stay, so that an older name is found."""
    tidied = plain_spaces(name).strip(" ")
    wrong = next((each for each in tidied if not each.isprintable()), None)
    if tidied and len(tidied) <= NAME_CHARS_MAX and wrong is None:
        return tidied
    why = f"it has {len(tidied) if wrong is None else name_character(wrong)}" if tidied else "it is empty"
    raise typer.BadParameter(
        f"1 to {NAME_CHARS_MAX} printable characters, since the name is recorded with each change: {why}"
    )


def _duration(words: str) -> dt.timedelta | None:
    if words == "0":
        return dt.timedelta()
    match = _DURATION.fullmatch(words)
    return dt.timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None


def _overlap(words: str) -> dt.timedelta:
    overlap = _duration(words)
    if overlap is None or overlap > OVERLAP_MAX:
        raise typer.BadParameter(f"a duration such as 30s, 10m, 12h or 7d; at most {OVERLAP_MAX.days}d")
    return overlap


def _end(words: str) -> dt.datetime:
    """A future moment: RFC 3339, or a duration from now."""
    now = dt.datetime.now(dt.UTC)
    try:
        duration = _duration(words)
        end = now + duration if duration is not None else dt.datetime.fromisoformat(words)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter("a time such as 2026-12-31T17:00:00+07:00, or a duration such as 90d") from error
    if end.tzinfo is None:
        raise typer.BadParameter(f"{words} has no offset, such as +07:00")
    if end <= now:
        raise typer.BadParameter(f"{words} has passed already")
    return end


Name = Annotated[str, typer.Argument(help="name of the key's owner", callback=_named)]
Expires = Annotated[
    dt.datetime | None,
    typer.Option(parser=_end, metavar="TIME", help="when it expires: RFC 3339, or a duration from now, such as 90d"),
]


@app.command("add")
def add(
    name: Name,
    role: Annotated[
        StaffRole | None,
        typer.Option(help="a set of scopes: viewer may read, the others may do everything; default: operator"),
    ] = None,
    scope: Annotated[
        list[StaffScope] | None, typer.Option(help="what the key may do, in place of a role; may be repeated")
    ] = None,
    program: Annotated[list[str] | None, typer.Option(help="only for this program; may be repeated")] = None,
    expires: Expires = None,
    data_dir: DataDir = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Add a staff key and print it: it is shown only once and stored only as a hash."""
    if role is not None and scope:
        raise typer.BadParameter("a role is a set of scopes: give --role or --scope", param_hint="--scope")
    role = role or StaffRole.OPERATOR
    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn)

    async def work() -> str:
        async with _open(settings) as operations:
            return await add_staff(operations, name, role, scopes=scope, programs=program, expires_at=expires)

    key = run(work())
    limits = _limits(scope or SCOPES_OF_ROLE[role], program, as_json=as_json)
    show(
        {"name": name, **({"role": role} if as_json else {}), **limits, "expires": _moment(expires), "api_key": key},
        as_json=as_json,
    )


@app.command("list")
def list_(data_dir: DataDir = None, postgres_dsn: PostgresDsn = None, as_json: AsJson = False) -> None:
    """List all staff keys, revoked ones last; never a secret."""
    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn)

    async def work() -> list[StaffRow]:
        async with _open(settings) as operations:
            return await operations.records.staff_keys()

    show_rows([describe(row, as_json=as_json) for row in run(work())], as_json=as_json)


@app.command("revoke")
def revoke(name: Name, data_dir: DataDir = None, postgres_dsn: PostgresDsn = None, as_json: AsJson = False) -> None:
    """Revoke a staff key: every front refuses it within seconds. Repeating is harmless."""
    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn)

    async def work() -> StaffRow:
        async with _open(settings) as operations:
            revoked = await operations.records.revoke_staff(name, actor=cli_actor())
            if revoked is not None:
                log.info("staff_key_revoked", name=name, actor=cli_actor())
                return revoked
            before = [row for row in await operations.records.staff_keys() if row.name == name]
            if not before:
                raise _unknown(name)
            return before[-1]

    show(describe(run(work()), as_json=as_json), as_json=as_json)


@app.command("rotate")
def rotate(
    name: Name,
    overlap: Annotated[
        dt.timedelta,
        typer.Option(
            parser=_overlap, metavar="DURATION", help="how long the previous secret also works; 0: it ends now"
        ),
    ] = OVERLAP_DEFAULT,  # type: ignore[assignment]  # typer parses a default that is text
    expires: Expires = None,
    data_dir: DataDir = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Give a staff key a new secret and print it once; name, scopes and programs stay."""
    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn)

    async def work() -> tuple[StaffRow, str]:
        async with _open(settings) as operations:
            rows = [row for row in await operations.records.staff_keys() if row.name == name and not row.revoked_at]
            if rows and expires is None and rows[0].has_expired(dt.datetime.now(dt.UTC)):
                raise ConfigurationError(f"the staff key {name} has expired: give a new end with --expires")
            api_key, key_hash = _new_key(operations)
            rotated = await operations.records.rotate_staff(name, key_hash, overlap, expires, actor=cli_actor())
            if rotated is None:
                raise _unknown(name)
            log.info("staff_key_rotated", name=name, actor=cli_actor())
            return rotated, api_key

    row, key = run(work())
    shown = {"name": row.name, "expires": _moment(row.expires_at), "previous_until": _moment(row.previous_until)}
    show({**shown, "api_key": key}, as_json=as_json)


@app.command("rename")
def rename(
    old: Annotated[str, typer.Argument(help="the current name", callback=_named)],
    new: Annotated[str, typer.Argument(help="the new name", callback=_named)],
    data_dir: DataDir = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Rename a staff key; the journal keeps the names under which changes were made."""
    settings = configured(data_dir=data_dir, postgres_dsn=postgres_dsn)

    async def work() -> StaffRow:
        async with _open(settings) as operations:
            renamed = await operations.records.rename_staff(old, new, actor=cli_actor())
            if renamed is None:
                raise _unknown(old)
            log.info("staff_key_renamed", name=new, before=old, actor=cli_actor())
            return renamed

    show(describe(run(work()), as_json=as_json), as_json=as_json)


async def add_staff(
    operations: RecordsOperations,
    name: str,
    role: StaffRole,
    *,
    scopes: Sequence[StaffScope] | None = None,
    programs: Sequence[str] | None = None,
    expires_at: dt.datetime | None = None,
) -> str:
    """Store a staff key; returns its secret.

    Raises:
        ConfigurationError: the name is in use, or there is no such program.
    """
    programs_stored = {program.id for program in await operations.records.programs()} if programs else set()
    if missing := sorted(set(programs or ()) - programs_stored):
        raise ConfigurationError(
            f"there is no program {', '.join(missing)}: there are {', '.join(sorted(programs_stored)) or 'none'}"
        )
    api_key, key_hash = _new_key(operations)
    await operations.records.add_staff(
        name,
        role,
        key_hash,
        scopes=scopes or None,
        programs=sorted(set(programs)) if programs else None,
        expires_at=expires_at,
        actor=cli_actor(),
    )
    log.info("staff_key_added", name=name, actor=cli_actor())
    return api_key


async def replace_staff(operations: RecordsOperations, name: str, role: StaffRole) -> str:
    """Store a staff key, or give an existing one a new secret; returns the secret."""
    api_key, key_hash = _new_key(operations)
    if await operations.records.rotate_staff(name, key_hash, dt.timedelta(), actor=cli_actor()) is not None:
        return api_key
    return await add_staff(operations, name, role)


def describe(row: StaffRow, *, as_json: bool) -> dict[str, Any]:
    """A key for text or JSON output; never its secret."""
    return {
        "name": row.name,
        **_limits(row.scopes, row.programs, as_json=as_json),
        "created": _moment(row.created_at),
        "expires": _moment(row.expires_at),
        "last_used": _moment(row.last_used_at),
        "revoked": _moment(row.revoked_at),
    }


def _limits(scopes: Collection[str], programs: Collection[str] | None, *, as_json: bool) -> dict[str, Any]:
    """What a key may do, and for which programs."""
    may = [scope.value for scope in StaffScope if scope in scopes]
    only = sorted(set(programs)) if programs else None
    if as_json:
        return {"scopes": may, "programs": only}
    return {"scopes": " ".join(may), "programs": "all" if only is None else " ".join(only)}


def _moment(at: dt.datetime | None) -> str | None:
    return None if at is None else at.astimezone(dt.UTC).isoformat(timespec="seconds")


def _new_key(operations: RecordsOperations) -> tuple[str, str]:
    api_key = f"rsv_{secrets.token_urlsafe(KEY_BYTES)}"
    return api_key, operations.sealing.api_key_hash(api_key)


def _unknown(name: str) -> ConfigurationError:
    return ConfigurationError(f"no valid staff key is named {name}: see staff list")
