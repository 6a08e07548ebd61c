"""An availability view of one program, as a front has it, and the wait until it has caught up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reservasi.availability import Availability
from reservasi.ledger.connection import LedgerConnection, open_client
from reservasi.ledger.journal import Journal
from reservasi.ledger.library import read_library
from reservasi.model import Quota
from tests.ledgers import Ledger, eventually


@asynccontextmanager
async def open_view(url: str, program: str, *, stale_ms: int = 1000) -> AsyncIterator[Availability]:
    """A view that follows the program through `url`."""
    client = open_client(url)
    view = Availability(
        lambda name: LedgerConnection(url, name, read_library()),
        lambda name: Journal(client, name),
        block_ms=20,
        stale_ms=stale_ms,
    )
    try:
        view.follow(program)
        view.follow(program)
        yield view
    finally:
        await view.close()
        await client.aclose()


async def caught_up(view: Availability, ledger: Ledger) -> None:
    """Wait until the view shows what the ledger has now."""
    expected = {quota.id: quota for quota in (await ledger.snapshot()).quotas}

    async def same() -> bool:
        return view.ready and {quota.id: quota for quota in view.select(ledger.program)} == expected

    await eventually(same)


async def shown(view: Availability, quota: str) -> Quota:
    """A quota as the view has it."""
    found = view.quota(quota)
    assert found is not None
    return found


async def says_sold_out(view: Availability, quota: str, places: int = 1) -> None:
    """Wait until the view is sure that a new claim finds too few places."""

    async def sure() -> bool:
        return view.is_sold_out(quota, places, "new")

    await eventually(sure)
