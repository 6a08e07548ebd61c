"""The embedded Valkey: append-only, every write synced before it is answered, no eviction."""

import asyncio
import contextlib
import signal
import socket
from pathlib import Path

from reservasi.embedded.accounts import server_account
from reservasi.embedded.binaries import reachable_valkey
from reservasi.embedded.places import Places, prepare
from reservasi.embedded.process import ServerKind, ServerProcess
from reservasi.embedded.users import embedded_redis_url, greeting, make_passwords, write_acl
from reservasi.errors import ConfigurationError, EmbeddedServerError

PROBE_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 10.0
VALKEY = ServerKind(name="Valkey", death_signal=signal.SIGTERM, stop_signals=(signal.SIGTERM,))


class EmbeddedValkey:
    """A Valkey server in a data directory; what it acknowledged survives a crash of the server or the machine.

    It listens on a unix socket that only its account (and root) can open, and with `port` on the loopback as well.
    """

    def __init__(self, data_dir: Path, start_timeout_s: float, port: int | None = None, run_as: str = "") -> None:
        self._places = Places.of(data_dir)
        self._start_timeout_s = start_timeout_s
        self._port = port
        self._account = server_account(run_as)
        self._process = ServerProcess(
            VALKEY,
            log=self._places.log / "valkey.log",
            lock=self._places.data_dir / "valkey.lock",
            account=self._account,
        )

    @property
    def url(self) -> str:
        """The address with all rights: `unix://admin:<password>@/var/lib/reservasi/run/valkey.sock`."""
        return embedded_redis_url(self._places.data_dir)

    @property
    def name(self) -> str:
        return VALKEY.name

    @property
    def works_when_started(self) -> bool:
        """Yes: `start` waits for an answer."""
        return True

    @property
    def pid(self) -> int | None:
        """The running server's process id."""
        return self._process.pid

    async def start(self) -> None:
        """Start the server and return once it answers.

        Raises:
            ConfigurationError: the data directory cannot be used, or the port is in use.
            EmbeddedServerError: the server did not start.
        """
        prepare(self._places, self._account)
        if self._port:
            _refuse_taken(self._port)
        binary = reachable_valkey(self._places.programs, self._account)
        config = self._places.etc / "valkey.conf"
        make_passwords(self._places)
        _write(config, configuration(self._places, self._port, write_acl(self._places, self._account)))
        await self._process.start(
            [str(binary), str(config)],
            stale=[self._places.valkey_socket],
            ready=self._ready,
            timeout_s=self._start_timeout_s,
        )

    async def stop(self) -> None:
        """Stop the server if it runs; its data is already on disk."""
        await self._process.stop(STOP_TIMEOUT_S)

    async def wait(self) -> int:
        """Wait until the server ends and return its exit code."""
        return await self._process.wait()

    async def _ready(self, _pid: int) -> bool:
        """Whether it answers a PING; it refuses while it loads its file."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(str(self._places.valkey_socket))
                try:
                    writer.write(greeting(self._places))
                    await reader.readline()  # the reply to AUTH
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
        return False


def configuration(places: Places, port: int | None, users: Path) -> str:
    lines = [
        "# Written at each start; changes made here are lost.",
        f"unixsocket {_quoted(places.valkey_socket)}",
        "unixsocketperm 700",
        f"aclfile {_quoted(users)}",
        f"port {port or 0}",
        "bind 127.0.0.1",
        "daemonize no",
        'logfile ""',  # standard output, which is redirected to the log
        f"dir {_quoted(places.valkey)}",
        "databases 1",
        # A change is answered only after its fsync, which many changes share in a batch.
        "appendonly yes",
        "appendfsync always",
        "no-appendfsync-on-rewrite no",
        # A rewrite of the file slows claims down: not during an opening.
        "auto-aof-rewrite-min-size 512mb",
        # A tail cut off by a power loss was never acknowledged; any other damage prevents the start.
        "aof-load-truncated yes",
        'save ""',
        # When memory is full, writes must fail: evicting a reservation would sell its place twice.
        "maxmemory-policy noeviction",
        # Quotas are looked up with every claim: use a hash table even for few quotas, not a list that is searched.
        "hash-max-listpack-entries 16",
        "enable-debug-command no",
        "enable-module-command no",
    ]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    """A path in the configuration file's quoting."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write(path: Path, text: str) -> None:
    """Write a configuration file that the server's account can read."""
    try:
        path.write_text(text)
        path.chmod(0o644)
    except OSError as error:
        raise EmbeddedServerError(f"{path} cannot be written: {error}") from error


def _refuse_taken(port: int) -> None:
    """Report a port in use before the server does so in its own words."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigurationError(f"port {port} on 127.0.0.1 cannot be used for Valkey: {error.strerror}") from error
