"""Programs spread over a real cluster: routed without a look-up, and followed through failover and migration."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from loadtest.stage.cluster import LocalCluster, Node, local_cluster
from reservasi.errors import LedgerUnreachable, ReservasiError
from reservasi.ledger.acknowledging import Acks, acks_wanted
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.group_commit import GroupCommit
from reservasi.ledger.journal.recorded_position import RecordedPositions
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.cluster import parse_cluster_url, read_nodes, slot_of
from reservasi.ledger.topology.servers import Servers
from reservasi.ledger.topology.tls import Tls
from reservasi.model import Outcome, Position
from tests.ledgers import TIMEOUT_S, TOMBSTONE_MS, claim, quota_set

PROGRAMS = ("alfa", "beta", "gamma", "delta")  # of the three primaries, two share one
CAPACITY = 400
CLAIMANTS = 8
CALL_S = 2.0


async def migrate_keys(source: Node, target: Node, slot: int) -> None:
    """Move a slot's keys one by one, as a reshard does, and leave it on its way."""
    source_id, target_id = await source.ask("CLUSTER", "MYID"), await target.ask("CLUSTER", "MYID")
    await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while names := await source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
        await source.ask("MIGRATE", "127.0.0.1", target.port, names[0], 0, 5000)


async def hand_over(cluster: LocalCluster, target: Node, slot: int) -> None:
    """End a migration: the target serves the slot, and every primary knows it."""
    target_id = await target.ask("CLUSTER", "MYID")
    for node in (target, *(node for node in cluster.primaries if node is not target)):
        await node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)


