"""The other users of a test's Valkey, from its administrator's address."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from reservasi.embedded import embedded_redis_url


def as_user(admin_url: str, user: str) -> str:
    """The address of the embedded Valkey behind `admin_url` for another of its users."""
    socket = Path(urlsplit(admin_url).path)
    return embedded_redis_url(socket.parents[1], user)


def password_of(admin_url: str, user: str) -> str:
    """The password of one of its users."""
    return unquote(urlsplit(as_user(admin_url, user)).password or "")
