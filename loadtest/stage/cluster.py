"""A real cluster on this machine's loopback: primaries and their replicas, of the shipped Valkey or another server."""

import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from loadtest.stage.cores import ran_s
from loadtest.stage.ports import free_ports
from loadtest.stage.processes import until
from reservasi.embedded.binaries import valkey_binary
from reservasi.embedded.process import dies_with_us
from reservasi.ledger.topology.cluster import SLOTS

READY_TIMEOUT_S = 30.0


class NodeKind(msgspec.Struct, frozen=True, kw_only=True):
    """The program and settings of a cluster's servers, and of clients."""

    program: Path | None = None  # None: the shipped Valkey
    further: Callable[[int], Sequence[str]] = lambda _: ()  # lines of a server's configuration, by its port
    client: Mapping[str, Any] = {}  # arguments of redis-py


SHIPPED = NodeKind()


class Node:
    def __init__(self, directory: Path, ports: tuple[int, int], node_timeout_ms: int, kind: NodeKind) -> None:
        self.port, self.bus_port = ports
        self.client = redis_asyncio.Redis(
            host="127.0.0.1", port=self.port, decode_responses=True, retry=Retry(NoBackoff(), 0), **kind.client
        )
        lines = (
            *(f"port {self.port}", "bind 127.0.0.1", f"dir {directory}", "appendonly yes", "appendfsync always"),
            *("cluster-enabled yes", f"cluster-port {self.bus_port}", f"cluster-node-timeout {node_timeout_ms}"),
            *("cluster-replica-validity-factor 0", "repl-diskless-sync-delay 0", "repl-ping-replica-period 1"),
            *('save ""', f"logfile {directory}/log", *kind.further(self.port)),
        )
        directory.mkdir()
        configuration = directory / "server.conf"
        configuration.write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [str(kind.program or valkey_binary()), str(configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=dies_with_us(signal.SIGKILL),  # noqa: PLW1509
        )

    async def ask(self, *args: Any) -> Any:
        client: Any = self.client
        return await client.execute_command(*args)

    async def answers(self) -> bool:
        with suppress(RedisError, OSError):
            return await self.ask("PING") is True
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    async def stop(self) -> None:
        self.kill()
        with suppress(RedisError, OSError):
            await self.client.aclose()

    def cpu_s(self) -> float:
        return ran_s(self.process.pid)


class LocalCluster:
    """A cluster. `nodes` are the primaries, then the first replica of each, then the second ones."""

    def __init__(self, nodes: list[Node], primaries: int) -> None:
        self.nodes = nodes
        self.primaries = nodes[:primaries]
        self.replicas = nodes[primaries:]

    @property
    def url(self) -> str:
        return "cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])

    async def node_of(self, slot: int) -> Node:
        """The server that serves a slot, according to a running server."""
        for server in self.nodes:
            if server.process.poll() is None:
                for first, last, primary, *_ in await server.ask("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(node for node in self.nodes if node.port == primary[1])
        raise LookupError(f"nobody serves slot {slot}")

    async def form(self) -> None:
        """Introduce the servers to each other, assign slots and replicas, and wait until all have settled."""
        count = len(self.primaries)
        for at, node in enumerate(self.primaries):
            await node.ask("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
            first, last = SLOTS * at // count, SLOTS * (at + 1) // count - 1
            await node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in self.nodes[1:]:
            await self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        await self.until(self._acquainted)
        for at, replica in enumerate(self.replicas):
            await replica.ask("CLUSTER", "REPLICATE", await self.primaries[at % count].ask("CLUSTER", "MYID"))
        await self.until(self._settled)

    async def _acquainted(self) -> bool:
        wanted = (str(len(self.nodes)), str(SLOTS))
        infos = [await node.ask("CLUSTER INFO") for node in self.nodes]
        return all((info["cluster_known_nodes"], info["cluster_slots_ok"]) == wanted for info in infos)

    async def _settled(self) -> bool:
        states = {(await node.ask("CLUSTER INFO"))["cluster_state"] for node in self.nodes}
        links = {(await node.client.info("replication"))["master_link_status"] for node in self.replicas}
        return states == {"ok"} and links <= {"up"}

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        await until(condition, "a cluster", READY_TIMEOUT_S)


@asynccontextmanager
async def local_cluster(
    primaries: int = 3, *, replicas: int = 1, node_timeout_ms: int = 1500, kind: NodeKind = SHIPPED
) -> AsyncIterator[LocalCluster]:
    """A running cluster; `replicas` is the number of each primary."""
    async with AsyncExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="rv-cluster-", ignore_cleanup_errors=True))
        )
        nodes: list[Node] = []
        for number in range(primaries * (1 + replicas)):
            port, bus_port = free_ports(2)
            nodes.append(Node(directory / str(number), (port, bus_port), node_timeout_ms, kind))
            stack.push_async_callback(nodes[-1].stop)
        cluster = LocalCluster(nodes, primaries)
        for node in nodes:
            await cluster.until(node.answers)
        await cluster.form()
        yield cluster
