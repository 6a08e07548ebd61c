"""What `reservasi doctor` looks at: every check of the installation."""

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
from reservasi.cli.program_by_program import reason_of
from reservasi.embedded import Places
from reservasi.errors import ReservasiError
from reservasi.front.process.front_probe import parses_in_c
from reservasi.ledger.journal.stream import START
from reservasi.ledger.topology.servers import Servers
from reservasi.model import Position
from reservasi.records import revision
from reservasi.settings import Settings
from reservasi.worker.ledger_owner import Ownership

DISK_FREE_MIN_BYTES = 1 << 30
CALL_TIMEOUT_S = 5.0
LAG_MAX_SEQ = 5000
PROGRAMS_AT_ONCE = 4  # each asks both stores
STANDSTILL_S = 2.0  # without a change that is recorded, while some wait
STANDSTILL_LOOK_S = 0.1
UNREACHABLE = ("records", "ledger", "server")  # checks that are there only where a store does not answer


class _LedgerSide(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's servers, whether the records answer or not."""

    settings: Settings
    servers: Servers
    ledgers: Ledgers


async def examine(settings: Settings) -> list[Finding]:
    """Every check, also those behind one that fails; what needs both stores is left out where one does not answer."""
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
        said = "ledgers and records are not compared, since one of them does not answer"
        findings.append(Finding(check="programs", ok=False, said=said))
    elif all(each.ok for each in records):  # where the schema is not, nothing can be asked
        findings += await _bounded("programs", _programs(settings))
    return findings


async def _bounded(check: str, looking: Coroutine[Any, Any, list[Finding]]) -> list[Finding]:
    """What was found, or that nothing could be."""
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
        found = await asyncio.gather(*(_program_in_time(operations, each.id, at_once) for each in programs))
        said = f"{settings.secrets_path} is the one that the records are bound to"
        return [Finding(check="key ring", ok=True, said=said), *found]


async def _program_in_time(operations: Operations, program: str, at_once: asyncio.Semaphore) -> Finding:
    """What one program is like, whatever that is: it takes nothing from what is found of the others."""
    try:
        async with at_once, asyncio.timeout(2 * CALL_TIMEOUT_S):
            return await _program(operations, program)
    except TimeoutError:
        said = NO_ANSWER
    except Exception as error:  # what is stored of one program may be anything
        said = reason_of(error)
    return Finding(check=f"program {program}", ok=False, said=said)


def _interpreter() -> Finding:
    said = f"Python {platform.python_version()}, aiohttp {metadata.version('aiohttp')}"
    if parses_in_c():
        return Finding(check="interpreter", ok=True, said=f"{said} with its C parser")
    return Finding(check="interpreter", ok=False, said=f"{said} without its C parser: install the binary wheel")


def _disk(settings: Settings) -> Finding:
    place = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists())
    free = shutil.disk_usage(place).free
    said = f"{free >> 20:,} MiB free at {place}"
    if free >= DISK_FREE_MIN_BYTES:
        return Finding(check="disk", ok=True, said=said)
    return Finding(check="disk", ok=False, said=f"only {said}: a full disk stops both stores; make room")


def _absent(settings: Settings) -> list[Finding]:
    """That no service has a data directory there: instead of what each client says about a socket that is missing."""
    places = Places.of(settings.data_dir)
    embedded = [] if settings.redis_url else [places.valkey]
    embedded += [] if settings.postgres_dsn else [places.postgres]
    if all(each.exists() for each in embedded):
        return []
    said = (
        f"there is no data directory at {settings.data_dir}: `reservasi up --data-dir {settings.data_dir}` makes one "
        "there, and `make up` the usual one; or name another with --data-dir"
    )
    return [Finding(check="data directory", ok=False, said=said)]


async def _schema(settings: Settings) -> Finding:
    state = await revision.check(postgres_dsn(settings))
    if state.up_to_date:
        return Finding(check="schema", ok=True, said=f"at {state.current}")
    said = f"at {state.current or 'nothing'}, this version wants {state.wanted}: run reservasi db upgrade"
    if state.newer:
        said = (
            f"at {state.current}, which a later version made; this version wants {state.wanted}: run that version, "
            "or go back as docs/operations/deployment.md says"
        )
    return Finding(check="schema", ok=False, said=said)


async def _program(operations: Operations, program: str) -> Finding:
    check = f"program {program}"
    found = await compare(operations, program)
    position = found.meta.position
    dead = await operations.records.dead_letter_count(program)
    if found.verdict is not Ownership.OWNED:
        is_fenced = "altered, and fenced as soon as a worker looks" if found.altered else "fenced"
        said = f"the ledger is {is_fenced}: {fence_cause(found)}; {dead} dead letters"
        return Finding(check=check, ok=False, said=said)
    lag = position.seq - found.recorded.seq
    said = f"owned at epoch {position.epoch}, seq {position.seq}; {lag} changes not recorded yet, {dead} dead letters"
    if dead:
        said += f": see reservasi dead-letters list --program {program}, since the records lack what they say"
    stands_still = lag > 0 and await _stands_still(operations, program, found.recorded)
    if stands_still:
        said += f": none was recorded for {STANDSTILL_S:g} s; is a worker running that serves it, and what does it log?"
    elif not 0 <= lag <= LAG_MAX_SEQ:
        said += ": the recorder is behind, and goes on"
    return Finding(check=check, ok=dead == 0 and not stands_still and 0 <= lag <= LAG_MAX_SEQ, said=said)


async def _stands_still(operations: Operations, program: str, recorded: Position) -> bool:
    """Whether nothing is recorded for a while, though something waits; a recorder that is busy moves on."""
    deadline = asyncio.get_running_loop().time() + STANDSTILL_S
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(STANDSTILL_LOOK_S)
        if (await operations.records.position(program) or START) != recorded:
            return False
    return True
