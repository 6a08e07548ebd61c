"""An availability view of one program, as in a front, and the wait until it has caught up."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec

from reservasi.availability import Availability
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.lua.library import read_library
from reservasi.ledger.topology.clients import open_client
from reservasi.model import Opening, Quota
from tests.ledgers import Ledger, eventually


@asynccontextmanager
async def open_view(url: str, program: str, *, stale_ms: int = 1000) -> AsyncIterator[Availability]:
    """A view that follows the program through `url`."""
    client = open_client(url)
    view = Availability(
        lambda name: LedgerConnection(url, name, read_library()),
        lambda name: Journal(client, name),
        stale_ms=stale_ms,
    )
    try:
        view.follow(program)
        view.follow(program)
        yield view
    finally:
        await view.close()
        await client.aclose()


def _public(openings: Iterable[Opening]) -> dict[str, Opening]:
    """Openings without the moment up to which the mark was reckoned: no event tells when that alone goes on."""
    return {opening.id: msgspec.structs.replace(opening, advanced_at_ms=0) for opening in openings}


async def caught_up(view: Availability, ledger: Ledger) -> None:
    """Wait until the view shows what the ledger has now."""
    snapshot = await ledger.snapshot()
    quotas, openings = {quota.id: quota for quota in snapshot.quotas}, _public(snapshot.openings)

    async def same() -> bool:
        shown = {quota.id: quota for quota in view.select(ledger.program)}
        return view.ready and shown == quotas and _public(view.openings(ledger.program)) == openings

    await eventually(same)
    moments = Counter(quota.terms.opens_at_ms for quota in snapshot.quotas)
    assert view._followers[ledger.program].view.moments == moments
    for quota in snapshot.quotas:
        covering = [opening.id for opening in snapshot.openings if opening.terms.covers(quota.terms)]
        going_on = [opening.id for opening in snapshot.openings if opening.id in covering and not opening.cancelled]
        owner = view.opening_of(quota)
        assert ([owner.id] if owner else []) == (going_on or covering)
    for opening in snapshot.openings:
        covered = {quota.id for quota in view.quotas_of_opening(ledger.program, opening.id)}
        assert covered == {quota.id for quota in snapshot.quotas if view.opening_of(quota) == opening}


async def shown(view: Availability, quota: str) -> Quota:
    """A quota as the view has it."""
    state = view.quota(quota)
    assert state is not None
    return state


async def says_sold_out(view: Availability, quota: str, places: int = 1) -> None:
    """Wait until the view is sure that a new claim finds too few places."""

    async def sure() -> bool:
        return view.is_sold_out(quota, places, "new")

    await eventually(sure)
