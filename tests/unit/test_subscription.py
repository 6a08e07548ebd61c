"""A subscription delivers each message, and reports every way in which it ends."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as LostConnection

from reservasi.ledger import subscription as subscription_module
from reservasi.ledger.subscription import Subscription, subscribed
from reservasi.ledger.topology.clients import open_client

SILENT_S = 0.02
STREAMS = SimpleNamespace(connection_lost=lambda _error: None)


def subscription(messages: list[bytes]) -> Subscription:
    def hear(message: bytes) -> None:
        if message == b"bad":
            raise ValueError("unreadable")
        messages.append(message)

    transport: Any = SimpleNamespace(
        get_protocol=lambda: STREAMS, set_protocol=lambda _protocol: None, is_closing=lambda: False
    )
    reader = asyncio.StreamReader()
    return Subscription(SimpleNamespace(_writer=SimpleNamespace(transport=transport), _reader=reader), hear)


def message(data: bytes, beginning: bytes = b"*3") -> bytes:
    return b"%b\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n%b\r\n" % (beginning, len(data), data)


@pytest.mark.parametrize("beginning", [b"*3", b">3"])
async def test_messages_are_heard_however_they_arrive(beginning: bytes) -> None:
    messages: list[bytes] = []
    opened = subscription(messages)
    sent = message(b"one", beginning) + message(b"two", beginning)
    for at in range(len(sent)):
        opened.data_received(sent[at : at + 1])
    opened.data_received(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
    assert messages == [b"one", b"two"]
    await opened.wait_for_silence(SILENT_S)


async def test_it_is_silent_only_when_nothing_came_for_so_long() -> None:
    opened = subscription([])
    waiting = asyncio.create_task(opened.wait_for_silence(SILENT_S))
    await asyncio.sleep(0)
    opened.data_received(message(b"one"))
    _, pending = await asyncio.wait([waiting], timeout=SILENT_S * 1.5)
    assert pending
    await waiting


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (lambda opened: opened.connection_lost(None), LostConnection),
        (lambda opened: opened.connection_lost(ConnectionResetError()), ConnectionResetError),
        (lambda opened: opened.data_received(b"hello\r\n"), Exception),
        (lambda opened: opened.data_received(b"-NOAUTH\r\n"), Exception),
        (lambda opened: opened.data_received(message(b"bad")), ValueError),
    ],
)
async def test_whoever_waits_hears_how_it_ended(end: Any, fault: type[Exception]) -> None:
    opened = subscription([])
    waiting = asyncio.create_task(opened.wait_for_silence(60))
    await asyncio.sleep(0)
    end(opened)
    with pytest.raises(fault):
        await waiting
    with pytest.raises(fault):
        await opened.wait_for_silence(60)


async def test_a_server_that_says_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "READ_TIMEOUT_S", 0.05)
    path = str(tmp_path / "silent")
    over = asyncio.Event()

    async def greets_and_is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not over.is_set() and (data := await reader.read(4096)):
            if b"SUBSCRIBE" not in data:
                writer.write(b"+OK\r\n" * data.count(b"*"))
        writer.close()

    client = open_client(f"unix://{path}")
    async with await asyncio.start_unix_server(greets_and_is_silent, path):
        async with asyncio.timeout(10):
            with pytest.raises(TimeoutError):
                async with subscribed(client, "c", lambda _message: None):
                    pass
        over.set()
        await client.aclose()