class Program:
    """One program in the cluster, with a stand-in for its owner: nothing is recorded here."""

    def __init__(self, servers: Servers, name: str, acks: Acks | None = None) -> None:
        self.name = name
        self.slot = slot_of(name)
        self.connection = LedgerConnection(servers.of(name), name, read_library())
        self.journal = Journal(servers.client_of(name), name)
        self.group = GroupCommit(
            LedgerConnection(servers.of(name), name, read_library(), acks),
            tombstone_ms=TOMBSTONE_MS,
            batch_items_max=64,
            queue_items_max=1000,
            command_timeout_ms=1000,
            queue_delay_target_ms=1000,
        )
        self.promised: list[str] = []
        self.refused = 0

    async def own(self) -> None:
        """Own it where it is, as soon as that can be asked."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                with suppress(ReservasiError):
                    meta = await self.connection.meta(CALL_S)
                    if meta.owned:
                        return
                    await self.connection.own(meta.position, meta.position.epoch + 1, CALL_S)
                await asyncio.sleep(0.02)

    async def claim(self, count: int) -> None:
        """Claim so many places, each as soon as the last was answered; a refusal is asked again later."""
        for _ in range(count):
            wanted = claim()
            while True:
                try:
                    answer = await self.group.submit(wanted)
                except ReservasiError:
                    self.refused += 1
                    await asyncio.sleep(0.02)
                    continue
                assert answer.outcome in (Outcome.HELD, Outcome.EXISTS)
                self.promised.append(wanted.reservation_id)
                break

    async def check(self) -> None:
        """Each promise is kept once, and the journal goes on link by link from the beginning."""
        snapshot = await self.connection.snapshot(CALL_S)
        assert snapshot is not None
        (quota,) = snapshot.quotas
        ids = {reservation_id async for reservation_id in self.journal.reservation_ids()}
        assert set(self.promised) <= ids
        assert quota.counts.held == len(ids)
        position: Position | None = None
        events = 0
        while page := await self.journal.read(position, 5000, 0):
            position = page[-1].position
            events += sum(len(entry.events) for entry in page)
        assert position is not None
        assert (position.seq, position.chain) == (snapshot.position.seq, snapshot.position.chain)
        assert events == position.seq


@asynccontextmanager
async def serving(cluster: LocalCluster, *names: str, acks: Acks | None = None) -> AsyncIterator[list[Program]]:
    servers = Servers(cluster.url)
    programs = [Program(servers, name, acks) for name in names]
    try:
        for program in programs:
            await program.own()
            program.group.start()
            await program.group.submit(quota_set(capacity=CAPACITY))
        yield programs
    finally:
        for program in programs:
            await program.group.close()
            await program.connection.drop()
        await servers.close()


async def test_each_program_is_claimed_from_at_its_own_primary_without_a_look_up() -> None:
    async with local_cluster() as cluster, serving(cluster, *PROGRAMS) as programs:
        await asyncio.gather(*(program.claim(20) for program in programs))
        for program in programs:
            await program.check()
        homes = {(await cluster.node_of(program.slot)).port for program in programs}
        assert len(homes) == len(cluster.primaries)
        for node in cluster.primaries:
            stats = await node.client.info("commandstats")
            assert not {"cmdstat_command", "cmdstat_command|getkeys"} & set(stats)
            assert "rejected_calls" in stats["cmdstat_fcall"]


async def test_programs_of_one_primary_are_asked_about_together() -> None:
    async with local_cluster() as cluster, serving(cluster, *PROGRAMS) as programs:
        servers = Servers(cluster.url)
        try:
            assert [servers.name_of(name) for name in PROGRAMS] == list(PROGRAMS), "nobody was asked yet"
            await servers.primaries()
            homes: dict[str, list[Program]] = {}
            for count, program in enumerate(programs, 1):
                await program.claim(count)  # so that no two are at the same place
                homes.setdefault(servers.name_of(program.name), []).append(program)
        finally:
            await servers.close()
        assert sorted(map(len, homes.values())) == [1, 1, 2]
        for together in homes.values():
            metas = await together[-1].connection.metas([program.name for program in together], CALL_S)
            at = [await program.connection.meta(CALL_S) for program in together]
            assert metas == at
            assert all(meta.owned for meta in metas)
        asking = programs[0].connection
        with pytest.raises(LedgerUnreachable):
            await asking.metas(PROGRAMS, CALL_S)
        assert (await asking.meta(CALL_S)).owned, "what it says of others must not be taken for an answer"


async def test_recorded_positions_are_heard_from_the_programs_own_primaries() -> None:
    async with local_cluster() as cluster, serving(cluster, *PROGRAMS) as programs:
        servers = Servers(cluster.url)
        recorded = RecordedPositions(servers.client, servers.client_of)
        try:
            for program in programs:
                recorded.follow(program.name)
            waits = [asyncio.create_task(recorded.wait(p.name, 1, 7, "r", TIMEOUT_S)) for p in programs]
            for program in programs:
                await program.journal.publish_recorded(Position(epoch=1, seq=7), epochs=[(1, 0)])
            assert await asyncio.gather(*waits) == [True] * len(programs)
        finally:
            await recorded.close()
            await servers.close()


async def test_what_was_promised_outlives_a_primary_that_is_killed_under_load() -> None:
    acks = acks_wanted(replicas=1, timeout_ms=500, aof="off")
    async with local_cluster() as cluster, serving(cluster, "alfa", "beta", acks=acks) as (program, bystander):
        primary = await cluster.node_of(program.slot)
        crowd = [asyncio.create_task(program.claim(CAPACITY // CLAIMANTS)) for _ in range(CLAIMANTS)]
        await _until(lambda: len(program.promised) >= CAPACITY // 4)
        primary.kill()
        await bystander.claim(10)  # another primary's program sells on

        await cluster.until(lambda: _serves_elsewhere(cluster, program.slot, primary))
        await program.own()
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        await program.check()
        assert (await program.connection.meta(CALL_S)).position.epoch == 2


async def test_a_slot_that_moves_while_idle_is_followed_to_a_server_without_functions() -> None:
    async with local_cluster(replicas=0) as cluster, serving(cluster, "alfa") as (program,):
        await program.claim(20)
        source, target = await _source_and_target(cluster, program)
        assert not await target.ask("FUNCTION", "LIST")
        await migrate_keys(source, target, program.slot)
        await hand_over(cluster, target, program.slot)

        await program.own()
        assert await target.ask("FUNCTION", "LIST")
        await program.claim(20)
        await program.check()


async def test_a_slot_that_moves_while_people_claim_refuses_until_it_has_arrived() -> None:
    async with local_cluster(replicas=0) as cluster, serving(cluster, "alfa") as (program,):
        source, target = await _source_and_target(cluster, program)
        crowd = [asyncio.create_task(program.claim(CAPACITY // CLAIMANTS)) for _ in range(CLAIMANTS)]
        await _until(lambda: len(program.promised) >= CAPACITY // 4)
        await migrate_keys(source, target, program.slot)

        promised, refused = len(program.promised), program.refused
        await _until(lambda: program.refused > refused + CLAIMANTS)
        assert len(program.promised) <= promised + CLAIMANTS  # at most those whose answers were under way
        assert await _read_by_asking(program)  # commands of one key go on, where the key is

        await hand_over(cluster, target, program.slot)
        await program.own()
        await asyncio.gather(*crowd)
        await program.check()
        assert len(program.promised) == CAPACITY


async def _read_by_asking(program: Program) -> int:
    """How many entries the journal has, once a connection was sent on to who has it."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with suppress(LedgerUnreachable):
                return len(await program.journal.read(None, 100_000, 0))


