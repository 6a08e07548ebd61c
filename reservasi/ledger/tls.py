"""TLS to servers whose addresses are learned at run time: `sentinels://` and `clusters://`, options as in `rediss://`."""

from typing import Any

import msgspec

OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Whom we believe, and how we prove ourselves; the same towards sentinels and the ledger's servers."""

    ssl_ca_certs: str | None = None  # file; None: the system's authorities
    ssl_certfile: str | None = None  # ours, where servers want one
    ssl_keyfile: str | None = None

    def connection_options(self) -> dict[str, Any]:
        """For a connection of redis-py; names of hosts are always checked."""
        return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **msgspec.structs.asdict(self)}


def take_tls(secure: bool, options: dict[str, str]) -> Tls | None:
    """Take an address's options of TLS out of the others; None where it asks for none."""
    if not secure:
        return None
    return Tls(**{name: options.pop(name) for name in OPTIONS if name in options})


def client_options(tls: Tls | None) -> dict[str, Any]:
    """For a client of redis-py."""
    return {"ssl": True, **tls.connection_options()} if tls else {}
