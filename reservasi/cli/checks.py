"""`reservasi doctor`: checks the installation."""

import asyncio
import platform
import shutil
from importlib import metadata

import typer

from reservasi.bootstrap import Operations, open_operations, postgres_dsn
from reservasi.cli.fences import compare, fence_cause
from reservasi.cli.findings import Finding, server_findings
from reservasi.cli.invocation import configured, run
from reservasi.cli.output import EXIT_FAILED, AsJson, DataDir, PostgresDsn, RedisUrl, out, print_json
from reservasi.errors import ReservasiError
from reservasi.front.probe import parses_in_c
from reservasi.records import revision
from reservasi.recovery import Ownership
from reservasi.settings import Settings

DISK_FREE_MIN_BYTES = 1 << 30
CALL_TIMEOUT_S = 5.0
LAG_MAX_SEQ = 5000


def doctor(
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    postgres_dsn_: PostgresDsn = None,
    as_json: AsJson = False,
) -> None:
    """Look at everything the promises rest on; exit 1 when something is not well."""
    settings = configured(data_dir=data_dir, redis_url=redis_url, postgres_dsn=postgres_dsn_)
    findings = run(_examine(settings))
    if as_json:
        print_json({"ok": all(finding.ok for finding in findings), "findings": findings})
    else:
        for finding in findings:
            mark = "[green]ok  [/]" if finding.ok else "[bold red]bad [/]"
            where = f" [dim]({finding.server})[/]" if finding.server else ""
            out.print(f"{mark} [dim]{finding.check:<20}[/] {finding.said}{where}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(EXIT_FAILED)


async def _examine(settings: Settings) -> list[Finding]:
    findings = [_interpreter(), _disk(settings)]
    try:
        schema = await _schema(settings)
        findings.append(schema)
        if not schema.ok:  # nothing else can be asked before it is
            return findings
        async with asyncio.timeout(6 * CALL_TIMEOUT_S), open_operations(settings) as operations:
            findings += await server_findings(operations)
            findings += [await _program(operations, each.id) for each in await operations.records.programs()]
    except (ReservasiError, TimeoutError) as error:
        findings.append(Finding(check="servers", ok=False, said=str(error) or "no answer in time"))
    return findings


def _interpreter() -> Finding:
    said = f"Python {platform.python_version()}, aiohttp {metadata.version('aiohttp')}"
    if parses_in_c():
        return Finding(check="interpreter", ok=True, said=f"{said} with its C parser")
    return Finding(check="interpreter", ok=False, said=f"{said} without its C parser: install the binary wheel")


def _disk(settings: Settings) -> Finding:
    place = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists())
    free = shutil.disk_usage(place).free
    said = f"{free >> 20:,} MiB free at {place}"
    return Finding(check="disk", ok=free >= DISK_FREE_MIN_BYTES, said=said)


async def _schema(settings: Settings) -> Finding:
    state = await revision.check(postgres_dsn(settings))
    if state.up_to_date:
        return Finding(check="schema", ok=True, said=f"at {state.current}")
    said = f"at {state.current or 'nothing'}, this version wants {state.wanted}: run reservasi db upgrade"
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
    said = f"epoch {position.epoch}, seq {position.seq}, {lag} not recorded yet, {dead} dead letters"
    return Finding(check=check, ok=dead == 0 and 0 <= lag <= LAG_MAX_SEQ, said=said)
