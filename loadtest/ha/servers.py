"""One primary, two replicas and three sentinels on ports of their own, and a gate in front of the primary.

Replicas, sentinels and whoever asks the sentinels come to the first primary through the gate; closing it leaves that
primary alone with those who know its own port: a partition, without any right on the machine's network.
"""

import asyncio
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis.asyncio as redis_asyncio
from redis.exceptions import RedisError

from reservasi.embedded.binaries import valkey_binary

NAME = "ledger"
START_TIMEOUT_S = 20.0
FAILOVER_TIMEOUT_S = 30.0
POLL_S = 0.02
CHUNK_BYTES = 1 << 18
SENTINEL = """\
port {port}
bind 127.0.0.1
dir "{directory}"
sentinel monitor {name} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {name} 2000
sentinel failover-timeout {name} 4000
sentinel parallel-syncs {name} 2
"""


class Gate:
    """Passes everything on to one port, until it is told to hold or to refuse."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._passing = asyncio.Event()  # cleared: what the server says waits here
        self._passing.set()
        self._refusing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def hold(self) -> None:
        """What the server says from now on arrives nowhere yet."""
        self._passing.clear()

    def shut(self) -> None:
        """Cut everybody, with what was held, and let nobody in."""
        self._refusing = True
        for task in self._tasks:
            task.cancel()

    def open(self) -> None:
        """Pass on again."""
        self._refusing = False
        self._passing.set()

    async def close(self) -> None:
        self.shut()
        assert self._server is not None
        self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self._refusing:
                await self._forward(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either end is away
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)

        async def upwards() -> None:
            while chunk := await reader.read(CHUNK_BYTES):
                server_writer.write(chunk)
                await server_writer.drain()

        async def downwards() -> None:
            while chunk := await server_reader.read(CHUNK_BYTES):
                await self._passing.wait()
                writer.write(chunk)
                await writer.drain()

        ways = [asyncio.create_task(upwards()), asyncio.create_task(downwards())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            server_writer.close()


@dataclass(kw_only=True)
class Servers:
    """The six servers and the gate."""

    directory: Path
    gate: Gate
    primary: int  # the first primary's own port
    replicas: list[int]
    sentinels: list[int]
    processes: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)  # by port

    @property
    def url(self) -> str:
        """The ledger's address by its sentinels."""
        return f"sentinel://{','.join(f'127.0.0.1:{port}' for port in self.sentinels)}/{NAME}"

    @property
    def direct_url(self) -> str:
        """The first primary's address past gate and sentinels."""
        return f"redis://127.0.0.1:{self.primary}"

    async def start(self, port: int, *arguments: str) -> None:
        """Start the server of that port, again after its death."""
        with (self.directory / f"{port}.log").open("ab") as log:
            self.processes[port] = await asyncio.create_subprocess_exec(
                str(valkey_binary()), *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def start_ledger(self, port: int, *further: str) -> None:
        """Start a server of the ledger; its data lie in a directory of its own."""
        place = self.directory / str(port)
        place.mkdir(exist_ok=True)
        options = {
            "port": port, "bind": "127.0.0.1", "dir": place, "save": "", "appendonly": "yes", "appendfsync": "always",
            "repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1, "maxmemory-policy": "noeviction",
        }  # fmt: skip
        await self.start(
            port, *(word for name, value in options.items() for word in (f"--{name}", str(value))), *further
        )

    async def kill(self, port: int) -> None:
        """SIGKILL."""
        self.processes[port].send_signal(signal.SIGKILL)
        await self.processes[port].wait()

    def pause(self, ports: Sequence[int]) -> None:
        """SIGSTOP: they answer nothing, and what they are sent waits in their sockets."""
        for port in ports:
            self.processes[port].send_signal(signal.SIGSTOP)

    def resume(self, ports: Sequence[int]) -> None:
        """SIGCONT."""
        for port in ports:
            self.processes[port].send_signal(signal.SIGCONT)

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

    async def until_replicating(self, port: int, replicas: int) -> None:
        """Wait until so many replicas are in step with a server."""
        await self.until(lambda: self._replicates(port, replicas), f"{replicas} replicas of {port}")

    async def until_replica(self, port: int) -> None:
        """Wait until a server follows another one."""
        await self.until(lambda: self._has_role(port, "slave"), f"{port} as a replica")

    async def until_promoted(self) -> int:
        """Wait until a replica has become the primary; its port."""

        found: list[int] = []

        async def promoted() -> bool:
            found[:] = [port for port in self.replicas if await self._has_role(port, "master")]
            return bool(found)

        await self.until(promoted, "a new primary")
        return found[0]

    async def _replicates(self, port: int, replicas: int) -> bool:
        said = await self.info(port, "replication")
        found = [said.get(f"slave{number}") for number in range(replicas)]
        return all(isinstance(one, dict) and one["state"] == "online" for one in found)

    async def _has_role(self, port: int, role: str) -> bool:
        return (await self.info(port, "replication")).get("role") == role

    async def until(self, look: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until it holds."""
        deadline_s = time.monotonic() + FAILOVER_TIMEOUT_S
        while not await look():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"waited too long for {what}; logs in {self.directory}")
            await asyncio.sleep(POLL_S)

    async def stop(self) -> None:
        """End what still runs."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@asynccontextmanager
async def running_servers() -> AsyncIterator[Servers]:
    """All of them, in step, until the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="rv-ha-"))
    ports = _free_ports(7)
    primary, gate_port, *rest = ports
    servers = Servers(
        directory=directory, gate=Gate(gate_port, primary), primary=primary, replicas=rest[:2], sentinels=rest[2:]
    )
    try:
        await servers.gate.start()
        await servers.start_ledger(primary)
        for port in servers.replicas:
            await servers.start_ledger(port, "--replicaof", "127.0.0.1", str(gate_port))
        await servers.until_replicating(primary, 2)
        await servers.until(lambda: _syncs(servers), "append-only files of the replicas")
        for port in servers.sentinels:
            place = directory / f"sentinel-{port}"
            place.mkdir()
            config = place / "sentinel.conf"
            config.write_text(SENTINEL.format(port=port, directory=place, name=NAME, primary=gate_port))
            await servers.start(port, str(config), "--sentinel")
        await servers.until(lambda: _know_each_other(servers), "the sentinels")
        yield servers
    finally:
        await servers.stop()
        await servers.gate.close()
        shutil.rmtree(directory, ignore_errors=True)


async def _syncs(servers: Servers) -> bool:
    """Whether both replicas sync their files: after a full copy they rewrite them first, and acknowledge nothing."""
    client = redis_asyncio.Redis(port=servers.primary, single_connection_client=True)
    try:
        await client.set("probe", "1")
        await client.delete("probe")
        _, synced = await client.execute_command("WAITAOF", 1, 2, 200)  # type: ignore[no-untyped-call]
        return bool(synced == 2)
    finally:
        await client.aclose()


async def _know_each_other(servers: Servers) -> bool:
    for port in servers.sentinels:
        said = (await servers.info(port, "sentinel")).get("master0")
        if not isinstance(said, dict) or (said.get("slaves"), said.get("sentinels")) != (2, 3):
            return False
    return True


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
