"""Finds the address of the caller, also behind proxies, and its network.

The peer of a connection cannot be forged; X-Forwarded-For can. So the header counts only if the peer is a trusted
proxy, and is read from the right, since each proxy appends the address that it saw.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NOBODY = ""
HOST_PREFIX_V6 = 64  # one machine may have all of it
ADDRESS_CHARS_MAX = 64  # longer than any address with its port
PLACES_KEPT_MAX = 16_384  # cached addresses


class Networks:
    """Finds callers and their networks, with the settings of one deployment."""

    def __init__(self, trusted_proxies: Iterable[Network], *, prefix_v4: int, prefix_v6: int) -> None:
        self._trusted = tuple(trusted_proxies)
        self._prefixes = {4: prefix_v4, 6: prefix_v6}
        self._place = lru_cache(maxsize=PLACES_KEPT_MAX)(self._find_place)

    def network(self, peer: str, forwarded: Sequence[str]) -> str:
        """The caller's network, such as `203.0.113.0/24`; "" if a trusted proxy gives no readable address.

        `peer` is the other end of the connection, "" for a local socket; `forwarded` every X-Forwarded-For line.
        """
        return self._caller(peer, forwarded)[0]

    def host(self, peer: str, forwarded: Sequence[str]) -> str:
        """The caller's host: an IPv4 address or a /64 of IPv6; the peer if a trusted proxy gives no address."""
        return self._caller(peer, forwarded)[1] or self._place(peer)[1]

    def _caller(self, peer: str, forwarded: Sequence[str]) -> tuple[str, str]:
        network, host, passes_on = self._place(peer)
        if not passes_on:
            return network, host
        for line in reversed(forwarded):
            rest = line
            while rest:
                rest, _, last = rest.rpartition(",")
                last = last.strip()
                if len(last) > ADDRESS_CHARS_MAX:
                    return NOBODY, NOBODY
                network, host, passes_on = self._place(last)
                if not passes_on:
                    return network, host
        return NOBODY, NOBODY

    def _find_place(self, text: str) -> tuple[str, str, bool]:
        """Network, host, and whether it is a trusted proxy."""
        if not text:
            return NOBODY, NOBODY, True  # a local socket
        address = _address(text)
        if address is None:
            return NOBODY, NOBODY, False
        network, host = _around(address, self._prefixes[address.version]), str(address)
        if address.version == 6:
            host = _around(address, HOST_PREFIX_V6)
        return network, host, any(address in trusted for trusted in self._trusted)


def _address(text: str) -> Address | None:
    """An address, also with the port that some proxies append; IPv4-mapped IPv6 becomes IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _around(address: Address, prefix: int) -> str:
    return str(ipaddress.ip_network((str(address), prefix), strict=False))
