"""`reservasi person`: requests of people about their own data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reservasi.cli.invocation import configured, run_with_stores
from reservasi.cli.output import EXIT_FAILED, AsJson, DataDir, PostgresDsn, RedisUrl, fail, show
from reservasi.errors import ConfigurationError
from reservasi.nik import has_digits, is_known, tidy_nik
from reservasi.text_files import NotUtf8, decode_text

if TYPE_CHECKING:
    from reservasi.bootstrap.commands import Operations

NIK_BYTES_MAX = 1024  # a longer input is not a NIK
app = typer.Typer(help="Requests of people about their own data.", no_args_is_help=True)


@app.command("erase")
def erase(
    nik_file: Annotated[str, typer.Option("--nik-file", help="file with the NIK; - for standard input")],
    program: Annotated[str | None, typer.Option("--program", help="only in this program; default: all")] = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Erase the name, number and contacts of a person in all reservations that have ended.

    The log stays verifiable. A replica keeps its append-only file until it gets BGREWRITEAOF itself: connected replicas
    are listed. A NIK is not taken as an argument, which other users of the machine could read.
    """

    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn)
    nik = _read_nik(nik_file)

    async def work(operations: Operations) -> dict[str, Any]:
        return await _erase(operations, nik, program)

    done = run_with_stores(settings, work)
    show(done, as_json=as_json)
    if done["live"]:
        if not as_json:
            fail("reservations that are live keep their data: end them first, then erase again", as_json=False)
        raise typer.Exit(EXIT_FAILED)


async def _erase(operations: Operations, nik: str, only: str | None) -> dict[str, Any]:
    from reservasi.ledger.topology.server_facts import connected_replicas, rewrite_append_only_file

    programs = [await operations.program(only)] if only is not None else await operations.records.programs()
    erased = 0
    live: list[str] = []
    for program in [each.id for each in programs]:
        done = await operations.records.erase_person(program, operations.sealing.person(program, nik))
        erased += done.erased
        live += done.live
        recorded = await operations.records.position(program)
        if recorded is not None:  # recorded journal entries have their envelopes until they are trimmed
            await operations.ledgers.journal(program).trim(recorded, margin=0)
    primaries = await operations.servers.primaries()
    rewritten = [await rewrite_append_only_file(each.client) for each in primaries]
    return {
        "erased": erased,
        "live": live,
        "append_only_file": "being rewritten" if all(rewritten) else "no right to rewrite it",
        "replicas_to_rewrite": [replica for each in primaries for replica in await connected_replicas(each.client)],
    }


def _read_nik(source: str) -> str:
    try:
        content = sys.stdin.buffer.read(NIK_BYTES_MAX) if source == "-" else _head_of(Path(source))
        nik = tidy_nik(decode_text(content).strip())
    except OSError as error:
        raise ConfigurationError(f"{source} cannot be read: {error.strerror}") from error
    except NotUtf8 as error:
        raise ConfigurationError(f"{source} {error}") from error
    if not (has_digits(nik) and is_known(nik)):
        raise ConfigurationError("the input is not a NIK")
    return nik


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(NIK_BYTES_MAX)
