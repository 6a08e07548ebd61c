"""What the doctor finds at the ledger's servers: at each primary of a cluster, and at the sentinels."""

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
SENTINELS_MIN = 3  # fewer have no majority once one of them is away


NO_ANSWER = "no answer in time: it may be stopped, hung or overloaded; look at its log, start it anew where it hangs"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the doctor looked at."""

    check: str
    ok: bool
    said: str  # what was found, and what to do when it is not well
    server: str = ""  # where several could be meant


class LedgerSide(Protocol):
    """What is asked of the ledger's servers; the records need not answer."""

    @property
    def settings(self) -> Settings:
        """The settings."""

    @property
    def servers(self) -> Servers:
        """The ledger's servers."""

    @property
    def ledgers(self) -> Ledgers:
        """What speaks to them."""


async def server_findings(operations: LedgerSide) -> list[Finding]:
    """What holds of the ledger's servers, whether one, watched by sentinels, or a cluster's primaries.

    Raises:
        LedgerUnreachable: none can be found.
    """
    try:
        primaries = await operations.servers.primaries()
        sentinels = await operations.servers.sentinels()
    except LOST as error:
        raise LedgerUnreachable(f"the ledger's servers do not answer: {error}") from error
    found = [_sentinels(sentinels)] if sentinels else []
    if operations.servers.is_cluster:
        found.append(_slots(primaries))
    for findings in await asyncio.gather(*(_primary(each, operations) for each in primaries)):
        found += findings
    return found if operations.servers.is_cluster else found + await replicas(operations)


async def replicas(operations: LedgerSide) -> list[Finding]:
    """Whether a failover keeps what was promised; nothing where nobody would promote a replica."""
    promotable = await operations.ledgers.promotable_replicas()
    return [] if promotable is None else [_replicas(promotable, operations.settings)]


def _sentinels(named: dict[str, str]) -> Finding:
    silent = [asked for asked, told in named.items() if not told]
    primaries = sorted({told for told in named.values() if told})
    said = f"{len(named) - len(silent)} of {len(named)} answer and name {' and '.join(primaries) or 'nobody'}"
    if silent:
        said += f"; silent: {', '.join(silent)}"
    if len(named) < SENTINELS_MIN:
        said += f"; name all of them, and have at least {SENTINELS_MIN}"
    well = len(named) >= SENTINELS_MIN and not silent and len(primaries) == 1
    return Finding(check="sentinels", ok=well, said=said)


def _slots(primaries: list[Primary]) -> Finding:
    served = sum(each.slots for each in primaries)
    said = f"{served:,} of {SLOTS:,} are served, by {len(primaries)} primaries"
    return Finding(check="cluster slots", ok=served == SLOTS, said=said)


async def _primary(primary: Primary, operations: LedgerSide) -> list[Finding]:
    settings = operations.settings
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            facts = await read_facts(primary.client)
    except (LedgerUnreachable, TimeoutError) as error:
        return [Finding(check="server", ok=False, said=str(error) or NO_ANSWER, server=primary.name)]
    found = [
        Finding(check=each.name, ok=each.well is not False, said=each.said, server=primary.name)
        for each in facts.checks()
    ]
    if settings.aof_ack != "off":
        found.append(_waitaof(facts, settings, primary.name))
    if operations.servers.is_cluster:
        found.append(_replicas(facts.replicas, settings, primary.name))
    return [*found, _functions(facts, primary.name)]


def _waitaof(facts: ServerFacts, settings: Settings, server: str) -> Finding:
    said = f"{facts.version} has WAITAOF, which aof_ack = {settings.aof_ack} needs"
    if not facts.waits_for_files:
        said = f"{facts.version} has no WAITAOF: run Redis 7.2 or newer, or any Valkey, or set aof_ack = off"
    return Finding(check="WAITAOF", ok=facts.waits_for_files, said=said, server=server)


def _replicas(promotable: int, settings: Settings, server: str = "") -> Finding:
    """Any replica that may be promoted may be the next primary, so each must have what was promised."""
    asked = settings.replicas_min_ack
    said = f"{promotable} may be promoted, and replicas_min_ack is {asked}"
    if not asks_enough(asked, promotable):
        said += f": a failover may forget what was promised; set it to {promotable}"
    elif asked > promotable:
        said += ": answers wait for the records, since what too few replicas have is promised only once it is recorded"
    return Finding(check="replicas", ok=asked == promotable, said=said, server=server)


def _functions(facts: ServerFacts, server: str) -> Finding:
    """Their absence is no fault: whoever may load them does so at their first call."""
    name = read_library().name
    said = f"{name} is not loaded yet: the worker loads it at its first call"
    if facts.libraries is None:
        said = "we may not ask which are loaded"
    elif name in facts.libraries:
        said = f"{name} is loaded"
    return Finding(check="functions", ok=True, said=said, server=server)
