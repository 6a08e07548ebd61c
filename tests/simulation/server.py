"""The real Valkey of a simulation, called synchronously, with a simulated clock."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hiredis
import msgspec
import redis
from redis.exceptions import ResponseError

from reservasi.embedded.binaries import valkey_binary
from reservasi.embedded.process import dies_with_us
from reservasi.ledger import keys
from reservasi.ledger.connection import META_FIELDS
from reservasi.ledger.lua.library import Library, read_library

START_TIMEOUT_S = 30.0
RECEIVED_MAX = 65_536
SEQ_AT = META_FIELDS.index("seq")
CLOCK_KEYS = ("simulation:seconds", "simulation:microseconds")
# The one place where the library reads a clock. Another place, or another way, and no run is a function of its seed.
CLOCK_READ = "redis.call('TIME')"
CLOCK_READ_HERE = f"redis.call('MGET', '{CLOCK_KEYS[0]}', '{CLOCK_KEYS[1]}')"

# What only reads: the replies stay the same until anything else is carried out.
READS = frozenset(
    {
        "EXISTS",
        "GET",
        "HGET",
        "HGETALL",
        "HKEYS",
        "HLEN",
        "HMGET",
        "HSCAN",
        "INFO",
        "SMEMBERS",
        "TIME",
        "TYPE",
        "XRANGE",
        "XREAD",
        "XREVRANGE",
        "ZRANGE",
    }
)
WRITES = frozenset({"HSET", "HDEL", "SADD", "SREM", "XADD", "XTRIM", "ZADD", "ZREM"})  # to the key that they name
ONLY_READ = ("_snapshot", "_find")  # functions
FENCED, FENCED_WITHIN = b"fenced", 12  # how the reply of a function begins that has done nothing

Command = Sequence[Any]
UNKNOWN = object()


def edited(source: str, old: str, new: str) -> str:
    """The source with one piece replaced, which must be there exactly once."""
    count = source.count(old)
    assert count == 1, f"expected exactly once in the library, found {count} times: {old}"
    return source.replace(old, new)


def simulated_library(*edits: tuple[str, str]) -> Library:
    """The library as it ships, but for where its clock comes from, and for bugs that are planted in it."""
    library = read_library()
    source = library.source
    for old, new in ((CLOCK_READ, CLOCK_READ_HERE), *edits):
        source = edited(source, old, new)
    return msgspec.structs.replace(library, source=source)


@contextlib.contextmanager
def running_valkey() -> Iterator[str]:
    """A Valkey of the simulation's own, which keeps nothing on disk: `unix:///...`."""
    directory = Path(tempfile.mkdtemp(prefix="rv-"))
    socket = directory / "valkey.sock"
    flags = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", str(directory)]
    process = subprocess.Popen(
        [str(valkey_binary()), *flags],
        stdout=subprocess.DEVNULL,
        preexec_fn=dies_with_us(signal.SIGKILL),  # noqa: PLW1509  # one prctl, loaded before
    )
    try:
        _await_answer(f"unix://{socket}", process)
        yield f"unix://{socket}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _await_answer(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    client = redis.Redis.from_url(url)
    while True:
        assert process.poll() is None, "Valkey did not come up"
        with contextlib.suppress(redis.RedisError):
            client.ping()
            client.close()
            return
        assert time.monotonic() < deadline, "Valkey does not answer"
        time.sleep(0.005)


