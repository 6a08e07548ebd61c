"""TLS to the ledger's servers, alone, behind sentinels and as a cluster, with certificates of a CA of the test's own.

They are Debian's Redis: the servers that we ship have no TLS, being reached through sockets of the same machine.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from loadtest.stage.cluster import NodeKind, local_cluster
from loadtest.stage.ports import free_port, free_ports, wait_listening
from loadtest.stage.processes import until
from reservasi.embedded.process import dies_with_us
from reservasi.errors import LedgerUnreachable
from reservasi.ledger.access import ADMIN, FRONT, WORKER
from reservasi.ledger.acknowledging import Acks
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.clients import Server, open_client
from reservasi.ledger.topology.cluster import slot_of
from reservasi.ledger.topology.server_facts import connected_replicas
from reservasi.ledger.topology.servers import Servers
from reservasi.model import Outcome, Position
from tests.authority import Authority
from tests.debian import DebianRedis, redis_program, tls_lines
from tests.ledgers import claim, open_group, quota_set
from tests.users import password_of

START_TIMEOUT_S = 30
CALL_S = 5.0
ASKED_MAX = 10
UNTRUSTED = "certificate verify failed"
UNPROVEN = "require a client certificate"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@asynccontextmanager
async def _running(server: DebianRedis) -> AsyncIterator[None]:
    try:
        await server.start()
        yield
    finally:
        await server.stop()


async def _refused(server: Server, program: str, why: str) -> None:
    """Whoever does not prove themselves, or asks somebody who cannot, gets nothing, and hears why.

    A sentinel has half a second for its answer, which a busy machine may not give it: then it is asked again.
    """
    error = ""
    for _ in range(ASKED_MAX):
        connection = LedgerConnection(server, program, read_library())
        with pytest.raises(LedgerUnreachable) as refusal:
            await connection.meta(CALL_S)
        await connection.drop()
        error = str(refusal.value)
        if why in error:
            return
    pytest.fail(f"expected {why!r}, heard {error!r}")


async def test_the_ledger_over_tls_with_a_password_and_a_certificate(
    authority: Authority, data_dir: Path, tmp_path: Path, program: str
) -> None:
    port = free_port()
    redis = DebianRedis(data_dir, further=tls_lines(authority, "server", port))
    async with _running(redis):
        front, worker = (f"{user}:{password_of(redis.url, user)}" for user in (FRONT, WORKER))
        url, proof = f"rediss://{front}@127.0.0.1:{port}", authority.proof("front")
        client = open_client(f"{url}?{proof}")
        assert await client.ping()
        await client.aclose()
        connection = LedgerConnection(f"rediss://{worker}@127.0.0.1:{port}?{proof}", program, read_library())
        assert await connection.own(Position(epoch=0, seq=0), 1, CALL_S) == "owned"
        await connection.drop()
        async with open_group(f"{url}?{proof}", program) as group:
            assert [(await group.submit(each)).outcome for each in (quota_set(), claim())] == [
                Outcome.QUOTA_SET,
                Outcome.HELD,
            ]
        stranger = Authority(tmp_path, "stranger")
        await _refused(f"{url}?{proof.replace(str(authority.ca), str(stranger.ca))}", program, UNTRUSTED)
        await _refused(f"{url}?ssl_ca_certs={authority.ca}", program, UNPROVEN)
        await _refused(f"{url.replace('127.0.0.1', 'localhost')}?{proof}", program, UNTRUSTED)  # another name's
        await _refused(url.replace("rediss://", "redis://"), program, "Connection")
        await _refused(f"rediss://front:wrong@127.0.0.1:{port}?{proof}", program, "invalid username-password")


async def test_a_cluster_over_tls(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server")

    def further(port: int) -> list[str]:
        return [*tls_lines(authority, f"server-{port}", port), "port 0", "tls-cluster yes"]

    client = {"ssl": True, "ssl_ca_certs": str(authority.ca), "ssl_certfile": certificate, "ssl_keyfile": key}
    kind = NodeKind(program=redis_program(), further=further, client=client)
    async with local_cluster(replicas=0, kind=kind) as cluster:
        url, proof = cluster.url.replace("cluster://", "clusters://"), authority.proof("front")
        servers = Servers(f"{url}?{proof}")
        homes = set()
        for name in ("alfa", "beta", "gamma"):
            connection = LedgerConnection(servers.of(name), name, read_library())
            assert await connection.own(Position(epoch=0, seq=0), 1, CALL_S) == "owned"
            assert (await connection.meta(CALL_S)).owned
            assert await servers.client_of(name).ping()
            await connection.drop()
            homes.add((await cluster.node_of(slot_of(name))).port)
        assert [each.name for each in await servers.primaries()] == sorted(
            f"127.0.0.1:{node.port}" for node in cluster.primaries
        )
        assert len(homes) == len(cluster.primaries)
        await servers.close()

        stranger = Authority(tmp_path, "stranger")
        for query, why in (
            (f"?ssl_ca_certs={authority.ca}", UNPROVEN),
            (f"?{proof.replace(str(authority.ca), str(stranger.ca))}", UNTRUSTED),
            ("", UNTRUSTED),
        ):
            refused = Servers(f"{url}{query}")
            await _refused(refused.of("alfa"), "alfa", why)
            await refused.close()


@asynccontextmanager
async def _sentinel(directory: Path, port: int, lines: Sequence[str]) -> AsyncIterator[None]:
    configuration = directory / "sentinel.conf"
    configuration.write_text("\n".join(["port 0", "bind 127.0.0.1", *lines]) + "\n")
    process = await asyncio.create_subprocess_exec(
        redis_program(),
        configuration,
        "--sentinel",
        stdout=asyncio.subprocess.DEVNULL,
        preexec_fn=dies_with_us(signal.SIGKILL),
    )
    try:
        await wait_listening(port, START_TIMEOUT_S)
        yield
    finally:
        process.kill()
        await process.wait()


async def _has_replica(servers: Servers, port: int) -> bool:
    named = await connected_replicas(servers.client)
    return await servers.promotable() == 1 and named == [f"127.0.0.1:{port}"]


async def test_sentinels_over_tls_lead_to_the_primary_and_to_its_successor(
    authority: Authority, data_dir: Path, tmp_path: Path, program: str
) -> None:
    first, second, sentinel_port = free_ports(3)
    (data_dir / "first").mkdir()
    (data_dir / "second").mkdir()
    primary = DebianRedis(data_dir / "first", further=tls_lines(authority, "first", first))
    async with _running(primary):
        shutil.copy(primary.places.valkey_users, data_dir / "second")
        admin = password_of(primary.url, ADMIN)
        following = [f"replicaof 127.0.0.1 {first}", f"masteruser {ADMIN}", f"masterauth {admin}"]
        replica = DebianRedis(data_dir / "second", further=[*tls_lines(authority, "second", second), *following])
        monitor = [
            f"sentinel monitor ledger 127.0.0.1 {first} 1",
            f"sentinel auth-user ledger {ADMIN}",
            f"sentinel auth-pass ledger {admin}",
        ]
        async with (
            _running(replica),
            _sentinel(tmp_path, sentinel_port, [*tls_lines(authority, "sentinel", sentinel_port), *monitor]),
        ):
            proof = authority.proof("front")
            url = f"sentinels://{ADMIN}:{admin}@127.0.0.1:{sentinel_port}/ledger"
            servers = Servers(f"{url}?{proof}")
            connection = LedgerConnection(servers.of(program), program, read_library())
            assert await connection.own(Position(epoch=0, seq=0), 1, CALL_S) == "owned"
            await until(partial(_has_replica, servers, second), "the replica")
            asking = LedgerConnection(servers.of(program), program, read_library(), Acks(replicas=1, timeout_ms=5000))
            await asking.snapshot(2 * CALL_S)
            assert asking.safe, "the replica has it, over TLS"
            await asking.drop()
            (named,) = await servers.primaries()
            assert named.name == f"127.0.0.1:{first}"
            stranger = Authority(tmp_path, "stranger")
            await _refused(f"{url}?{proof.replace(str(authority.ca), str(stranger.ca))}", program, UNTRUSTED)
            await _refused(f"{url}?ssl_ca_certs={authority.ca}", program, UNPROVEN)
            await _refused(url.replace("sentinels://", "sentinel://"), program, "no sentinel names a primary")

            sentinel: Any = open_client(f"rediss://127.0.0.1:{sentinel_port}?{proof}")
            await sentinel.execute_command("SENTINEL", "FAILOVER", "ledger")

            async def is_followed() -> bool:
                (now,) = await servers.primaries()
                return now.name == f"127.0.0.1:{second}"

            await until(is_followed, "the replica as the primary")
            await connection.drop()
            meta = await connection.meta(CALL_S)
            assert (meta.position.epoch, meta.owned) == (1, False), "another server, which is compared first"
            await sentinel.aclose()
            await connection.drop()
            await servers.close()
