"""Staff keys in the records: names, secrets and expiry; and keys from before the migration."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import asyncpg
import pytest
from alembic import command
from sqlalchemy.ext.asyncio import create_async_engine

from reservasi.catalogue import STAFF_KEPT_S, STAFF_KEPT_WITHOUT_RECORDS_S, Catalogue
from reservasi.errors import ConfigurationError, RecordsUnavailable
from reservasi.records import upgrades
from reservasi.records.upgrades import upgrade
from reservasi.sealing import Sealing, create_key_ring

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from reservasi.records import Records, StaffRow

MINUTE = dt.timedelta(minutes=1)
BEFORE_STAFF_KEYS = "0006"
OLD_KEYS = """
INSERT INTO staff (name, role, api_key_hash, disabled_at) VALUES
  ('Ani', 'operator', 'a', NULL), ('Ani', 'admin', 'b', NULL), ('Ani (2)', 'viewer', 'c', NULL),
  ('Ani', 'viewer', 'd', now()), ('Ani', 'operator', 'e', NULL), ('Budi', 'viewer', 'f', NULL)
"""


async def test_keys_of_before_work_as_they_did_and_are_told_apart(empty_database: str) -> None:
    def to_before(connection: Connection) -> None:
        command.upgrade(upgrades._config(connection), BEFORE_STAFF_KEYS)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(empty_database))
    async with engine.begin() as connection:
        await connection.run_sync(to_before)
    await engine.dispose()
    owner = await asyncpg.connect(empty_database)
    await owner.execute(OLD_KEYS)
    assert (await upgrade(empty_database)).up_to_date
    rows = await owner.fetch(
        "SELECT api_key_hash, name, cardinality(scopes), programs FROM staff ORDER BY api_key_hash"
    )
    await owner.close()
    assert [tuple(row) for row in rows] == [
        ("a", "Ani", 4, None),
        ("b", "Ani (3)", 4, None),
        ("c", "Ani (2)", 1, None),
        ("d", "Ani", 1, None),
        ("e", "Ani (4)", 4, None),
        ("f", "Budi", 1, None),
    ]


async def _staff(records: Records, key_hash: str) -> StaffRow:
    staff = await records.staff_by_key_hash(key_hash)
    assert staff is not None
    return staff


async def test_a_name_is_one_key_s_until_it_is_revoked(records: Records) -> None:
    taken = asyncio.gather(*(records.add_staff("Ani", "viewer", f"h{at}") for at in range(8)), return_exceptions=True)
    assert sum(isinstance(each, ConfigurationError) for each in await taken) == 7
    await records.add_staff("Budi", "viewer", "budi")
    with pytest.raises(ConfigurationError, match="Ani"):
        await records.rename_staff("Budi", "Ani")
    assert await records.revoke_staff("Ani") is not None
    assert await records.revoke_staff("Ani") is None
    renamed = await records.rename_staff("Budi", "Ani")
    assert renamed is not None
    assert [(row.name, row.revoked_at is None) for row in await records.staff_keys()] == [("Ani", True), ("Ani", False)]


async def test_a_rotation_keeps_the_former_secret_for_its_overlap_and_never_longer(records: Records) -> None:
    soon = dt.datetime.now(dt.UTC) + MINUTE
    await records.add_staff("Ani", "viewer", "first", expires_at=soon)
    await records.rotate_staff("Ani", "second", 10 * MINUTE, soon + 60 * MINUTE)
    assert (await _staff(records, "first")).expires_at == soon, "an overlap gives no secret more time than it had"
    assert (await _staff(records, "second")).expires_at == soon + 60 * MINUTE
    await records.rotate_staff("Ani", "third", MINUTE)
    assert await records.staff_by_key_hash("first") is None
    assert (await _staff(records, "second")).has_expired(dt.datetime.now(dt.UTC) + MINUTE)
    await records.rotate_staff("Ani", "fourth", dt.timedelta())
    assert await records.staff_by_key_hash("third") is None
    assert await records.rotate_staff("nobody", "fifth", MINUTE) is None


async def test_rotating_an_expired_key_brings_no_old_secret_back(records: Records) -> None:
    await records.add_staff("Ani", "viewer", "first", expires_at=dt.datetime.now(dt.UTC) - MINUTE)
    await records.rotate_staff("Ani", "second", 10 * MINUTE, dt.datetime.now(dt.UTC) + MINUTE)
    assert await records.staff_by_key_hash("first") is None


async def test_a_revoked_key_ends_with_all_its_secrets(records: Records) -> None:
    await records.add_staff("Ani", "viewer", "first")
    await records.rotate_staff("Ani", "second", MINUTE)
    await records.revoke_staff("Ani")
    assert await records.staff_by_key_hash("first") is None
    assert (await _staff(records, "second")).revoked_at is not None


async def test_a_known_key_works_for_an_hour_without_the_records_and_no_longer(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealing = Sealing(create_key_ring())
    await records.add_staff("Ani", "viewer", sealing.api_key_hash("secret"))
    await records.add_staff("Budi", "viewer", sealing.api_key_hash("another"))
    catalogue = Catalogue(records, sealing, refresh_ms=100)
    assert await catalogue.staff("secret") is not None
    loop = asyncio.get_running_loop()
    now, calls = loop.time(), 0

    async def away(_: str) -> StaffRow | None:
        nonlocal calls
        calls += 1
        raise RecordsUnavailable("away")

    monkeypatch.setattr(records, "staff_by_key_hash", away)
    with pytest.raises(RecordsUnavailable):
        await catalogue.staff("another")
    assert calls == 1
    for later in (STAFF_KEPT_S + 1, STAFF_KEPT_S + 2, STAFF_KEPT_WITHOUT_RECORDS_S - 1):
        monkeypatch.setattr(loop, "time", lambda later=later: now + later)
        assert await catalogue.staff("secret") is not None
    assert calls == 3, "every five seconds, not with every request"
    monkeypatch.setattr(loop, "time", lambda: now + STAFF_KEPT_WITHOUT_RECORDS_S + STAFF_KEPT_S + 1)
    with pytest.raises(RecordsUnavailable):
        await catalogue.staff("secret")