async def _source_and_target(cluster: LocalCluster, program: Program) -> tuple[Node, Node]:
    source = await cluster.node_of(program.slot)
    return source, next(node for node in cluster.primaries if node is not source)


async def _serves_elsewhere(cluster: LocalCluster, slot: int, former: Node) -> bool:
    with suppress(LookupError, StopIteration):
        return await cluster.node_of(slot) is not former
    return False


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - what others do has no event
            await asyncio.sleep(0.005)


def test_the_claim_of_a_server_is_read_with_its_epoch() -> None:
    nodes = (
        "aa 127.0.0.1:7001@17001,host-a myself,master - 0 0 4 connected 0-99 200 [300->-bb]\n"
        "bb 10.0.0.2:7002@17002 master,fail - 0 0 3 disconnected 100-199\n"
        "cc :7003@17003 slave aa 0 0 4 connected\n"
    )
    claims, servers = read_nodes(nodes, ("seed", 7000))
    assert [(claim.config_epoch, claim.first, claim.last) for claim in claims] == [(4, 0, 99), (4, 200, 200)]
    assert servers == [("127.0.0.1", 7001), ("seed", 7003)]


@pytest.mark.parametrize(
    "url", ["cluster://", "cluster://host/0", "cluster://host,", "cluster://host?x=1", "cluster://h?ssl_ca_certs=f"]
)
def test_an_address_that_names_no_servers_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="cluster"):
        parse_cluster_url(url)


def test_over_tls_servers_are_called_by_the_names_that_they_announce() -> None:
    nodes = "aa 127.0.0.1:7001@17001,host-a myself,master - 0 0 4 connected 0-99\nbb 10.0.0.2:7002@17002 slave aa 0 0 4 connected\n"
    _, servers = read_nodes(nodes, ("seed", 7000), by_name=True)
    assert servers == [("host-a", 7001), ("10.0.0.2", 7002)]
    assert parse_cluster_url("clusters://one,two").tls == Tls()
    with pytest.raises(ValueError, match="cannot be used"):
        parse_cluster_url("clusters://one,two?ssl_ca_certs=/nowhere/ca.pem")
    assert parse_cluster_url("cluster://one").tls is None


def test_an_address_names_servers_and_who_asks() -> None:
    parsed = parse_cluster_url("cluster://front:p%40ss@one:7001,two")
    assert parsed.servers == (("one", 7001), ("two", 6379))
    assert (parsed.username, parsed.password) == ("front", "p@ss")
