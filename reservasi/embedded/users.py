"""The embedded Valkey's users: one password each, created once and stored in the data directory for our account
only.
"""

import hashlib
import json
import os
import secrets
from pathlib import Path
from urllib.parse import quote

from reservasi.embedded.accounts import Account
from reservasi.embedded.places import Places
from reservasi.errors import ConfigurationError
from reservasi.ledger.access import ADMIN, USERS, acl_lines

PASSWORD_BYTES = 32


def embedded_redis_url(data_dir: Path, user: str = ADMIN) -> str:
    """The URL of the Valkey of this data directory, also if it is not running; without a password before its first
    start.

    Raises:
        ConfigurationError: the passwords belong to another account.
    """
    places = Places.of(data_dir)
    password = _read(places.valkey_users).get(user)
    userinfo = f"{user}:{quote(password, safe='')}@" if password else ""
    return f"unix://{userinfo}{quote(str(places.valkey_socket))}"


def make_passwords(places: Places) -> None:
    """Create the missing passwords.

    Raises:
        ConfigurationError: they cannot be read or written.
    """
    path = places.valkey_users
    existing = _read(path)
    if not set(USERS) - existing.keys():
        return
    passwords = {user: secrets.token_urlsafe(PASSWORD_BYTES) for user in USERS}
    draft = path.with_suffix(".new")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({**passwords, **existing}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def write_acl(places: Places, account: Account | None) -> Path:
    """Write the server's ACL file, with hashes of the passwords, readable by its account only."""
    hashes = {user: f"#{hashlib.sha256(password.encode()).hexdigest()}" for user, password in _known(places).items()}
    path = places.etc / "users.acl"
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("\n".join(acl_lines(hashes)) + "\n")
            if account is not None:
                os.fchown(file.fileno(), account.uid, account.gid)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    return path


def greeting(places: Places) -> bytes:
    """The bytes of a probe: AUTH and PING."""
    password = _known(places)[ADMIN]
    return f"AUTH {ADMIN} {password}\r\nPING\r\n".encode()


def _known(places: Places) -> dict[str, str]:
    return {user: password for user, password in _read(places.valkey_users).items() if user in USERS}


def _read(path: Path) -> dict[str, str]:
    try:
        passwords = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(f"the ledger's passwords in {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not a password file: delete it and start again") from error
    return {str(user): str(password) for user, password in passwords.items()}
