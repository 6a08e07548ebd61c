"""One case measured once: what is claimed in programs of a cluster, and what each process worked for it."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from loadtest.bench.measuring import WrongResult
from loadtest.bench.own_ledger import OwnLedger, confirmations, own_ledger, servers_at, until_rewritten
from loadtest.scale_out.cases import BASE, IDLE_FRONTS, Case
from loadtest.scale_out.cluster import LocalCluster, Node
from loadtest.scale_out.followers import Followers, following
from loadtest.stage.cores import pinned
from reservasi.ledger import keys
from reservasi.ledger.acknowledging import acks_wanted
from reservasi.ledger.topology.cluster import SLOTS, slot_of
from reservasi.model import Claim, Outcome

IN_FLIGHT_BATCHES = 4  # so many batches' claims are under way in a program: each call finds a full one waiting
ACK_TIMEOUT_MS = 5000
_numbers = itertools.count(1)

Asked: TypeAlias = Sequence[tuple[OwnLedger, Sequence[Claim]]]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    rounds: int
    warm_up: bool  # a round before them that does not count
    claims: int  # in one measurement, about
    calls_max: int  # of a program's claims, which bounds what single claims take
    quotas: int  # in each program
    idle_s: float  # so long nothing happens, where that is measured
    front_on: frozenset[int]  # the core of the process that claims


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one measurement showed, for each claim or confirmation."""

    done: int
    per_call: float
    valkey_us: float  # of all primaries together
    busiest_us: float  # of the primary that worked most
    front_us: float  # of the process that claims: group commit and connections, no HTTP
    replica_us: float  # of one replica of each primary
    follower_us: float  # of one follower of everything
    file_bytes: float  # of append-only file
    link_bytes: float  # sent to each replica
    journal_bytes: float  # of the journal in memory, until it is recorded and trimmed


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Processor time a second for each program that a front follows."""

    valkey_us: float
    front_us: float


def new_names(primaries: int) -> Iterator[str]:
    """Programs that were not there before, on the first primary, the second, and so on in turn."""
    for at in itertools.cycle(range(primaries)):
        first, end = SLOTS * at // primaries, SLOTS * (at + 1) // primaries
        yield next(name for name in map("kanim-{}".format, _numbers) if first <= slot_of(name) < end)


async def measure(cluster: LocalCluster, case: Case, sizes: Sizes) -> Work:
    """One measurement in programs of its own, which are checked and then gone.

    Raises:
        WrongResult: the ledgers do not hold what was answered.
    """
    counts = [_places(case, share, sizes) for share in case.shares]
    async with opened(cluster, case, sizes, counts) as ledgers, AsyncExitStack() as stack:
        await _check_placement(cluster, ledgers)
        followers = None
        if case.followers:
            names = [ledger.program for ledger in ledgers]
            followers = await stack.enter_async_context(following(cluster.url, names, case.followers))
        asked = [(ledger, ledger.claims(count)) for ledger, count in zip(ledgers, counts, strict=True)]
        if case.confirms:
            await _carry_out(asked, case, confirm=False)
        work = await _measured(cluster, case, sizes, asked, followers)
        for ledger, claims in asked:
            await ledger.check(claims, confirmed=case.confirms)
        return work


def _places(case: Case, share: int, sizes: Sizes) -> int:
    """A program's places: its share, as many in each quota."""
    wanted = sizes.claims * share / sum(case.shares)
    return max(1, round(min(wanted, sizes.calls_max * case.batch) / sizes.quotas)) * sizes.quotas


@asynccontextmanager
async def opened(
    cluster: LocalCluster, case: Case, sizes: Sizes, counts: Sequence[int]
) -> AsyncIterator[list[OwnLedger]]:
    """Programs with so many places each; nothing is left of them, neither in memory nor in the files."""
    acks = acks_wanted(replicas=case.acks, timeout_ms=ACK_TIMEOUT_MS, aof="off")
    try:
        async with servers_at(cluster.url) as servers, AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    own_ledger(
                        servers, name, quotas=sizes.quotas, capacity=count // sizes.quotas, batch=case.batch, acks=acks
                    )
                )
                for name, count in zip(new_names(case.primaries), counts, strict=False)
            ]
    finally:
        for node in cluster.primaries:
            await node.ask("FLUSHALL", "SYNC")
        await _replicated(cluster)
        await asyncio.gather(*map(_rewrite, cluster.nodes))


async def _rewrite(node: Node) -> None:
    await node.ask("BGREWRITEAOF")
    await until_rewritten(node.client)


async def _check_placement(cluster: LocalCluster, ledgers: Sequence[OwnLedger]) -> None:
    """Each program lies on the primary that it is meant for."""
    count = len(cluster.primaries)
    for at, ledger in enumerate(ledgers):
        if not await cluster.primaries[at % count].ask("EXISTS", keys.meta(ledger.program)):
            raise WrongResult(f"{ledger.program} does not lie on primary {at % count + 1} of {count}")


