"""The account of the embedded servers, and which paths it can access.

PostgreSQL refuses to run as root, and no server that gets input from the public should. When started as root, the
servers therefore run under an unprivileged account; otherwise under the current one.
"""

import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reservasi.errors import ConfigurationError

FALLBACK_NAMES = ("postgres", "nobody")  # tried in this order if no account is configured
ANSWER_BYTES_MAX = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """An unprivileged account of this machine."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]  # including its own


def server_account(run_as: str) -> Account | None:
    """The account of the servers; None is the current one, since only root can choose another.

    Raises:
        ConfigurationError: `run_as` does not exist or is root, or no fallback account exists.
    """
    if os.geteuid() != 0:
        return None
    for name in (run_as,) if run_as else FALLBACK_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise ConfigurationError(f"run_as: {name} is root, and PostgreSQL refuses to run as root")
        groups = tuple(os.getgrouplist(name, entry.pw_gid))
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, groups=groups)
    wanted = run_as or " nor ".join(FALLBACK_NAMES)
    raise ConfigurationError(f"run_as: this machine has no account {wanted}; name one that exists")


def closed_directory(path: Path, account: Account | None) -> Path | None:
    """The first directory on the path (including `path`) that the account cannot pass through; None if there is
    none.
    """

    def first_closed() -> str:
        way = [*reversed(path.parents), path]
        return next((str(place) for place in way if place.is_dir() and not os.access(place, os.X_OK)), "")

    answer = _ask_as(account, first_closed)
    return Path(answer) if answer else None


def can_use(paths: list[Path], account: Account | None) -> bool:
    """Whether the account can read and execute every one of the files or directories."""

    def all_open() -> str:
        return "yes" if all(os.access(path, os.R_OK | os.X_OK) for path in paths) else "no"

    return _ask_as(account, all_open) == "yes"


def _ask_as(account: Account | None, question: Callable[[], str]) -> str:
    """Ask in a process of the account: permissions are tried, not computed."""
    if account is None:
        return question()
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        _answer_and_exit(account, question, write_fd)
    os.close(write_fd)
    with os.fdopen(read_fd, "rb") as reader:
        answer = reader.read(ANSWER_BYTES_MAX)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        raise ConfigurationError(f"run_as: this process may not act as the account {account.name}")
    return os.fsdecode(answer)


def _answer_and_exit(account: Account, question: Callable[[], str], write_fd: int) -> None:
    """The body of the forked child; it must never return into the parent's code."""
    failed = 1
    try:
        os.setgroups(account.groups)
        os.setgid(account.gid)
        os.setuid(account.uid)
        os.write(write_fd, os.fsencode(question()))
        failed = 0
    finally:
        os._exit(failed)
