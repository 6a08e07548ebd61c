"""Checks whether a process can use the stores at all, and whether the ledger's servers keep what is promised."""

import asyncio
from collections.abc import Callable

from redis.exceptions import AuthenticationError, AuthorizationError

from reservasi.bootstrap.addresses import postgres_dsn
from reservasi.bootstrap.servers import refuse_unacknowledged
from reservasi.errors import ConfigurationError, LedgerUnreachable, SchemaMissing, described
from reservasi.health import GRACE_S, Health
from reservasi.ledger.topology.clients import LOST
from reservasi.ledger.topology.server_facts import Check, read_facts
from reservasi.ledger.topology.servers import Servers
from reservasi.logs import get_logger
from reservasi.metrics import LEDGER_AT_RISK
from reservasi.records import revision
from reservasi.settings import Settings

LOOK_TIMEOUT_S = 5.0  # for all servers together
LOOK_INTERVAL_S = 60.0
IDLE_INTERVAL_S = 1.0
RISKS = {  # checks on which promises depend, with their names in the metric
    "append-only file": "append_only_file",
    "replay": "replay",
    "fsync": "fsync",
    "eviction": "eviction",
}

log = get_logger()


async def refuse_unusable(settings: Settings, servers: Servers) -> None:
    """Refuse to start if waiting does not help, and say what to do. A server that does not answer may come back.

    Raises:
        SchemaMissing: the records' schema is older than this version.
        ConfigurationError: a server of the ledger refuses our name or password, or cannot satisfy `aof_ack`.
    """
    await refuse_old_schema(settings)
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            for each in await servers.primaries():
                await read_facts(each.client)
    except LedgerUnreachable as error:
        _refuse_strangers(error)
        log.warning("ledger_not_reached", reason=str(error), advice="claims are answered 503 until it answers")
    except LOST as error:
        log.warning("ledger_not_reached", reason=str(error) or type(error).__name__)
    await refuse_unacknowledged(settings, servers)


async def refuse_old_schema(settings: Settings) -> None:
    """Refuse a database that needs `db upgrade` first; a newer schema works for the version before it as well.

    Raises:
        SchemaMissing: it is older than this version needs.
    """
    state = await revision.check(postgres_dsn(settings))
    if state.current < state.wanted:
        raise SchemaMissing(
            f"the records' schema is at {state.current or 'nothing'}, this version needs {state.wanted}: run "
            "`reservasi db upgrade`"
        )


def _refuse_strangers(error: BaseException) -> None:
    """Refuse to start if the server rejects our login, which waiting does not change."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AuthenticationError | AuthorizationError):
            raise ConfigurationError(
                f"the ledger's server refuses our login: {cause}; set the right name and password in redis_url"
            ) from error
        cause = cause.__cause__


async def durability(servers: Servers) -> list[tuple[str, Check]]:
    """Settings of the ledger's servers that may lose promises: (server, "" if there is only one; check).

    Raises:
        LedgerUnreachable: a server does not answer.
    """
    risks: list[tuple[str, Check]] = []
    for each in await servers.primaries():
        facts = await read_facts(each.client)
        risks += [(each.name, check) for check in facts.checks() if check.name in RISKS and check.well is False]
    return risks


async def watch_idle(servers: Servers, health: Health, serves: Callable[[], bool]) -> None:
    """Note in `health` whether the ledger answers while no program is served, until cancelled.

    The owner of a served program notices it by itself.
    """
    while True:
        fault = ""
        if not serves():
            try:
                async with asyncio.timeout(GRACE_S):
                    for each in await servers.primaries():
                        await each.client.ping()
            except (LedgerUnreachable, *LOST) as error:
                fault = described(error)
        health.note_servers(fault)
        await asyncio.sleep(IDLE_INTERVAL_S)


async def watch_durability(servers: Servers) -> None:
    """Keep the metric current, and log changes, until cancelled."""
    logged: list[tuple[str, str]] = []
    while True:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                risks = await durability(servers)
        except (LedgerUnreachable, *LOST):
            await asyncio.sleep(LOOK_INTERVAL_S)
            continue
        for risk, kind in RISKS.items():
            LEDGER_AT_RISK.labels(kind).set(sum(check.name == risk for _, check in risks))
        now = [(server, check.name) for server, check in risks]
        if now != logged:
            for server, check in risks:
                where = {"server": server} if server else {}
                log.warning("ledger_may_forget", check=check.name, reason=check.said, **where)
            logged = now
        await asyncio.sleep(LOOK_INTERVAL_S)
