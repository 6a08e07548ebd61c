"""What `rebuild --from-ledger` cannot record is left out and named, and a running service continues."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from reservasi.bootstrap.worker import open_worker
from reservasi.health import Health
from reservasi.ledger import keys
from reservasi.model import Confirm
from reservasi.programs.files import read_program
from reservasi.records import Records
from reservasi.settings import Settings
from reservasi.worker.drift_watch import is_mended_by_rebuilding
from tests.integration.dumps import Copy, age, restore, sell_more
from tests.integration.test_rebuild import (
    SURABAYA,
    own,
    record,
    sell,
)
from tests.integration.test_reconcile import reconcile
from tests.ledgers import (
    Ledger,
    claim,
    eventually,
    open_ledger,
    quota_set,
)

NUMBER, FIRST_PERSON = 1, 7  # places in a packed reservation, as lua/shared.lua has them
pytestmark = pytest.mark.any_server


@pytest.fixture
async def ledger(valkey_url: str, program: str, records: Records) -> AsyncIterator[Ledger]:
    async with open_ledger(valkey_url, program, owned=False) as opened:
        await own(opened, records)
        yield opened


@pytest.fixture
async def copy(database: str, records: Records) -> Copy:
    """Of this test's database; nothing is taken yet."""
    assert await records.programs() is not None
    return Copy(database)


async def test_a_damaged_reservation_keeps_nobody_elses_from_being_recorded(
    ledger: Ledger, records: Records, copy: Copy
) -> None:
    sold = await sell(ledger)
    await record(ledger, records)
    await copy.take()
    more = await sell_more(ledger)
    await age(ledger, records, margin=0)
    await copy.put_back()
    await ledger.client.hset(keys.reservations(ledger.program), more["booked"], b"\xc1")
    await ledger.client.hset(keys.reservations(ledger.program), sold.group.reservation_id, b"\xc1")
    report = await restore(ledger, records)
    assert (report.restored, report.bookings, report.left_out) == (True, 1, 2)
    booking = await records.booking(sold.group.reservation_id)
    assert booking is not None
    assert booking.state == "confirmed", "nobody knows better"
    comparison = await reconcile(ledger, records)
    assert (comparison.kinds["unreadable"], comparison.unread) == (2, 1)
    assert not is_mended_by_rebuilding(comparison), "one of them is nowhere else"
    assert await records.booking(more["paid"]) is not None


@pytest.mark.parametrize("persons", [[], ["another"] * 6], ids=["of-no-quota", "of-six"])
async def test_what_can_be_read_and_fits_no_row_is_left_to_a_person(
    ledger: Ledger, records: Records, copy: Copy, persons: list[str]
) -> None:
    """The ledger alone can tell what it was: a worker that repaired it away would destroy that."""
    await sell(ledger)
    await record(ledger, records)
    await copy.take()
    more = await sell_more(ledger)
    await age(ledger, records, margin=0)
    await copy.put_back()
    packed: Any = await ledger.client.hget(keys.reservations(ledger.program), more["booked"])
    fields = msgpack.unpackb(packed)
    fields[NUMBER] = fields[NUMBER] if persons else 999
    changed: bytes = msgpack.packb([*fields[:FIRST_PERSON], *(persons or fields[FIRST_PERSON:])])
    await ledger.client.hset(keys.reservations(ledger.program), more["booked"], changed)
    report = await restore(ledger, records)
    assert (report.restored, report.bookings, report.left_out) == (True, 1, 1)
    comparison = await reconcile(ledger, records)
    assert (comparison.unread, is_mended_by_rebuilding(comparison)) == (1, False)
    assert comparison.kinds["reservations"] == 1


async def test_a_service_that_runs_says_so_and_goes_on_once_it_is_recorded_anew(
    ledger: Ledger, records: Records, copy: Copy, data_dir: Path
) -> None:
    await records.save_program(msgspec.structs.replace(read_program(SURABAYA), id=ledger.program))
    await ledger.run(quota_set(), claim())
    await record(ledger, records)
    await copy.take()
    more = await sell_more(ledger)
    await age(ledger, records, margin=0)
    health = Health()
    settings = Settings(redis_url=ledger.url, postgres_dsn=copy.dsn, data_dir=data_dir, programs=ledger.program)
    wanted = claim()

    async def is_said() -> bool:
        part, why = health.missing().get(ledger.program, ("", ""))
        return part == "records" and "2 confirmed bookings (2 places)" in why

    async def is_well() -> bool:
        return not health.missing()

    async def is_recorded() -> bool:
        return await records.booking(wanted.reservation_id) is not None

    async with open_worker(settings, health):
        await eventually(is_well)
        await copy.put_back()
        await eventually(is_said, 30)
        assert (await ledger.raw("claim", [[]]))[0] == "fenced"
        report = await restore(ledger, records)
        assert report.restored
        assert await records.booking(more["booked"]) is not None
        await ledger.run(wanted, Confirm(reservation_id=wanted.reservation_id))
        await eventually(is_recorded)
        await eventually(is_well)
    assert (await reconcile(ledger, records)).drift == ()


async def test_what_was_a_dead_letter_since_the_copy_is_recorded_now(
    ledger: Ledger, records: Records, copy: Copy
) -> None:
    """The ledger has it, and its row is written from there: fronts may call it recorded."""
    await sell(ledger)
    await record(ledger, records)
    await copy.take()
    more = await sell_more(ledger)
    tip = await age(ledger, records, margin=0)
    epochs = [(row.epoch, row.base_seq) for row in await records.epochs(ledger.program)]
    await ledger.journal.publish_recorded(tip, [more["booked"]], epochs=epochs)
    await copy.put_back()
    await restore(ledger, records)
    assert await ledger.journal.dead_reservations() == set()
    assert await records.booking(more["booked"]) is not None
