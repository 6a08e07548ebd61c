"""One case measured once: what people ask of programs in a cluster, and what each process worked for it."""

import time
from asyncio import gather
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from loadtest.bench.experiments.programs import rewritten
from loadtest.scale_out.cluster import LocalCluster, Node
from loadtest.scale_out.followers import Followers, following
from loadtest.scale_out.offices import Office, WrongResult, confirmations, new_names
from loadtest.stage.cores import pinned
from reservasi.ledger import keys
from reservasi.ledger.acknowledging import acks_wanted
from reservasi.ledger.topology.cluster import slot_of
from reservasi.ledger.topology.servers import Servers
from reservasi.model import Claim, Outcome

IN_FLIGHT_BATCHES = 4  # so many batches' claims are under way in a program: each call finds a full one waiting
ACK_TIMEOUT_MS = 5000

Asked: TypeAlias = Sequence[tuple[Office, Sequence[Claim]]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is asked, of how many programs, where they lie, and who else is there."""

    name: str
    primaries: int = 1
    replicas: int = 0  # of each primary
    acks: int = 0  # replicas that must have a claim before it is promised
    followers: int = 0  # fronts that follow every program, besides the one that claims
    shares: tuple[int, ...] = (1,) * 6  # of the claims, by program; the programs lie on the primaries in turn
    batch: int = 64  # claims in one call
    confirms: bool = False  # the confirmations are measured, not the claims before them


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    rounds: int
    warm_up: bool  # a round before them that does not count
    claims: int  # in one measurement, about
    calls_max: int  # of a program's claims, which bounds what single claims take
    quotas: int  # in each program
    idle_s: float  # so long nothing happens, where that is measured
    front_on: frozenset[int]  # cores of the process that claims, while it does; everything else runs on the others


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one measurement showed; times are processor time in microseconds a claim, or a confirmation."""

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

    @property
    def capacity_per_s(self) -> float:
        """How many a second keep the busiest primary's core busy."""
        return 1e6 / self.busiest_us


async def measure(cluster: LocalCluster, case: Case, sizes: Sizes) -> Work:
    """One measurement in programs of its own, which are checked and then gone.

    Raises:
        WrongResult: the ledgers do not hold what was answered.
    """
    counts = [_places(case, share, sizes) for share in case.shares]
    names = list(islice(new_names(case.primaries), len(counts)))
    try:
        async with opened(cluster, case, sizes, names, counts) as offices, AsyncExitStack() as stack:
            await _check_placement(cluster, names)
            followers = None
            if case.followers:
                followers = await stack.enter_async_context(following(cluster.url, names, case.followers))
            asked = [(office, office.claims(count)) for office, count in zip(offices, counts, strict=True)]
            if case.confirms:
                await carry_out(asked, case, confirm=False)
            work = await _measured(cluster, case, sizes, asked, followers)
            for office, claims in asked:
                await office.check(claims, confirmed=case.confirms)
            return work
    finally:
        await clear(cluster)


def _places(case: Case, share: int, sizes: Sizes) -> int:
    """A program's places: its share, as many in each quota."""
    wanted = sizes.claims * share / sum(case.shares)
    return max(1, round(min(wanted, sizes.calls_max * case.batch) / sizes.quotas)) * sizes.quotas


@asynccontextmanager
async def opened(
    cluster: LocalCluster, case: Case, sizes: Sizes, names: Sequence[str], counts: Sequence[int]
) -> AsyncIterator[list[Office]]:
    """Programs that are owned, each with so many places."""
    servers = Servers(cluster.url)
    acks = acks_wanted(replicas=case.acks, timeout_ms=ACK_TIMEOUT_MS, aof="off")
    offices = [Office(servers, name, sizes.quotas, case.batch, acks) for name in names]
    try:
        for office, count in zip(offices, counts, strict=True):
            await office.open(count)
        yield offices
    finally:
        for office in offices:
            await office.close()
        await servers.close()


async def _measured(cluster: LocalCluster, case: Case, sizes: Sizes, asked: Asked, followers: Followers | None) -> Work:
    calls, files, links = await _sums(cluster)
    journals = await _journal_bytes(cluster, asked)
    valkey_s = [node.cpu_s() for node in cluster.nodes]
    followers_s = followers.cpu_s() if followers else 0.0
    front_s = time.process_time()
    with pinned(sizes.front_on):
        await carry_out(asked, case, confirm=case.confirms)
    front_s = time.process_time() - front_s
    await _settle(cluster)
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


async def carry_out(asked: Asked, case: Case, *, confirm: bool) -> None:
    """In every program at once, in each as many under way as its share allows, so that all end together."""
    most = max(len(claims) for _, claims in asked)

    async def in_one(office: Office, claims: Sequence[Claim]) -> None:
        in_flight = -(-IN_FLIGHT_BATCHES * case.batch * len(claims) // most)
        outcomes = await office.carry_out(confirmations(claims) if confirm else claims, in_flight)
        office.expect_all(outcomes, Outcome.CONFIRMED if confirm else Outcome.HELD, len(claims))

    await gather(*(in_one(office, claims) for office, claims in asked))


async def _settle(cluster: LocalCluster) -> None:
    """Wait until every replica has what its primary has, so that their work is counted whole."""
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
    for office, _ in asked:
        node = await cluster.node_of(slot_of(office.name))
        total += await node.ask("MEMORY", "USAGE", keys.journal(office.name), "SAMPLES", 0)
    return total


async def _check_placement(cluster: LocalCluster, names: Sequence[str]) -> None:
    """Each program lies on the primary that it is meant for.

    Raises:
        WrongResult: one does not.
    """
    count = len(cluster.primaries)
    for at, name in enumerate(names):
        if not await cluster.primaries[at % count].ask("EXISTS", keys.meta(name)):
            raise WrongResult(f"{name} does not lie on primary {at % count + 1} of {count}")


async def clear(cluster: LocalCluster) -> None:
    """Nothing is left for the next one, neither in memory nor in the files."""
    for node in cluster.primaries:
        await node.ask("FLUSHALL", "SYNC")
    await _settle(cluster)
    await gather(*(_rewrite(node) for node in cluster.nodes))


async def _rewrite(node: Node) -> None:
    await node.ask("BGREWRITEAOF")
    await rewritten(node.client)
