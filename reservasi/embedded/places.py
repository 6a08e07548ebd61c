"""The paths in a data directory, their owners, and the addresses of its servers.

::

    <data_dir>/              0711 as root, else 0700; created by us, or used as it is
    ├── up.lock              held for life by the one `up` that uses this directory
    ├── processes.lock       held by worker and fronts, as long as one of them lives
    ├── valkey.lock          held by the Valkey server itself, as long as it lives
    ├── postgres.lock        the same for PostgreSQL
    ├── valkey-users.json    0600: the passwords of Valkey's users
    ├── etc/                 the configuration, written at each start
    ├── log/                 the servers' logs
    ├── programs/            copies of the servers' files, if their account cannot access the originals
    ├── run/       0700      the unix sockets (elsewhere if the path is too long for a socket)
    ├── valkey/    0700      the append-only file
    └── postgres/  0700      the database cluster

Permissions are only changed on files and directories that we created.
"""

import fcntl
import hashlib
import os
import re
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from reservasi.embedded.accounts import Account, closed_directory, server_account
from reservasi.errors import ConfigurationError

SOCKET_PATH_BYTES_MAX = 107  # sun_path has 108 bytes, the last one is zero
POSTGRES_SOCKET_NAME = ".s.PGSQL.5432"
ENDING_WAIT_S = 10.0  # for the kernel to end an `up` that was killed
ENDING_LOOK_S = 0.02
FLAGS_AT, EXITING = 5, 0x4  # index in /proc/<pid>/stat after the state, and the kernel's PF_EXITING
DATABASE = "reservasi"
ROLE = "reservasi"


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of one data directory; `of` creates one."""

    data_dir: Path  # absolute, links resolved, so that every process derives the same addresses

    @classmethod
    def of(cls, data_dir: Path) -> "Places":
        """The paths of a data directory that need not exist yet."""
        return cls(data_dir.expanduser().resolve())

    @property
    def valkey(self) -> Path:
        """The append-only file's directory."""
        return self.data_dir / "valkey"

    @property
    def postgres(self) -> Path:
        """The directory around PostgreSQL's cluster."""
        return self.data_dir / "postgres"

    @property
    def etc(self) -> Path:
        """The configuration files, written at each start."""
        return self.data_dir / "etc"

    @property
    def log(self) -> Path:
        """The servers' logs."""
        return self.data_dir / "log"

    @property
    def programs(self) -> Path:
        """Copies of the servers' files."""
        return self.data_dir / "programs"

    @property
    def run(self) -> Path:
        """The sockets' directory; a short one under `/tmp` if a socket's path would be too long or need quoting."""
        run = self.data_dir / "run"
        too_long = len(os.fsencode(run / POSTGRES_SOCKET_NAME)) > SOCKET_PATH_BYTES_MAX
        if too_long or re.search(r"[\x00-\x1f\x7f\"',\\]", str(run)):
            tag = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:12]
            return Path(f"/tmp/reservasi-{tag}")  # noqa: S108  # its owner is checked before use
        return run

    @property
    def valkey_users(self) -> Path:
        """The passwords of Valkey's users, readable by our account only."""
        return self.data_dir / "valkey-users.json"

    @property
    def valkey_socket(self) -> Path:
        """Valkey's socket."""
        return self.run / "valkey.sock"

    @property
    def postgres_socket(self) -> Path:
        """PostgreSQL's socket."""
        return self.run / POSTGRES_SOCKET_NAME


def embedded_postgres_dsn(data_dir: Path, database: str = DATABASE, role: str = ROLE) -> str:
    """The DSN of the PostgreSQL of this data directory, also if it is not running; in asyncpg's form."""
    return f"postgresql://{role}@/{quote(database)}?host={quote(str(Places.of(data_dir).run), safe='')}"


