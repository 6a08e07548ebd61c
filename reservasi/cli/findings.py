"""Findings of the doctor about the ledger's servers: each primary of a cluster, and the sentinels."""

import asyncio
from typing import Protocol

import msgspec

from reservasi.bootstrap.ledgers import Ledgers
from reservasi.errors import LedgerUnreachable
from reservasi.ledger.acknowledging import asks_enough
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.clients import LOST
from reservasi.ledger.topology.cluster import SLOTS
from reservasi.ledger.topology.server_facts import ServerFacts, read_facts
from reservasi.ledger.topology.servers import Primary, Servers
from reservasi.settings import Settings

CALL_TIMEOUT_S = 5.0
SENTINELS_MIN = 3  # fewer have no majority if one of them fails


NO_ANSWER = "no answer in time: it may be stopped, hung or overloaded; see its log, and restart it if it hangs"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding of the doctor."""

    check: str
    ok: bool
    said: str  # the finding, and what to do if it is not ok
    server: str = ""  # set if there are several servers


class LedgerSide(Protocol):
    """What the checks of the ledger's servers use; the records need not answer."""

    @property
    def settings(self) -> Settings: ...

    @property
    def servers(self) -> Servers: ...

    @property
    def ledgers(self) -> Ledgers: ...


async def server_findings(operations: LedgerSide) -> list[Finding]:
    """Findings about the ledger's servers: one, one with sentinels, or a cluster's primaries.

    Raises:
        LedgerUnreachable: none can be found.
    """
    try:
        primaries = await operations.servers.primaries()
        sentinels = await operations.servers.sentinels()
    except LOST as error:
        raise LedgerUnreachable(f"the ledger's servers do not answer: {error}") from error
    results = [_sentinels(sentinels)] if sentinels else []
    if operations.servers.is_cluster:
        results.append(_slots(primaries))
    for findings in await asyncio.gather(*(_primary(each, operations) for each in primaries)):
        results += findings
    return results if operations.servers.is_cluster else results + await replicas(operations)


async def replicas(operations: LedgerSide) -> list[Finding]:
    """Whether a failover keeps what was promised; empty if no replica would be promoted automatically."""
    promotable = await operations.ledgers.promotable_replicas()
    return [] if promotable is None else [_replicas(promotable, operations.settings)]


def _sentinels(named: dict[str, str]) -> Finding:
    silent = [sentinel for sentinel, primary in named.items() if not primary]
    primaries = sorted({primary for primary in named.values() if primary})
    words = f"{len(named) - len(silent)} of {len(named)} answer and name {' and '.join(primaries) or 'nobody'}"
    if silent:
        words += f"; silent: {', '.join(silent)}"
    if len(named) < SENTINELS_MIN:
        words += f"; configure all of them, at least {SENTINELS_MIN}"
    well = len(named) >= SENTINELS_MIN and not silent and len(primaries) == 1
    return Finding(check="sentinels", ok=well, said=words)


def _slots(primaries: list[Primary]) -> Finding:
    served = sum(each.slots for each in primaries)
    words = f"{served:,} of {SLOTS:,} are served, by {len(primaries)} primaries"
    return Finding(check="cluster slots", ok=served == SLOTS, said=words)


async def _primary(primary: Primary, operations: LedgerSide) -> list[Finding]:
    settings = operations.settings
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            facts = await read_facts(primary.client)
    except (LedgerUnreachable, TimeoutError) as error:
        return [Finding(check="server", ok=False, said=str(error) or NO_ANSWER, server=primary.name)]
    results = [
        Finding(check=each.name, ok=each.well is not False, said=each.said, server=primary.name)
        for each in facts.checks()
    ]
    if settings.aof_ack != "off":
        results.append(_waitaof(facts, settings, primary.name))
    if operations.servers.is_cluster:
        results.append(_replicas(facts.replicas, settings, primary.name))
    return [*results, _functions(facts, primary.name)]


def _waitaof(facts: ServerFacts, settings: Settings, server: str) -> Finding:
    words = f"{facts.version} has WAITAOF, which aof_ack = {settings.aof_ack} needs"
    if not facts.waits_for_files:
        words = f"{facts.version} has no WAITAOF: run Redis 7.2 or newer, or any Valkey, or set aof_ack = off"
    return Finding(check="WAITAOF", ok=facts.waits_for_files, said=words, server=server)


def _replicas(promotable: int, settings: Settings, server: str = "") -> Finding:
    """Any replica that may be promoted may be the next primary, so that each must have what was promised."""
    required = settings.replicas_min_ack
    words = f"{promotable} may be promoted, and replicas_min_ack is {required}"
    if not asks_enough(required, promotable):
        words += f": a failover may lose what was promised; set it to {promotable}"
    elif required > promotable:
        words += ": if too few replicas acknowledge, answers wait for the records"
    return Finding(check="replicas", ok=required == promotable, said=words, server=server)


def _functions(facts: ServerFacts, server: str) -> Finding:
    """Missing functions are no fault: the worker loads them at its first call."""
    name = read_library().name
    words = f"{name} is not loaded yet: the worker loads it at its first call"
    if facts.libraries is None:
        words = "the server does not let us list the loaded functions"
    elif name in facts.libraries:
        words = f"{name} is loaded"
    return Finding(check="functions", ok=True, said=words, server=server)
