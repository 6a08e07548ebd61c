"""One primary, two replicas and three sentinels on this machine, each server of the ledger behind a gate of its own.

Replicas, sentinels and whoever asks the sentinels come to a server through its gate; whoever knows a server's own port
stays with it, however its gate is cut. Each server speaks from an address of its own: a gate can tell them apart.
"""

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
from redis.exceptions import RedisError

from loadtest.bench.ports import free_ports
from loadtest.ha.gates import HOST, Gate, everybody, nobody
from loadtest.processes import until
from reservasi.embedded.binaries import valkey_binary
from reservasi.embedded.process import dies_with_us

NAME = "ledger"
REPLICAS = 2
SENTINELS = 3
SENTINEL = """\
port {port}
bind 127.0.0.1
dir "{directory}"
sentinel monitor {name} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {name} 2000
sentinel failover-timeout {name} 4000
sentinel parallel-syncs {name} 2
"""


@dataclass(kw_only=True)
class Server:
    """One server of the ledger."""

    port: int  # its own
    address: str  # that its connections to others come from
    gate: Gate


@dataclass(kw_only=True)
class Servers:
    """The six servers."""

    directory: Path
    first: Server  # the primary at the start
    replicas: list[Server]
    sentinels: list[int]  # their ports
    processes: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)  # by port

    @property
    def url(self) -> str:
        """The ledger's address by its sentinels."""
        return f"sentinel://{','.join(f'{HOST}:{port}' for port in self.sentinels)}/{NAME}"

    @property
    def direct_url(self) -> str:
        """The first primary's address past gate and sentinels."""
        return f"redis://{HOST}:{self.first.port}"

    def part(self, *staying: Server) -> None:
        """Cut the first primary, and replicas that stay with it, off from everybody else."""
        addresses = {server.address for server in staying}
        self.first.gate.hear(lambda source: source in addresses)
        for server in staying:
            server.gate.hear(nobody)

    def hold_back(self) -> None:
        """What the first primary says from now on arrives nowhere."""
        self.first.gate.hear(nobody)

    def join(self) -> None:
        """Everybody hears everybody again."""
        for server in (self.first, *self.replicas):
            server.gate.hear(everybody)

    async def start(self, port: int, *arguments: str) -> None:
        """Start the server of that port, again after its death."""
        with (self.directory / f"{port}.log").open("ab") as log:
            self.processes[port] = await asyncio.create_subprocess_exec(
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
            "port": server.port, "bind": HOST, "bind-source-addr": server.address, "dir": place, "save": "",
            "replica-announce-ip": HOST, "replica-announce-port": server.gate.port,
            "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1,
        }  # fmt: skip
        words = (word for name, value in options.items() for word in (f"--{name}", str(value)))
        await self.start(server.port, *words, *further)

    async def kill(self, server: Server) -> None:
        """SIGKILL."""
        self.processes[server.port].send_signal(signal.SIGKILL)
        await self.processes[server.port].wait()

    def pause(self, servers: Sequence[Server]) -> None:
        """SIGSTOP: they answer nothing, and what they are sent waits in their sockets."""
        for server in servers:
            self.processes[server.port].send_signal(signal.SIGSTOP)

    def resume(self, servers: Sequence[Server]) -> None:
        """SIGCONT."""
        for server in servers:
            self.processes[server.port].send_signal(signal.SIGCONT)

    async def info(self, port: int, section: str) -> dict[str, object]:
        """What a server says of itself; nothing where it does not answer."""
        client = redis_asyncio.Redis(port=port, socket_timeout=1)
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
        said = await self.info(self.first.port, "replication")
        found = [said.get(f"slave{number}") for number in range(REPLICAS)]
        return all(isinstance(one, dict) and one["state"] == "online" for one in found)

    async def _sync(self) -> bool:
        """After a full copy they rewrite their files first, and acknowledge nothing."""
        client = redis_asyncio.Redis(port=self.first.port, single_connection_client=True)
        try:
            await client.set("probe", "1")
            await client.delete("probe")
            _, synced = await client.execute_command("WAITAOF", 1, REPLICAS, 200)  # type: ignore[no-untyped-call]
            return bool(synced == REPLICAS)
        finally:
            await client.aclose()

    async def _has_role(self, server: Server, role: str) -> bool:
        return (await self.info(server.port, "replication")).get("role") == role

    async def know_each_other(self) -> bool:
        """Whether each sentinel has found the other ones and both replicas."""
        for port in self.sentinels:
            said = (await self.info(port, "sentinel")).get("master0")
            if not isinstance(said, dict) or (said.get("slaves"), said.get("sentinels")) != (REPLICAS, SENTINELS):
                return False
        return True

    async def hurry(self, port: int) -> bool:
        """Let a sentinel look at everything more often than every two and ten seconds, if it answers."""
        client = redis_asyncio.Redis(port=port, socket_timeout=1)
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
async def running_servers(*, hasty: bool = False) -> AsyncIterator[Servers]:
    """All of them, in step, until the block ends; `hasty` sentinels hear of each other and of roles more often."""
    directory = Path(tempfile.mkdtemp(prefix="rv-ha-"))
    ports = free_ports(2 * (1 + REPLICAS) + SENTINELS)
    ledger = [
        Server(port=own, address=f"127.0.0.{11 + at}", gate=Gate.to(public, own))
        for at, (own, public) in enumerate(zip(ports[0:6:2], ports[1:6:2], strict=True))
    ]
    first, *replicas = ledger
    servers = Servers(directory=directory, first=first, replicas=replicas, sentinels=ports[6:])
    try:
        for server in ledger:
            await server.gate.start()
        await servers.start_ledger(first)
        for server in replicas:
            await servers.start_ledger(server, "--replicaof", HOST, str(first.gate.port))
        await servers.until_replicating()
        for port in servers.sentinels:
            place = directory / f"sentinel-{port}"
            place.mkdir()
            config = place / "sentinel.conf"
            config.write_text(SENTINEL.format(port=port, directory=place, name=NAME, primary=first.gate.port))
            await servers.start(port, str(config), "--sentinel")
            if hasty:
                await until(partial(servers.hurry, port), f"the sentinel {port}")
        await until(servers.know_each_other, "the sentinels")
        yield servers
    finally:
        await servers.stop()
        for server in ledger:
            await server.gate.close()
        shutil.rmtree(directory, ignore_errors=True)