def prepare(places: Places, account: Account | None) -> None:
    """Create what is missing in the data directory, for servers that run as `account`.

    Raises:
        ConfigurationError: the account cannot access a directory, or it is not writable, or belongs to somebody else.
    """
    _refuse_closed(places.data_dir, account)
    try:
        _make_parents(places.data_dir.parent)
        # As root, the data directory lets the servers' account pass through; secret files have their own mode.
        _make(places.data_dir, 0o711 if account else 0o700, None)
        for directory in (places.etc, places.log, places.programs):
            _make(directory, 0o755 if account else 0o700, None)
        for directory in (places.valkey, places.postgres, places.run):
            _make(directory, 0o700, account)
    except OSError as error:
        raise ConfigurationError(_unusable(places.data_dir, error)) from error
    _refuse_closed(places.data_dir, account)  # an existing directory keeps its mode, which may be too narrow
    for directory in (places.valkey, places.postgres, places.run):
        _refuse_foreign(directory, account)


@contextmanager
def occupied(data_dir: Path, run_as: str | None = None) -> Iterator[None]:
    """Hold the exclusive right to run servers in this data directory during the block.

    With `run_as` (the setting, which may be empty), a directory that the servers' account cannot access is refused
    before anything is created in it.

    Raises:
        ConfigurationError: the directory cannot be written, or a running process uses it.
    """
    places = Places.of(data_dir)
    if run_as is not None:
        _refuse_closed(places.data_dir, server_account(run_as))
    try:
        _make_parents(places.data_dir.parent)
        _make(places.data_dir, 0o711 if os.geteuid() == 0 else 0o700, None)
        # Close-on-exec, so that no child keeps the lock after us.
        fd = os.open(places.data_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(_unusable(places.data_dir, error)) from error
    with os.fdopen(fd, "r+") as file:
        _take(file, places)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _take(file: TextIO, places: Places) -> None:
    """Lock the file; waits only for an owner that was killed and is about to end."""
    deadline = time.monotonic() + ENDING_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read(32).strip()
            if _is_ending(owner) and time.monotonic() < deadline:
                time.sleep(ENDING_LOOK_S)
                continue
            raise ConfigurationError(
                f"data_dir: {places.data_dir} is in use by process {owner or 'unknown'}; stop that one, or choose "
                "another directory"
            ) from error
        file.seek(0)
        return


def _is_ending(pid: str) -> bool:
    """Whether the process has ended, is ending, or got SIGKILL; False if that is unknown."""
    try:
        state, *fields = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{int(pid)}/status").read_text()
    except ValueError:
        return False
    except OSError:
        return True
    pending = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd:", "ShdPnd:"))]
    killed = any(mask >> (signal.SIGKILL - 1) & 1 for mask in pending)
    return state in "ZX" or bool(int(fields[FLAGS_AT]) & EXITING) or killed


def _make_parents(directory: Path) -> None:
    """Create the missing parents so that others can pass through them, whatever our umask is."""
    if directory.is_dir():
        return
    _make_parents(directory.parent)
    _make(directory, 0o755, None)


def _make(directory: Path, mode: int, account: Account | None) -> None:
    """Create a directory with exactly this mode and owner; an existing one is left unchanged."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        if not directory.is_dir():
            raise
        return
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    directory.chmod(mode)


def _refuse_closed(data_dir: Path, account: Account | None) -> None:
    """Refuse a data directory that the servers' account cannot access."""
    closed = closed_directory(data_dir, account)
    if closed is None:
        return
    who = f"the account {account.name}, which runs the servers," if account else "this account"
    raise ConfigurationError(
        f"data_dir: {data_dir} cannot be reached, because {closed} is closed to {who} and its permissions are not ours "
        f"to change. Choose a data_dir elsewhere, such as /var/lib/reservasi, or open it: chmod o+x {closed}"
    )


def _refuse_foreign(directory: Path, account: Account | None) -> None:
    """Refuse a server's directory that belongs to another account or is a symbolic link."""
    status = directory.lstat()
    uid = account.uid if account else os.geteuid()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == uid:
        return
    who = account.name if account else str(uid)
    raise ConfigurationError(
        f"data_dir: {directory} is not a directory of the account {who}, which runs the servers (its owner is uid "
        f"{status.st_uid}). Start as the account that made it (run_as), or hand it over: chown -R {who} {directory}"
    )


def _unusable(data_dir: Path, error: OSError) -> str:
    """The message for a directory that cannot be written."""
    return f"data_dir: {data_dir} cannot be used: {error.strerror} ({error.filename}); choose a directory you may write"
