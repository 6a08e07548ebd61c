"""Debian 12's servers: Redis 7.0 with the files of `config/valkey/`, and PostgreSQL 15, both with TLS."""

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from reservasi.embedded.accounts import server_account
from reservasi.embedded.places import Places, prepare
from reservasi.embedded.postgres import POSTGRES, READY_LINE
from reservasi.embedded.process import ServerKind, ServerProcess
from reservasi.embedded.users import embedded_redis_url, greeting, make_passwords
from reservasi.ledger.access import USERS
from tests.authority import Authority
from tests.users import password_of

CONFIGURATION = Path(__file__).parents[1] / "config" / "valkey"
REDIS = Path("/usr/bin/redis-server")
POSTGRES_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
KIND = ServerKind(name="Redis", death_signal=signal.SIGKILL, stop_signals=(signal.SIGTERM,))
SUPERUSER = "postgres"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
PROBE_TIMEOUT_S = 2.0


def redis_program() -> Path:
    """Debian's redis-server; skips what needs it where it is not installed, but never where CI runs."""
    return _installed(REDIS, "redis-server")


def postgres_programs() -> Path:
    """The directory of Debian's PostgreSQL; skips likewise."""
    return _installed(POSTGRES_PROGRAMS / "postgres", "postgresql-15").parent


def _installed(program: Path, package: str) -> Path:
    if not program.exists():
        assert os.environ.get("CI") != "true", f"{package} must be installed where CI runs"
        pytest.skip(f"{program} is not on this machine: apt-get install {package}")
    return program


def tls_lines(authority: Authority, name: str, port: int) -> list[str]:
    """Of a Redis, or a sentinel, that takes nobody from the network but over TLS and with a certificate of ours."""
    certificate, key = authority.issue(name)
    return [
        f"tls-port {port}",
        f"tls-ca-cert-file {authority.ca}",
        f"tls-cert-file {certificate}",
        f"tls-key-file {key}",
        "tls-auth-clients yes",
        "tls-replication yes",
    ]


class DebianRedis:
    """A Redis 7.0 set up by the shipped files, as `EmbeddedValkey` is by its own: same places, users and methods."""

    def __init__(self, data_dir: Path, start_timeout_s: float = START_TIMEOUT_S, further: Sequence[str] = ()) -> None:
        """`further` lines end its configuration; without any it listens on its socket only."""
        self.places = Places.of(data_dir)
        self._start_timeout_s = start_timeout_s
        self._further = further
        log, lock = self.places.log / "redis.log", self.places.data_dir / "redis.lock"
        self._process = ServerProcess(KIND, log=log, lock=lock, account=None)

    @property
    def url(self) -> str:
        """The address for whoever may do everything, through the socket."""
        return embedded_redis_url(self.places.data_dir)

    @property
    def pid(self) -> int | None:
        """The running server's process id, if it runs."""
        return self._process.pid

    async def start(self) -> None:
        """Start the server and return once it answers."""
        prepare(self.places, None)
        make_passwords(self.places)
        config = self.places.etc / "redis.conf"
        config.write_text(self._configuration())
        await self._process.start(
            [str(redis_program()), str(config)],
            stale=[self.places.valkey_socket],
            ready=self._ready,
            timeout_s=self._start_timeout_s,
        )

    async def stop(self) -> None:
        """Stop the server if it runs."""
        await self._process.stop(STOP_TIMEOUT_S)

    async def wait(self) -> int:
        """Wait until the server ends and return its exit code."""
        return await self._process.wait()

    def _configuration(self) -> str:
        users = self.places.etc / "users.acl"
        rules = (CONFIGURATION / "users-redis-7.0.acl").read_text()
        for user in USERS:
            assert f">CHANGE-ME-{user} " in rules
            rules = rules.replace(f">CHANGE-ME-{user} ", f">{password_of(self.url, user)} ")
        users.write_text(rules)
        shipped = (CONFIGURATION / "valkey.conf").read_text()
        assert shipped.count("\naclfile /etc/valkey/users.acl\n") == 1
        lines = [
            shipped.replace("\naclfile /etc/valkey/users.acl\n", f"\naclfile {users}\n"),
            f"unixsocket {self.places.valkey_socket}",
            f"dir {self.places.valkey}",
            "bind 127.0.0.1",
            "port 0",
            *self._further,
        ]
        return "\n".join(lines) + "\n"

    async def _ready(self, _pid: int) -> bool:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(str(self.places.valkey_socket))
                try:
                    writer.write(greeting(self.places))
                    await reader.readline()  # of AUTH
                    return (await reader.readline()).startswith(b"+PONG")
                finally:
                    writer.close()
        return False


class DebianPostgres:
    """A PostgreSQL 15 that takes nobody from the network but over TLS, with a certificate and a password."""

    def __init__(self, data_dir: Path, port: int, authority: Authority) -> None:
        self.port = port
        self._places = Places.of(data_dir)
        self._account = server_account("")
        self._cluster = self._places.postgres / "data"
        certificate, key = authority.issue("postgres")
        self._files = {"ca.pem": str(authority.ca), "server.pem": certificate, "server.key": key}
        log, lock = self._places.log / "postgres.log", self._places.data_dir / "postgres.lock"
        self._process = ServerProcess(POSTGRES, log=log, lock=lock, account=self._account)

    @property
    def superuser_dsn(self) -> str:
        """The address of whoever may do everything, through the socket."""
        return f"postgresql://{SUPERUSER}@/postgres?host={self._places.run}&port={self.port}"

    async def start(self) -> None:
        """Make the cluster, start the server and return once it takes connections."""
        programs = postgres_programs()
        prepare(self._places, self._account)
        initdb = [programs / "initdb", "-D", self._cluster, "-U", SUPERUSER, "-E", "UTF8", "--locale=C"]
        await self._process.run([*map(str, initdb), "--auth=trust"], timeout_s=START_TIMEOUT_S)
        for name, source in self._files.items():
            target = self._cluster / name
            shutil.copyfile(source, target)
            target.chmod(0o600)
            if self._account is not None:
                os.chown(target, self._account.uid, self._account.gid)
        (self._cluster / "pg_hba.conf").write_text(
            f"local all {SUPERUSER} trust\nhostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._places.run,
            "ssl": "on",
            "ssl_ca_file": "ca.pem",
            "ssl_cert_file": "server.pem",
            "ssl_key_file": "server.key",
            "password_encryption": "scram-sha-256",
            "shared_buffers": "32MB",
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        await self._process.start(
            [str(programs / "postgres"), "-D", str(self._cluster), *flags],
            stale=[],
            ready=self._ready,
            timeout_s=START_TIMEOUT_S,
        )

    async def stop(self) -> None:
        """Stop the server if it runs."""
        await self._process.stop(STOP_TIMEOUT_S)

    async def _ready(self, _pid: int) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > READY_LINE and lines[READY_LINE].strip() == "ready"
