"""Planted bugs that the simulation must find."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import msgpack
import msgspec

from reservasi.availability.view import ProgramView
from reservasi.contents import KeptReservation
from reservasi.errors import ReservasiError
from reservasi.ledger.answer_release import Replies
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.wire import messages
from reservasi.model import Position, State
from reservasi.records import Batch, Recorded
from reservasi.records.difference import Difference
from reservasi.records.effects import Effects
from reservasi.worker.recorder import Recorder

# Lua: a person whose entry is damaged is taken for one without a reservation.
TAKES_DAMAGE_FOR_NOTHING = (
    "not has_person(reservation, person) then\n    return DAMAGED",
    "not has_person(reservation, person) then\n    return false",
)
# Lua: the last place is sold once more.
OVERSELL = ("return room >= places", "return room + 1 >= places")


def new_ids_when_repeated() -> AbstractContextManager[Any]:
    """A lost reply is answered by the same claims under new ids."""
    call = LedgerConnection.call
    failed: dict[int, int] = {}  # connection -> calls in a row without a reply

    async def call_anew(
        self: LedgerConnection, frames: Sequence[messages.Frame], timeout_s: float, **options: Any
    ) -> list[bytes | ReservasiError]:
        tries = failed.get(id(self), 0)
        anew = [_renamed(frame, tries) if frame.command == "claim" and tries else frame for frame in frames]
        failed[id(self)] = tries + 1
        replies = await call(self, anew, timeout_s, **options)
        failed[id(self)] = 0
        return replies

    return mock.patch.object(LedgerConnection, "call", call_anew)


def _renamed(frame: messages.Frame, tries: int) -> messages.Frame:
    ids, *rest = msgpack.unpackb(frame.items)
    return msgspec.structs.replace(frame, items=messages.pack([[f"{id_[:-1]}{tries % 10}" for id_ in ids], *rest]))


def answers_swapped() -> AbstractContextManager[Any]:
    """The last two of a batch get each other's answers."""
    release = Replies._release_group

    def release_swapped(self: Replies, group: Sequence[Any], raw: Any) -> None:
        release(self, [*group[:-2], *reversed(group[-2:])], raw)

    return mock.patch.object(Replies, "_release_group", release_swapped)


def published_before_the_commit() -> AbstractContextManager[Any]:
    """Fronts hear of a position that is not recorded yet."""
    record = Recorder._record

    async def publish_and_record(self: Recorder, expected: Position | None, batch: Batch) -> Recorded:
        await self._journal.publish_recorded(batch.position, [], epochs=self._epochs)
        return await record(self, expected, batch)

    return mock.patch.object(Recorder, "_record", publish_and_record)


def restored_without_holds() -> AbstractContextManager[Any]:
    """What is recorded anew from the ledger has its bookings, and not its holds."""
    follow = Difference._follow

    def follow_bookings(self: Difference, effects: Effects, id_: str, kept: KeptReservation) -> None:
        if kept.state is State.CONFIRMED:
            follow(self, effects, id_, kept)

    return mock.patch.object(Difference, "_follow", follow_bookings)


def memory_forgets_ids() -> AbstractContextManager[Any]:
    """Memory answers "sold out" to a replay of a claim that succeeded."""
    apply = ProgramView.apply

    def apply_and_forget(self: ProgramView, *args: Any) -> None:
        apply(self, *args)
        self.known_ids.clear()

    return mock.patch.object(ProgramView, "apply", apply_and_forget)
