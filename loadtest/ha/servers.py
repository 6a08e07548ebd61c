"""One primary, two replicas and three sentinels, in a network that can be cut."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from loadtest.ha.gates import open_gates
from loadtest.ha.network import Network, OpenNetwork, Server
from loadtest.stage.processes import until
from reservasi.embedded.binaries import valkey_binary
from reservasi.embedded.process import dies_with_us

NAME = "ledger"
REPLICAS = 2
SENTINELS = 3
SENTINEL = """\
port {port}
bind {host}
dir "{directory}"
sentinel monitor {name} {primary} 2
sentinel down-after-milliseconds {name} 2000
sentinel failover-timeout {name} 4000
sentinel parallel-syncs {name} 2
"""


@dataclass(kw_only=True)
class Servers:
    """The six servers."""

    network: Network
    directory: Path
    first: Server  # the primary at the start
    replicas: list[Server]
    sentinels: list[Server]
    processes: dict[Server, asyncio.subprocess.Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The ledger's address by its sentinels."""
        return f"sentinel://{','.join(map(_public, self.sentinels))}/{NAME}"

    @property
    def direct_url(self) -> str:
        """The first primary's address past all that can be cut, and past sentinels."""
        return f"redis://{self.first.host.address}:{self.first.port}"

    @property
    def near_url(self) -> str:
        """The ledger's address for the front that stays with the first primary."""
        return self.url if self.network.sentinels_near else self.direct_url

    def part(self, *staying: Server) -> None:
        """Cut the first primary, and who stays with it, off from everybody else."""
        self.network.part([self.first, *staying, *self.sentinels[: self.network.sentinels_near]])

    async def start(self, server: Server, *arguments: str) -> None:
        """Start a server, again after its death."""
        with (self.directory / f"{server.port}.log").open("ab") as log:
            self.processes[server] = await asyncio.create_subprocess_exec(
                *server.host.within,
                str(valkey_binary()),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=dies_with_us(signal.SIGKILL),
            )

    async def start_ledger(self, server: Server, *further: str) -> None:
        """Start a server of the ledger; its data lie in a directory of its own."""
        place = self.directory / str(server.port)
        place.mkdir(exist_ok=True)
        options = {
            "port": server.port, "bind": server.host.address, "bind-source-addr": server.source, "dir": place,
            "replica-announce-ip": server.host.address, "replica-announce-port": server.public_port,
            "protected-mode": "no", "save": "",
            "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1,
        }  # fmt: skip
        words = (word for name, value in options.items() for word in (f"--{name}", str(value)))
        await self.start(server, *words, *further)

    async def kill(self, server: Server) -> None:
        """SIGKILL."""
        self.processes[server].send_signal(signal.SIGKILL)
        await self.processes[server].wait()

    def pause(self, servers: Sequence[Server]) -> None:
        """SIGSTOP: they answer nothing, and what they are sent waits in their sockets."""
        for server in servers:
            self.processes[server].send_signal(signal.SIGSTOP)

    def resume(self, servers: Sequence[Server]) -> None:
        """SIGCONT."""
        for server in servers:
            self.processes[server].send_signal(signal.SIGCONT)

    async def info(self, server: Server, section: str) -> dict[str, object]:
        """What a server says of itself; nothing where it does not answer."""
        client = _asker(server)
        try:
            found: dict[str, object] = await client.info(section)
        except (RedisError, OSError):
            return {}
        else:
            return found
        finally:
            await client.aclose()

    async def until_replicating(self) -> None:
        """Wait until both replicas are in step with the first primary, and sync their files."""
        await until(self._replicate, f"replicas of {self.first.port}; logs in {self.directory}")
        await until(self._sync, "append-only files of the replicas")

    async def until_replica(self, server: Server) -> None:
        """Wait until a server follows another one."""
        await until(lambda: self._has_role(server, "slave"), f"{server.port} as a replica; logs in {self.directory}")

    async def until_promoted(self) -> Server:
        """Wait until a replica has become the primary."""
        found: list[Server] = []

        async def promoted() -> bool:
            found[:] = [server for server in self.replicas if await self._has_role(server, "master")]
            return bool(found)

        await until(promoted, f"a new primary; logs in {self.directory}")
        return found[0]

    async def _replicate(self) -> bool:
        said = await self.info(self.first, "replication")
        found = [said.get(f"slave{number}") for number in range(REPLICAS)]
        return all(isinstance(one, dict) and one["state"] == "online" for one in found)

    async def _sync(self) -> bool:
        """After a full copy they rewrite their files first, and acknowledge nothing."""
        client = redis_asyncio.Redis.from_url(self.direct_url, single_connection_client=True)
        try:
            await client.set("probe", "1")
            await client.delete("probe")
            _, synced = await client.execute_command("WAITAOF", 1, REPLICAS, 200)  # type: ignore[no-untyped-call]
            return bool(synced == REPLICAS)
        finally:
            await client.aclose()

    async def _has_role(self, server: Server, role: str) -> bool:
        return (await self.info(server, "replication")).get("role") == role

    async def know_each_other(self) -> bool:
        """Whether each sentinel has found the other ones and both replicas."""
        for sentinel in self.sentinels:
            said = (await self.info(sentinel, "sentinel")).get("master0")
            if not isinstance(said, dict) or (said.get("slaves"), said.get("sentinels")) != (REPLICAS, SENTINELS):
                return False
        return True

    async def hurry(self, sentinel: Server) -> bool:
        """Let a sentinel look at everything more often than every two and ten seconds, if it answers."""
        client = _asker(sentinel)
        try:
            periods = ("publish-period", 500, "info-period", 1000)
            await client.execute_command("SENTINEL DEBUG", *periods)  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            return False
        else:
            return True
        finally:
            await client.aclose()

    async def stop(self) -> None:
        """End what still runs."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def running_servers(open_network: OpenNetwork = open_gates, *, hasty: bool = False) -> AsyncIterator[Servers]:
    """All of them, in step, until the block ends; `hasty` sentinels hear of each other and of roles more often."""
    async with open_network() as network:
        directory = Path(tempfile.mkdtemp(prefix="rv-ha-"))
        first, *replicas = [await network.add_ledger() for _ in range(1 + REPLICAS)]
        sentinels = [await network.add_sentinel() for _ in range(SENTINELS)]
        servers = Servers(network=network, directory=directory, first=first, replicas=replicas, sentinels=sentinels)
        try:
            await _start_all(servers, hasty)
            yield servers
        finally:
            await servers.stop()
            shutil.rmtree(directory, ignore_errors=True)


async def _start_all(servers: Servers, hasty: bool) -> None:
    host, port = servers.first.host.address, str(servers.first.public_port)
    await servers.start_ledger(servers.first)
    for server in servers.replicas:
        await servers.start_ledger(server, "--replicaof", host, port)
    await servers.until_replicating()
    for sentinel in servers.sentinels:
        place = servers.directory / f"sentinel-{sentinel.port}"
        place.mkdir()
        config = place / "sentinel.conf"
        told = {"host": sentinel.host.address, "port": sentinel.port, "directory": place, "name": NAME}
        config.write_text(SENTINEL.format(**told, primary=f"{host} {port}"))
        await servers.start(sentinel, str(config), "--sentinel")
        if hasty:
            await until(partial(servers.hurry, sentinel), f"the sentinel {sentinel.port}")
    await until(servers.know_each_other, "the sentinels")


def _public(server: Server) -> str:
    return f"{server.host.address}:{server.public_port}"


def _asker(server: Server) -> redis_asyncio.Redis:
    """Who asks once, also a server that was cut off."""
    retry = Retry(NoBackoff(), 0)
    return redis_asyncio.Redis(host=server.host.address, port=server.port, socket_timeout=1, retry=retry)
