"""All checks of `reservasi doctor`."""

import asyncio
import platform
import shutil
from collections.abc import Coroutine
from importlib import metadata
from typing import Any

import msgspec

from reservasi.bootstrap.addresses import postgres_dsn
from reservasi.bootstrap.commands import Operations, open_operations
from reservasi.bootstrap.ledgers import Ledgers
from reservasi.bootstrap.servers import open_servers
from reservasi.cli.fences import compare, fence_cause
from reservasi.cli.findings import NO_ANSWER, Finding, server_findings
from reservasi.cli.output import counted
from reservasi.cli.program_by_program import reason_of
from reservasi.embedded import Places
from reservasi.errors import ReservasiError
from reservasi.front.process.http_parser import parses_in_c
from reservasi.ledger.journal.stream import START
from reservasi.ledger.topology.servers import Servers
from reservasi.model import Position
from reservasi.records import revision
from reservasi.settings import Settings
from reservasi.worker.ledger_owner import Ownership

DISK_FREE_MIN_BYTES = 1 << 30
CALL_TIMEOUT_S = 5.0
LAG_MAX_SEQ = 5000
PROGRAMS_AT_ONCE = 4  # each uses both stores
STANDSTILL_S = 2.0  # without a recorded change, while some wait
STANDSTILL_LOOK_S = 0.1
UNREACHABLE = ("records", "ledger", "server")  # checks that exist only if a store does not answer


class _LedgerSide(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's servers, whether or not the records answer."""

    settings: Settings
    servers: Servers
    ledgers: Ledgers


async def examine(settings: Settings) -> list[Finding]:
    """Run every check, also after a failed one; checks of both stores are left out if one does not answer."""
    findings = [_interpreter(), _disk(settings)]
    absent = _absent(settings)
    is_absent = bool(absent)
    records = [] if is_absent and not settings.postgres_dsn else await _bounded("records", _records(settings))
    ledger = [] if is_absent and not settings.redis_url else await _bounded("ledger", _ledger(settings))
    findings += [*absent, *records, *ledger]
    silent = [each.check for each in (*records, *ledger) if each.check in UNREACHABLE]
    if is_absent:
        return findings
    if silent:
        words = "ledgers and records are not compared, since one of them does not answer"
        findings.append(Finding(check="programs", ok=False, said=words))
    elif all(each.ok for each in records):  # without the schema, nothing can be read
        findings += await _bounded("programs", _programs(settings))
    return findings


async def _bounded(check: str, looking: Coroutine[Any, Any, list[Finding]]) -> list[Finding]:
    """The findings of a check, or one finding that it failed or timed out."""
    try:
        async with asyncio.timeout(6 * CALL_TIMEOUT_S):
            return await looking
    except (ReservasiError, TimeoutError) as error:
        return [Finding(check=check, ok=False, said=str(error) or NO_ANSWER)]


async def _records(settings: Settings) -> list[Finding]:
    schema = await _schema(settings)
    return [Finding(check="PostgreSQL", ok=True, said="it answers"), schema]


async def _ledger(settings: Settings) -> list[Finding]:
    servers = open_servers(settings)
    try:
        servers.start()
        side = _LedgerSide(settings=settings, servers=servers, ledgers=Ledgers(settings, servers))
        return await server_findings(side)
    finally:
        await servers.close()


async def _programs(settings: Settings) -> list[Finding]:
    async with open_operations(settings) as operations:
        programs = await operations.records.programs()
        at_once = asyncio.Semaphore(PROGRAMS_AT_ONCE)
        results = await asyncio.gather(*(_program_in_time(operations, each.id, at_once) for each in programs))
        words = f"{settings.secrets_path} is the one that the records are bound to"
        return [Finding(check="key ring", ok=True, said=words), *results]


async def _program_in_time(operations: Operations, program: str, at_once: asyncio.Semaphore) -> Finding:
    """The finding of one program; any error is a finding of this program only."""
    try:
        async with at_once, asyncio.timeout(2 * CALL_TIMEOUT_S):
            return await _program(operations, program)
    except TimeoutError:
        words = NO_ANSWER
    except Exception as error:  # the stored data of a program may be damaged in any way
        words = reason_of(error)
    return Finding(check=f"program {program}", ok=False, said=words)


def _interpreter() -> Finding:
    words = f"Python {platform.python_version()}, aiohttp {metadata.version('aiohttp')}"
    if parses_in_c():
        return Finding(check="interpreter", ok=True, said=f"{words} with its C parser")
    return Finding(check="interpreter", ok=False, said=f"{words} without its C parser: install the binary wheel")


def _disk(settings: Settings) -> Finding:
    place = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists())
    free = shutil.disk_usage(place).free
    words = f"{free >> 20:,} MiB free at {place}"
    if free >= DISK_FREE_MIN_BYTES:
        return Finding(check="disk", ok=True, said=words)
    return Finding(check="disk", ok=False, said=f"only {words}: a full disk stops both stores; make room")


def _absent(settings: Settings) -> list[Finding]:
    """One finding for a missing data directory, in place of each client's error about a missing socket."""
    places = Places.of(settings.data_dir)
    embedded = [] if settings.redis_url else [places.valkey]
    embedded += [] if settings.postgres_dsn else [places.postgres]
    if all(each.exists() for each in embedded):
        return []
    words = (
        f"there is no data directory at {settings.data_dir}: `reservasi up --data-dir {settings.data_dir}` creates "
        "it, `make up` the default one; or choose another with --data-dir"
    )
    return [Finding(check="data directory", ok=False, said=words)]


async def _schema(settings: Settings) -> Finding:
    state = await revision.check(postgres_dsn(settings))
    if state.up_to_date:
        return Finding(check="schema", ok=True, said=f"at {state.current}")
    words = f"at {state.current or 'nothing'}, this version needs {state.wanted}: run reservasi db upgrade"
    if state.newer:
        words = (
            f"at {state.current}, which a later version made; this version needs {state.wanted}: run that version, or "
            "go back as described in docs/operations/deployment.md"
        )
    return Finding(check="schema", ok=False, said=words)


async def _program(operations: Operations, program: str) -> Finding:
    check = f"program {program}"
    results = await compare(operations, program)
    position = results.meta.position
    dead = await operations.records.dead_letter_count(program)
    if results.verdict is not Ownership.OWNED:
        is_fenced = "altered; a worker will fence it" if results.altered else "fenced"
        words = f"the ledger is {is_fenced}: {fence_cause(results)}; {counted(dead, 'dead letter')}"
        return Finding(check=check, ok=False, said=words)
    lag = position.seq - results.recorded.seq
    waiting = f"{counted(lag, 'change')} not recorded yet, {counted(dead, 'dead letter')}"
    words = f"owned at epoch {position.epoch}, seq {position.seq}; {waiting}"
    if dead:
        words += f": see reservasi dead-letters list --program {program}; the records lack their changes"
    stands_still = lag > 0 and await _stands_still(operations, program, results.recorded)
    if stands_still:
        words += f": none was recorded for {STANDSTILL_S:g} s; check that a worker serves it, and its log"
    elif not 0 <= lag <= LAG_MAX_SEQ:
        words += ": the recorder is behind and progressing"
    return Finding(check=check, ok=dead == 0 and not stands_still and 0 <= lag <= LAG_MAX_SEQ, said=words)


async def _stands_still(operations: Operations, program: str, recorded: Position) -> bool:
    """Whether nothing is recorded for a while although changes wait."""
    deadline = asyncio.get_running_loop().time() + STANDSTILL_S
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(STANDSTILL_LOOK_S)
        if (await operations.records.position(program) or START) != recorded:
            return False
    return True
