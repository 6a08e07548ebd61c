"""A replacement of redis-py in a simulated process: the same calls, over the simulated network."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import hiredis
import redis.asyncio as redis_asyncio
from redis.asyncio.client import Pipeline

import reservasi.ledger.connection
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.lua.library import Library
from tests.simulation.loop import Host
from tests.simulation.network import Network
from tests.simulation.server import Command

NO_SERVER = "unix:///nowhere"  # never opened


def open_connection(network: Network, host: Host, program: str, library: Library) -> LedgerConnection:
    """A ledger connection as a host opens one."""

    def open_pool(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(make_connection=lambda: Wire(network, host))

    with mock.patch.object(reservasi.ledger.connection, "open_pool", new=open_pool):
        return SimulatedConnection(NO_SERVER, program, library)


class SimulatedConnection(LedgerConnection):
    """A ledger connection whose round trips go over the simulated network."""

    async def _ask(self, commands: Sequence[bytes], due_s: float, sent: Callable[[], None]) -> list[Any]:
        wire: Wire = self._connection
        async with asyncio.timeout_at(due_s):
            return await wire.ask(commands, sent)


class Wire:
    """What `LedgerConnection` needs of redis-py's connection."""

    def __init__(self, network: Network, host: Host) -> None:
        self._network = network
        self._host = host
        self.is_connected = False

    async def connect(self) -> None:
        await asyncio.sleep(self._network.latency_s())
        self.is_connected = True

    async def disconnect(self, *, nowait: bool = False) -> None:
        self.is_connected = False

    async def ask(self, packed: Sequence[bytes], sent: Callable[[], None]) -> list[Any]:
        """All replies to commands that are sent together."""
        replied = self._network.send(self._host, [_unpacked(command) for command in packed])
        sent()
        return list(await replied)


def _unpacked(packed: bytes) -> Command:
    """A command as it was before it was packed: text, but for what a function call brings."""
    return _unpack(packed) if b"FCALL" in packed[:16] else _unpack_question(packed)


def _unpack(packed: bytes) -> Command:
    reader = hiredis.Reader()
    reader.feed(packed)
    arguments = reader.gets()
    text_count = len(arguments) - 2 if arguments[0] == b"FCALL" else len(arguments)  # then items and envelopes
    return (*(each.decode() for each in arguments[:text_count]), *arguments[text_count:])


_unpack_question = functools.lru_cache(64)(_unpack)  # questions are few, and asked again and again


class Client(redis_asyncio.Redis):
    """redis-py's client, whose commands travel over the simulated network."""

    def __init__(self, network: Network, host: Host) -> None:
        # What redis-py makes of these options is the same for all, and making it takes longer than all else here.
        vars(self).update(vars(_client()))
        self._network = network
        self._host = host

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        (reply,) = await self._network.send(self._host, [args])
        return _parsed(self, args, options, reply)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "Pipeline":
        return Piped(self, whole=transaction)


@functools.cache
def _client() -> redis_asyncio.Redis:
    return redis_asyncio.Redis(protocol=2, driver_info=None)


class Piped(Pipeline):
    """Commands that travel together."""

    def __init__(self, client: Client, *, whole: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, whole, None)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack = cast(list[tuple[tuple[Any, ...], dict[str, Any]]], list(self.command_stack))
        self.command_stack.clear()
        commands = [args for args, _ in stack]
        replies = await self._client._network.send(self._client._host, commands, whole=self.is_transaction)
        return [_parsed(self, args, options, reply) for (args, options), reply in zip(stack, replies, strict=True)]


@asynccontextmanager
async def subscribed(client: Client, channel: str, hear: Callable[[bytes], None]) -> AsyncIterator["Subscription"]:
    """What stands in for `ledger.subscription.subscribed`."""
    network = client._network
    await asyncio.sleep(network.latency_s())
    subscription = Subscription(hear)
    network.subscribe(channel, subscription)
    try:
        yield subscription
    finally:
        network.unsubscribe(subscription)


class EntryReader:
    """What stands in for `ledger.journal.entry_reader.EntryReader`."""

    def __init__(self, client: Client, stream: str) -> None:
        self._client = client
        self._stream = stream

    async def read(self, since: str, count: int, block_ms: int, timeout_s: float) -> Any:
        async with asyncio.timeout(timeout_s):
            reply: Any = await self._client.xread({self._stream: since}, count=count, block=block_ms)
        return reply[0][1] if reply else []

    async def close(self) -> None: ...


class Subscription:
    """Messages of one channel over the simulated network."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self._tell = hear
        self._message_count = 0
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def put(self, message: bytes | Exception, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._hear, message)

    def _hear(self, message: bytes | Exception) -> None:
        if isinstance(message, bytes):
            self._message_count += 1
            self._tell(message)
        elif not self._lost.done():
            self._lost.set_exception(message)
            self._lost.exception()

    async def wait_for_silence(self, silent_s: float) -> None:
        count = -1
        while count != self._message_count:
            count = self._message_count
            await asyncio.wait([self._lost], timeout=silent_s)
            if self._lost.done():
                self._lost.result()


def _parsed(client: Any, args: Sequence[Any], options: dict[str, Any], reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    options.pop("keys", None)  # redis-py's word for what a cache would need
    callback = client.response_callbacks.get(args[0])
    return callback(reply, **options) if callback else reply
