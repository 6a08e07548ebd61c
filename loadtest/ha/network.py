"""What the runs need of a network that can be cut, whichever way it is made.

Two sides: the near one has the first primary, a front and whoever stays with them; everybody else is on the far one, we
too. We and the people who stay reach the near front however the network is cut, as if by a cable of our own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from loadtest.stage.processes import Host

Connect: TypeAlias = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass(frozen=True, kw_only=True)
class Server:
    """The place of a server of the ledger, or of a sentinel."""

    host: Host
    port: int  # its own
    public_port: int  # by which everybody comes to it who is to be cut off
    source: str  # the address that its connections to others come from


class Network(Protocol):
    """Between whom anything passes."""

    near: Host  # of the front that stays with the first primary
    sentinels_near: int  # that are cut off as well; where none can be, the near front must not ask them

    async def add_ledger(self) -> Server:
        """A place for one more server of the ledger."""

    async def add_sentinel(self) -> Server:
        """A place for one more sentinel."""

    async def lead_to_records(self, connect: Connect) -> str:
        """Let the near front reach PostgreSQL, until it is cut off; at which `host:port`."""

    def part(self, staying: Collection[Server]) -> None:
        """Cut these and the near front off from everybody else: nothing arrives, and nobody is told."""

    def join(self) -> None:
        """Everybody reaches everybody again."""


OpenNetwork: TypeAlias = Callable[[], AbstractAsyncContextManager[Network]]
