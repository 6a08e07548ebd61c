"""A ledger that is not owned, or has another epoch than the caller's, refuses everything and changes nothing."""

from typing import Any

import msgpack
import pytest

from reservasi.ledger import keys
from reservasi.ledger.loading import Loader
from reservasi.ledger.lua.library import COMMANDS
from reservasi.ledger.wire import messages, stored_forms
from reservasi.model import (
    Admit,
    Cancel,
    Command,
    Confirm,
    Find,
    Join,
    MoveOpening,
    Outcome,
    Release,
    Retire,
    RetireOpening,
    Sweep,
)
from tests.ledgers import QUOTA, TOMBSTONE_MS, Ledger, claim, open_ledger, opening_set, quota_set

FENCED_COMMANDS = [command for command in COMMANDS if command not in ("own", "fence", "load")]
HELD = claim(2)


def _items(command: str) -> list[Any]:
    """Items that would have an effect on the ledger of `_filled`."""
    commands: dict[str, Command] = {
        "claim": claim(),
        "confirm": Confirm(reservation_id=HELD.reservation_id),
        "release": Release(reservation_id=HELD.reservation_id),
        "cancel": Cancel(reservation_id=HELD.reservation_id),
        "set_quota": quota_set("p.o.s.20261201.1000.online"),
        "find": Find(reservation_id=HELD.reservation_id),
        "sweep": Sweep(items_max=10),
        "retire": Retire(quota=QUOTA, ends_at_ms=1),
        "set_opening": opening_set("p-2", opens_at_ms=3_900_000_000_000),
        "move_opening": MoveOpening(opening="p-1", cancelled=True, reason="a flood"),
        "retire_opening": RetireOpening(opening="p-1"),
        "join": Join(opening="p-1", ticket_id="t"),
        "admit": Admit(opening="p-1", controller="c", lease_ms=1000),
    }
    if command not in commands:
        return [[]]
    items: list[Any] = msgpack.unpackb(messages.encode_frame([commands[command]], TOMBSTONE_MS).items)
    return items


async def _fill(ledger: Ledger) -> None:
    """A hold to be changed, another one overdue, so that even a sweep has work."""
    short = quota_set("p.o.s.20261201.0700.online", hold_ms=1)
    overdue = claim(quota=short.quota)
    answers = await ledger.run(quota_set(QUOTA), HELD, short, opening_set("p-1"), overdue)
    await ledger.until(answers[-1].deadline_ms)


async def _assert_fenced(ledger: Ledger, command: str, epoch: int, meta_epoch: int) -> None:
    before = await ledger.dump()
    outcome, said_epoch, _, now_ms, answers = await ledger.raw(command, _items(command), epoch)
    assert (outcome, said_epoch, list(answers)) == ("fenced", meta_epoch, [])
    assert now_ms > 0
    assert await ledger.dump() == before


@pytest.mark.parametrize("command", FENCED_COMMANDS)
async def test_an_empty_ledger_is_fenced_until_owned(command: str, valkey_url: str, program: str) -> None:
    async with open_ledger(valkey_url, program, owned=False) as ledger:
        for epoch in (0, 1):
            await _assert_fenced(ledger, command, epoch, meta_epoch=0)
        assert await ledger.dump() == {}


@pytest.mark.parametrize("command", FENCED_COMMANDS)
async def test_another_epoch_is_fenced(command: str, ledger: Ledger) -> None:
    await _fill(ledger)
    for epoch in (0, 2, 11):
        await _assert_fenced(ledger, command, epoch, meta_epoch=1)
    assert (await ledger.raw(command, _items(command), epoch=1))[0] == "done"


@pytest.mark.parametrize("command", FENCED_COMMANDS)
async def test_another_run_of_the_server_is_fenced(command: str, ledger: Ledger) -> None:
    await _fill(ledger)
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{'f' * 40}")
    await _assert_fenced(ledger, command, epoch=1, meta_epoch=1)
    await ledger.client.hdel(keys.meta(ledger.program), "run_id")
    await _assert_fenced(ledger, command, epoch=1, meta_epoch=1)
    assert await ledger.own() == "owned"
    assert (await ledger.raw(command, _items(command), epoch=1))[0] == "fenced"
    assert (await ledger.raw(command, _items(command), epoch=2))[0] == "done"


async def test_what_is_stored_in_another_form_is_fenced_and_stays_so(ledger: Ledger) -> None:
    await _fill(ledger)
    run_id = (await ledger.connection.meta(5.0)).run_id
    for another in (
        run_id,
        f"1:{run_id}",
        f"{stored_forms.FORM}0:{run_id}",
    ):  # the first as ledgers were before forms were named
        await ledger.client.hset(keys.meta(ledger.program), "run_id", another)
        for command in FENCED_COMMANDS:
            await _assert_fenced(ledger, command, epoch=1, meta_epoch=1)
        assert await ledger.own() == "moved"
        meta = await ledger.connection.meta(5.0)
        assert (meta.owned, meta.readable) == (False, False)
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORM}:{run_id}")
    assert (await ledger.connection.meta(5.0)).owned


@pytest.mark.parametrize("is_fenced_before", [False, True])
async def test_what_the_former_release_stored_is_fenced_until_it_is_owned(
    is_fenced_before: bool, ledger: Ledger
) -> None:
    """Nobody sells from it as it is; owned, it has this release's form, which the former one refuses."""
    await _fill(ledger)
    run_id = (await ledger.connection.meta(5.0)).run_id
    await ledger.client.hset(keys.meta(ledger.program), "run_id", f"{stored_forms.FORMER_FORM}:{run_id}")
    if is_fenced_before:
        await Loader(ledger.connection).fence()
    for command in FENCED_COMMANDS:
        await _assert_fenced(ledger, command, epoch=1, meta_epoch=1)
    meta = await ledger.connection.meta(5.0)
    assert (meta.owned, meta.readable) == (False, True)
    assert await ledger.own() == "owned"
    assert await ledger.client.hget(keys.meta(ledger.program), "run_id") == f"{stored_forms.FORM}:{run_id}".encode()
    assert (await ledger.connection.meta(5.0)).owned
    assert (await ledger.one(claim())).outcome is Outcome.HELD


async def test_a_connection_believes_a_newer_epoch_and_never_an_older_one(ledger: Ledger) -> None:
    await ledger.one(quota_set())
    (entry,) = await ledger.entries()
    assert await ledger.connection.own(entry.position, 5, 5.0) == "owned"
    assert (await ledger.one(claim())).epoch == 5
    await ledger.client.hset(keys.meta(ledger.program), "epoch", "4")
    before = await ledger.dump()
    assert await ledger.connection.snapshot(5.0) is None
    assert await ledger.dump() == before
