"""The embedded PostgreSQL: durable, with modest memory, reachable through a unix socket only."""

import os
import shutil
import signal
from pathlib import Path

from reservasi.embedded.accounts import server_account
from reservasi.embedded.binaries import reachable_postgres
from reservasi.embedded.places import DATABASE, ROLE, Places, embedded_postgres_dsn, prepare
from reservasi.embedded.process import ServerKind, ServerProcess
from reservasi.errors import EmbeddedServerError
from reservasi.records.roles import RUNTIME_ROLES

STOP_TIMEOUT_S = 10.0
ROLES_MADE = "reservasi-roles-1"  # an empty file in the cluster
READY_LINE = 7  # of postmaster.pid, counted from 0: the server's status
# When the parent dies, a fast shutdown: connections are cut, committed data is flushed.
POSTGRES = ServerKind(name="PostgreSQL", death_signal=signal.SIGINT, stop_signals=(signal.SIGINT, signal.SIGQUIT))


class EmbeddedPostgres:
    """A PostgreSQL server in a data directory, with the database `reservasi`, its owner and the runtime roles."""

    def __init__(self, data_dir: Path, start_timeout_s: float, run_as: str = "") -> None:
        self._places = Places.of(data_dir)
        self._start_timeout_s = start_timeout_s
        self._account = server_account(run_as)
        self._cluster = self._places.postgres / "data"
        self._process = ServerProcess(
            POSTGRES,
            log=self._places.log / "postgres.log",
            lock=self._places.data_dir / "postgres.lock",
            account=self._account,
        )

    @property
    def dsn(self) -> str:
        """The address for clients, such as `postgresql://reservasi@/reservasi?host=%2Fvar%2Flib%2Freservasi%2Frun`."""
        return embedded_postgres_dsn(self._places.data_dir)

    @property
    def name(self) -> str:
        return POSTGRES.name

    @property
    def works_when_started(self) -> bool:
        """Yes: `start` waits for an answer."""
        return True

    @property
    def pid(self) -> int | None:
        """The running server's process id."""
        return self._process.pid

    async def start(self) -> None:
        """Start the server, creating its cluster if there is none, and return once it accepts connections.

        Raises:
            ConfigurationError: the data directory cannot be used.
            EmbeddedServerError: the server did not start.
        """
        prepare(self._places, self._account)
        binaries = reachable_postgres(self._places.programs, self._account)
        if not (self._cluster / "PG_VERSION").exists():
            await self._make_cluster(binaries)
        await self._make_roles(binaries, self._cluster)
        config = self._places.etc / "postgresql.conf"
        try:
            config.write_text(configuration(self._places))
            config.chmod(0o644)
        except OSError as error:
            raise EmbeddedServerError(f"{config} cannot be written: {error}") from error
        socket = self._places.postgres_socket
        await self._process.start(
            [str(binaries / "postgres"), "-D", str(self._cluster), f"--config-file={config}"],
            # With the lock, no other server uses this directory, whatever process has the old server's pid now.
            stale=[self._cluster / "postmaster.pid", socket, socket.with_name(f"{socket.name}.lock")],
            ready=self._ready,
            timeout_s=self._start_timeout_s,
        )

    async def stop(self) -> None:
        """Stop the server if it runs; transactions in flight are rolled back."""
        await self._process.stop(STOP_TIMEOUT_S)

    async def wait(self) -> int:
        """Wait until the server ends and return its exit code."""
        return await self._process.wait()

    async def _make_cluster(self, binaries: Path) -> None:
        """Create the cluster under a temporary name, so that an incomplete one is never used."""
        staging = self._places.postgres / "unfinished"
        shutil.rmtree(staging, ignore_errors=True)
        initdb = [str(binaries / "initdb"), "-D", str(staging), "-U", "postgres", "--encoding=UTF8", "--locale=C"]
        # The order by code point never changes under an index, unlike the operating system's locales.
        initdb += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        # The socket's directory is closed to other accounts, so that every client of the socket is trusted.
        initdb += ["--auth-local=trust", "--auth-host=reject"]
        await self._process.run(initdb, timeout_s=self._start_timeout_s)
        owner = (f"CREATE ROLE {ROLE} LOGIN CREATEDB", f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
        await self._make_roles(binaries, staging, *owner)
        staging.rename(self._cluster)
        directory_fd = os.open(self._places.postgres, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory_fd)
        os.close(directory_fd)

    async def _make_roles(self, binaries: Path, cluster: Path, *first: str) -> None:
        """Create the roles of fronts and worker while the server does not run, behind `first`; once per cluster."""
        marker = cluster / ROLES_MADE
        if marker.exists():
            return
        single = [str(binaries / "postgres"), "--single", "-D", str(cluster), "-c", "exit_on_error=on", "postgres"]
        absent = "IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{0}') THEN CREATE ROLE {0} LOGIN; END IF;"
        body = " ".join(absent.format(role) for role in RUNTIME_ROLES.values())
        statements = "\n".join([*first, f"DO $$ BEGIN {body} END $$", ""])
        await self._process.run(single, stdin=statements, timeout_s=self._start_timeout_s)
        marker.touch()

    async def _ready(self, pid: int) -> bool:
        """Whether the server's pid file says that it is ready for connections."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > READY_LINE and lines[0].strip() == str(pid) and lines[READY_LINE].strip() == "ready"


def configuration(places: Places) -> str:
    """The server's whole configuration file; other settings keep PostgreSQL's defaults."""
    run = str(places.run).replace("'", "''")
    lines = [
        "# Written at each start; changes made here are lost.",
        "listen_addresses = ''",
        f"unix_socket_directories = '\"{run}\"'",
        "unix_socket_permissions = 0700",
        "port = 5432",  # becomes part of the socket's name
        "max_connections = 300",
        # A recorded booking survives power loss.
        "fsync = on",
        "synchronous_commit = on",
        "full_page_writes = on",
        "max_wal_size = 512MB",
        # Small: this server shares its machine with the fronts and the ledger.
        "shared_buffers = 64MB",
        "work_mem = 4MB",
        "maintenance_work_mem = 64MB",
        "io_method = sync",
        "jit = off",
        "max_parallel_workers_per_gather = 0",
        "timezone = 'UTC'",
        "log_timezone = 'UTC'",
        "logging_collector = off",
        "log_min_messages = warning",
        "log_line_prefix = '%m [%p] '",
        # Statements contain personal data, which must not be logged.
        "log_statement = 'none'",
        "log_min_error_statement = panic",
        "log_parameter_max_length = 0",
        "log_parameter_max_length_on_error = 0",
    ]
    return "\n".join(lines) + "\n"
