"""What the runs need of a network that can be cut, whichever way it is made.

Two sides: the near one has the first primary, one front and the servers that stay with them; everything else is on the
far side, and so is the load test. It reaches the near front however the network is cut, as if by a cable of its own.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from loadtest.stage.processes import Host
from loadtest.stage.proxy import Connect


@dataclass(frozen=True, kw_only=True)
class Server:
    """The place of a server of the ledger, or of a sentinel."""

    host: Host
    port: int  # its own
    public_port: int  # by which everything comes to it that is to be cut off
    source: str  # the address that its connections to others come from


class Network(Protocol):
    """Between whom anything passes."""

    near: Host  # of the front that stays with the first primary
    sentinels_near: int  # that are cut off as well; where none can be, the near front must not ask them

    async def add_ledger(self) -> Server:
        """A place for one more server of the ledger."""

    async def add_sentinel(self) -> Server: ...

    async def lead_to_records(self, connect: Connect) -> str:
        """Let the near front reach PostgreSQL, until it is cut off; at which `host:port`."""

    def part(self, staying: Collection[Server]) -> None:
        """Cut these and the near front off from everything else: nothing arrives, and no side is told."""

    def join(self) -> None:
        """Undo it."""


OpenNetwork: TypeAlias = Callable[[], AbstractAsyncContextManager[Network]]
