"""One primary, two replicas and three sentinels, in a network that can be cut."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from loadtest.ha.gates import Gates, Server, open_gates
from loadtest.ha.namespaces import Namespaces
from loadtest.stage.processes import until
from reservasi.embedded.binaries import valkey_binary
from reservasi.embedded.process import dies_with_us

Network: TypeAlias = Gates | Namespaces
OpenNetwork: TypeAlias = Callable[[], AbstractAsyncContextManager[Network]]
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
    network: Network
    directory: Path
    first: Server  # the primary at the start
    replicas: list[Server]
    sentinels: list[Server]
    processes: dict[Server, asyncio.subprocess.Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
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
        """Cut the first primary, and the servers that stay with it, off from all others."""
        self.network.part([self.first, *staying, *self.sentinels[: self.network.sentinels_near]])

    async def start(self, server: Server, *arguments: str) -> None:
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
        self.processes[server].send_signal(signal.SIGKILL)
        await self.processes[server].wait()

    def pause(self, servers: Sequence[Server]) -> None:
        for server in servers:
            self.processes[server].send_signal(signal.SIGSTOP)

    def resume(self, servers: Sequence[Server]) -> None:
        for server in servers:
            self.processes[server].send_signal(signal.SIGCONT)

    async def until_replicating(self) -> None:
        """Wait until both replicas are in step with the first primary, and sync their files."""

        async def in_step() -> bool:
            facts = await _info(self.first, "replication")
            replicas = [facts.get(f"slave{number}") for number in range(REPLICAS)]
            return all(isinstance(one, dict) and one["state"] == "online" for one in replicas)

        await until(in_step, f"replicas of {self.first.port}; logs in {self.directory}")
        await until(self._synced, "append-only files of the replicas")

    async def _synced(self) -> bool:
        """After a full copy they rewrite their files first, and acknowledge nothing."""
        async with _client(self.first) as client:  # one connection: it is asked for what it wrote itself
            await client.set("probe", "1")
            await client.delete("probe")
            _, synced = await client.execute_command("WAITAOF", 1, REPLICAS, 200)  # type: ignore[no-untyped-call]
            return bool(synced == REPLICAS)

    async def until_replica(self, server: Server) -> None:
        await until(lambda: _has_role(server, "slave"), f"{server.port} as a replica; logs in {self.directory}")

    async def until_promoted(self) -> None:
        async def promoted() -> bool:
            return any([await _has_role(server, "master") for server in self.replicas])

        await until(promoted, f"a new primary; logs in {self.directory}")

    async def until_announced(self) -> None:
        """Until every sentinel names another primary than the first one."""

        async def announced() -> bool:
            named = [(await _info(each, "sentinel")).get("master0") for each in self.sentinels]
            return all(isinstance(each, dict) and each.get("address") != _public(self.first) for each in named)

        await until(announced, f"the sentinels' word; logs in {self.directory}")

    async def know_each_other(self) -> bool:
        """Whether each sentinel has found the other ones and both replicas."""
        for sentinel in self.sentinels:
            facts = (await _info(sentinel, "sentinel")).get("master0")
            if not isinstance(facts, dict) or (facts.get("slaves"), facts.get("sentinels")) != (REPLICAS, SENTINELS):
                return False
        return True

    async def stop(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def running_servers(open_network: OpenNetwork = open_gates, *, hasty: bool = False) -> AsyncIterator[Servers]:
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
        words = {"host": sentinel.host.address, "port": sentinel.port, "directory": place, "name": NAME}
        config.write_text(SENTINEL.format(**words, primary=f"{host} {port}"))
        await servers.start(sentinel, str(config), "--sentinel")
        if hasty:  # it looks at everything more often than every two and ten seconds
            periods = ("SENTINEL", "DEBUG", "publish-period", 500, "info-period", 1000)
            await until(partial(_ask, sentinel, *periods), f"the sentinel {sentinel.port}")
    await until(servers.know_each_other, "the sentinels")


def _public(server: Server) -> str:
    return f"{server.host.address}:{server.public_port}"


async def _ask(server: Server, *words: str | int) -> Any:
    """The answer to a command that is sent once; None where there is none, also of a server that was cut off."""
    try:
        async with _client(server) as client:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]
    except (RedisError, OSError):
        return None


async def _info(server: Server, section: str) -> dict[str, Any]:
    return await _ask(server, "INFO", section) or {}


async def _has_role(server: Server, role: str) -> bool:
    return (await _info(server, "replication")).get("role") == role


def _client(server: Server) -> redis_asyncio.Redis:
    retry = Retry(NoBackoff(), 0)
    host, port = server.host.address, server.port
    return redis_asyncio.Redis(host=host, port=port, socket_timeout=1, retry=retry, single_connection_client=True)