async def _measured(cluster: LocalCluster, case: Case, sizes: Sizes, asked: Asked, followers: Followers | None) -> Work:
    calls, files, links = await _sums(cluster)
    journals = await _journal_bytes(cluster, asked)
    valkey_s = [node.cpu_s() for node in cluster.nodes]
    followers_s = followers.cpu_s() if followers else 0.0
    front_s = time.process_time()
    with pinned(sizes.front_on):
        await _carry_out(asked, case, confirm=case.confirms)
    front_s = time.process_time() - front_s
    await _replicated(cluster)
    done = sum(len(claims) for _, claims in asked)
    if followers:
        await followers.reach(done)
        followers_s = followers.cpu_s() - followers_s
    valkey_us = [(node.cpu_s() - before) / done * 1e6 for node, before in zip(cluster.nodes, valkey_s, strict=True)]
    primaries_us, replicas_us = valkey_us[: case.primaries], valkey_us[case.primaries :]
    calls_now, files_now, links_now = await _sums(cluster)
    return Work(
        done=done,
        per_call=done / (calls_now - calls) * (2 if case.acks else 1),  # each acknowledged call is two: `touch` follows
        valkey_us=sum(primaries_us),
        busiest_us=max(primaries_us),
        front_us=front_s / done * 1e6,
        replica_us=sum(replicas_us) / max(1, case.replicas),
        follower_us=followers_s / done * 1e6 / max(1, case.followers),
        file_bytes=(files_now - files) / done,
        link_bytes=(links_now - links) / done if case.replicas else 0.0,
        journal_bytes=(await _journal_bytes(cluster, asked) - journals) / done,
    )


async def _carry_out(asked: Asked, case: Case, *, confirm: bool) -> None:
    """In every program at once, in each as many under way as its share allows, so that all end together."""
    most = max(len(claims) for _, claims in asked)

    async def in_one(ledger: OwnLedger, claims: Sequence[Claim]) -> None:
        in_flight = -(-IN_FLIGHT_BATCHES * case.batch * len(claims) // most)
        commands = confirmations(claims) if confirm else claims
        await ledger.submit(commands, Outcome.CONFIRMED if confirm else Outcome.HELD, in_flight)

    await asyncio.gather(*(in_one(ledger, claims) for ledger, claims in asked))


async def _replicated(cluster: LocalCluster) -> None:
    """Wait until every replica has what its primary has, so that its work is complete."""
    count = len(cluster.primaries)
    for at, replica in enumerate(cluster.replicas):
        primary = cluster.primaries[at % count]
        wanted = (await primary.client.info("replication"))["master_repl_offset"]

        async def there(replica: Node = replica, wanted: int = wanted) -> bool:
            return bool((await replica.client.info("replication"))["slave_repl_offset"] >= wanted)

        await cluster.until(there)


async def _sums(cluster: LocalCluster) -> tuple[int, int, int]:
    """Function calls, bytes of append-only files and of the replication stream so far, of all primaries."""
    calls = files = links = 0
    for node in cluster.primaries:
        calls += (await node.client.info("commandstats")).get("cmdstat_fcall", {}).get("calls", 0)
        files += (await node.client.info("persistence"))["aof_current_size"]
        links += (await node.client.info("replication"))["master_repl_offset"]
    return calls, files, links


async def _journal_bytes(cluster: LocalCluster, asked: Asked) -> int:
    total = 0
    for ledger, _ in asked:
        node = await cluster.node_of(slot_of(ledger.program))
        total += await node.ask("MEMORY", "USAGE", keys.journal(ledger.program), "SAMPLES", 0)
    return total


async def measure_idle(cluster: LocalCluster, sizes: Sizes, wanted: bool) -> Idle:
    """What fronts cost while nobody claims: each asks again and again how far every program is."""
    counts = [sizes.quotas] * len(BASE.shares)
    async with opened(cluster, BASE, sizes, counts) as ledgers:
        alone_us, _ = await _a_second(cluster, sizes.idle_s)
        names = [ledger.program for ledger in ledgers]
        async with following(cluster.url, names, IDLE_FRONTS, wanted=wanted) as followers:
            valkey_us, fronts_us = await _a_second(cluster, sizes.idle_s, followers)
    followed = IDLE_FRONTS * len(names)
    return Idle(valkey_us=(valkey_us - alone_us) / followed, front_us=fronts_us / followed)


async def _a_second(cluster: LocalCluster, seconds: float, followers: Followers | None = None) -> tuple[float, float]:
    """Processor time of the primaries and of the followers in a second, in microseconds."""

    def used_s() -> tuple[float, float]:
        return sum(node.cpu_s() for node in cluster.primaries), followers.cpu_s() if followers else 0.0

    started_s, before = time.perf_counter(), used_s()
    await asyncio.sleep(seconds)
    took_s = time.perf_counter() - started_s
    valkey_us, followers_us = ((now - earlier) / took_s * 1e6 for now, earlier in zip(used_s(), before, strict=True))
    return valkey_us, followers_us