class Server:
    """One Valkey: each call returns when it has been carried out, so that nothing depends on how long it took."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(url.removeprefix("unix://"))
        self._reader = hiredis.Reader()
        (self._info,) = self._ask([("INFO", "server")])
        self._told_ms = -1
        self._clock: Callable[[], int] = lambda: 0
        self._read: dict[Command, Any] = {}  # since anything was written: command -> reply
        self.seq = 0
        self.believes_meta = True  # False while it was damaged

    def close(self) -> None:
        """Let go of the connection."""
        self._socket.close()

    def begin(self, program: str, library: Library, clock: Callable[[], int]) -> None:
        """Empty it for a run; `clock` says the ledger's time in milliseconds."""
        self._clock, self._told_ms, self.seq, self.believes_meta = clock, -1, 0, True
        self._position = ("HMGET", keys.meta(program), *META_FIELDS)
        self._read.clear()
        # The functions as well, whatever they were: what they remember by themselves belongs to an earlier run.
        for reply in self._ask([("FLUSHALL",), ("FUNCTION", "FLUSH"), ("FUNCTION", "LOAD", library.source)]):
            assert not isinstance(reply, Exception), reply

    def now_ms(self) -> int:
        """The ledger's clock."""
        return self._clock()

    def recorded(self, program: str) -> tuple[int, int] | None:
        """Epoch and seq of what the recorder said last."""
        (value,) = self.execute([("HGET", keys.recorded(program), keys.RECORDED_FIELD)])
        word = json.loads(value) if value else None
        return (word["epoch"], word["seq"]) if word else None

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Carry commands out now, all of them; a refusal is a reply."""
        now_ms = self._clock()
        only_reads = all(command[0] in READS for command in commands)
        cached_replies = {
            at: reply
            for at, command in enumerate(commands)
            if (reply := self._known(command, read_before=only_reads)) is not UNKNOWN
        }
        uncached = [command for at, command in enumerate(commands) if at not in cached_replies]
        calls = any(command[0] == "FCALL" for command in uncached)
        before: list[Command] = []
        if calls and now_ms != self._told_ms:
            seconds, ms = divmod(now_ms, 1000)
            before = [("MSET", CLOCK_KEYS[0], seconds, CLOCK_KEYS[1], ms * 1000)]
            self._told_ms = now_ms
        # Where the ledger is now: everybody asks that most often, so it is asked here as they ask it.
        after: list[Command] = [self._position] if calls else []
        replies = self._ask([*before, *uncached, *after])[len(before) :]
        position = replies.pop() if after else None
        if self.believes_meta and isinstance(position, list):
            self.seq = int(position[SEQ_AT] or 0)
        if only_reads:
            self._read.update(zip(map(tuple, uncached), replies, strict=True))
        else:
            self._forget(uncached, replies)
        if after:
            self._read[tuple(self._position)] = position
        new_replies = iter(replies)
        return [cached_replies[at] if at in cached_replies else next(new_replies) for at in range(len(commands))]

    def _forget(self, commands: Sequence[Command], replies: Sequence[Any]) -> None:
        """What was read before and may be another by now."""
        for command, reply in zip(commands, replies, strict=True):
            if command[0] == "FCALL":
                if not (str(command[1]).endswith(ONLY_READ) or FENCED in bytes(reply or b"")[:FENCED_WITHIN]):
                    self._read.clear()
            elif command[0] in WRITES:
                self._read = {read: answer for read, answer in self._read.items() if command[1] not in read}
            elif command[0] not in READS:
                self._read.clear()

    def _known(self, command: Command, *, read_before: bool) -> Any:
        """The reply to what need not be asked; most reads of the journal find nothing new."""
        if command[0] == "TIME":
            return _time(self._clock())
        if command[0] == "XREAD" and self.believes_meta and _seq_of(command[-1]) >= self.seq:
            return None
        if command[0] == "INFO":
            return self._info
        return self._read.get(tuple(command), UNKNOWN) if read_before else UNKNOWN

    def _ask(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        # redis-py's connection takes longer for this than the server does.
        self._socket.sendall(b"".join([hiredis.pack_command(tuple(map(_bytes_of, each))) for each in commands]))
        return [self._reply() for _ in commands]

    def _reply(self) -> Any:
        while (reply := self._reader.gets()) is False:
            received = self._socket.recv(RECEIVED_MAX)
            assert received, "Valkey has gone"
            self._reader.feed(received)
        return ResponseError(str(reply)) if isinstance(reply, hiredis.ReplyError) else reply


def _seq_of(entry_id: str | bytes) -> int:
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(text.rpartition("-")[2])


def _bytes_of(argument: Any) -> Any:
    return argument if isinstance(argument, bytes | str | int) else str(argument)


def _time(now_ms: int) -> list[bytes]:
    seconds, ms = divmod(now_ms, 1000)
    return [str(seconds).encode(), str(ms * 1000).encode()]
