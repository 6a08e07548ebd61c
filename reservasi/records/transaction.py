"""Records journal entries exactly once: rows and position in one transaction, and dead letters for unrecordable
events.
"""

import asyncio
import json
from collections.abc import Sequence

import asyncpg
import msgspec

from reservasi.errors import StaleRecorder
from reservasi.events import AnyEvent, Confirmed, Ended, Held, JournalEntry, Unreadable
from reservasi.model import Position
from reservasi.records.effects import Course, Effects, Stamped, Unapplicable, net_effects
from reservasi.records.pool import Connection, lacks_partition
from reservasi.records.writes import BookingCode, NewRows, apply_effects, new_rows

ERROR_CHARS_MAX = 500

# Errors of the data, not of the server. ValueError is raised by asyncpg for an argument that does not fit, and by
# Python for text that is not Unicode.
UNFIT = (
    Unapplicable,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
    OverflowError,
)

POSITION = "SELECT epoch, seq, chain FROM positions WHERE program = $1"
FIRST_POSITION = """
INSERT INTO positions (program, epoch, seq, chain) VALUES ($1, $2, $3, $4) ON CONFLICT (program) DO NOTHING
"""
NEXT_POSITION = """
UPDATE positions SET epoch = $2, seq = $3, chain = $4, updated_at = now()
WHERE program = $1 AND epoch = $5 AND seq = $6 AND chain = $7
"""
NEW_JOURNAL = """
INSERT INTO journal (program, epoch, first_seq, last_seq, at_ms, chain, payload)
SELECT $1, entry.*
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bytea[])
  AS entry (epoch, first_seq, last_seq, at_ms, chain, payload)
WHERE NOT EXISTS (
  SELECT FROM epochs WHERE program = $1 AND epochs.epoch > entry.epoch AND epochs.base_seq < entry.last_seq
)
"""
NEW_DEAD_LETTER = """
INSERT INTO dead_letters (program, epoch, seq, reservation_id, event, error) VALUES ($1, $2, $3, $4, $5, $6)
"""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that could not be applied and is in the dead-letter table."""

    seq: int
    reservation_id: str | None  # None: the event concerns a quota


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one call."""

    position: Position
    dead: tuple[DeadLetter, ...] = ()


async def stored_position(connection: Connection, program: str) -> Position | None:
    """The recorded position of the program; None if nothing is recorded."""
    row = await connection.fetchrow(POSITION, program)
    return None if row is None else Position(epoch=row["epoch"], seq=row["seq"], chain=row["chain"])


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Entries with their net effects, computed before the transaction begins."""

    entries: tuple[JournalEntry, ...]
    effects: Effects | None  # None: the events contradict each other or the tables
    new: NewRows

    @property
    def position(self) -> Position:
        """The position after them."""
        return self.entries[-1].position

    @property
    def events(self) -> int:
        """How many events they hold."""
        return sum(len(entry.events) for entry in self.entries)

    @classmethod
    def of(cls, program: str, entries: Sequence[JournalEntry], booking_code: BookingCode) -> "Batch":
        """Compute the effects and rows of the entries."""
        try:
            effects = net_effects(entries)
            new = new_rows(program, effects, booking_code)
        except UNFIT:
            return cls(entries=tuple(entries), effects=None, new={})
        return cls(entries=tuple(entries), effects=effects, new=new)

    @classmethod
    async def meanwhile(cls, program: str, entries: Sequence[JournalEntry], booking_code: BookingCode) -> "Batch":
        """Like `of`, in small steps, so that statements to PostgreSQL can be sent in between."""
        course = Course()
        try:
            for entry in entries:
                course.follow(entry)
                await asyncio.sleep(0)
            effects = course.end()
            new = new_rows(program, effects, booking_code)
        except UNFIT:
            return cls(entries=tuple(entries), effects=None, new={})
        return cls(entries=tuple(entries), effects=effects, new=new)


async def record(
    connection: Connection,
    program: str,
    expected: Position | None,
    batch: Batch,
    booking_code: BookingCode,
) -> Recorded:
    """Move the position from `expected` to the end of the entries and write all their effects, or nothing.

    Raises:
        StaleRecorder: the position is not `expected`, or an entry is of an earlier epoch than the one before it.
    """
    _check_epochs(program, expected, batch.entries)
    if batch.effects is not None:
        try:
            async with connection.transaction():
                await _move_on(connection, program, expected, batch)
                await apply_effects(connection, program, batch.effects, batch.new, booking_code)
                dead = [await _bury(connection, program, each, "") for each in batch.effects.unreadable]
            return Recorded(position=batch.position, dead=tuple(dead))
        except UNFIT as error:  # everything is rolled back and tried again event by event
            if lacks_partition(error):
                raise  # the events are not the cause
    async with connection.transaction():
        await _move_on(connection, program, expected, batch)
        unfit = await _apply_one_by_one(connection, program, batch.entries, booking_code)
    return Recorded(position=batch.position, dead=unfit)


async def _move_on(connection: Connection, program: str, expected: Position | None, batch: Batch) -> None:
    """Move the position first: a recorder that has lost the lead stops here."""
    await move_position(connection, program, expected, batch.position)
    await _write_journal(connection, program, batch.entries)


def _check_epochs(program: str, expected: Position | None, entries: Sequence[JournalEntry]) -> None:
    """Refuse entries that go back to an earlier epoch, even if the recorder knows the position."""
    epochs = [entry.epoch for entry in entries]
    if expected is not None:
        epochs.insert(0, expected.epoch)
    if epochs != sorted(epochs):
        raise StaleRecorder(f"entries of {program} go back to an earlier epoch: {epochs}")


async def move_position(connection: Connection, program: str, expected: Position | None, position: Position) -> None:
    """Move the position; raises `StaleRecorder` if it is not `expected`."""
    after = (program, position.epoch, position.seq, position.chain)
    if expected is None:
        done = await connection.execute(FIRST_POSITION, *after)
    else:
        done = await connection.execute(NEXT_POSITION, *after, expected.epoch, expected.seq, expected.chain)
    if not done.endswith(" 1"):
        raise StaleRecorder(f"the recorded position of {program} is no longer {expected}")


async def _write_journal(connection: Connection, program: str, entries: Sequence[JournalEntry]) -> None:
    done = await connection.execute(
        NEW_JOURNAL,
        program,
        [entry.epoch for entry in entries],
        [entry.first_seq for entry in entries],
        [entry.position.seq for entry in entries],
        [entry.at_ms for entry in entries],
        [entry.chain for entry in entries],
        [entry.payload for entry in entries],
    )
    if done != f"INSERT 0 {len(entries)}":
        raise StaleRecorder(f"a later lineage of {program} branched off before the end of these entries")


async def _apply(
    connection: Connection, program: str, effects: Effects, new: NewRows, booking_code: BookingCode
) -> None:
    async with connection.transaction():  # a savepoint: a failure inside does not end the outer transaction
        await apply_effects(connection, program, effects, new, booking_code)


async def _apply_one_by_one(
    connection: Connection, program: str, entries: Sequence[JournalEntry], booking_code: BookingCode
) -> tuple[DeadLetter, ...]:
    dead: list[DeadLetter] = []
    alone = (
        Stamped(epoch=entry.epoch, at_ms=entry.at_ms, events=(event,)) for entry in entries for event in entry.events
    )
    for stamped in alone:
        if isinstance(stamped.event, Unreadable):
            dead.append(await _bury(connection, program, stamped, ""))
            continue
        try:
            effects = net_effects([stamped])
            await _apply(connection, program, effects, new_rows(program, effects, booking_code), booking_code)
        except UNFIT as error:
            if lacks_partition(error):
                raise
            dead.append(await _bury(connection, program, stamped, fault_of(error)))
    return tuple(dead)


async def _bury(connection: Connection, program: str, stamped: Stamped, reason: str) -> DeadLetter:
    """Store an event that cannot be applied as a dead letter; an unreadable event carries its own reason."""
    if isinstance(stamped.event, Unreadable):
        reason = fault_of(f"it cannot be read: {stamped.event.why}")
    reservation_id = _reservation_of(stamped.event)
    await connection.execute(
        NEW_DEAD_LETTER,
        program,
        stamped.epoch,
        stamped.event.seq,
        None if reservation_id is None else _storable(reservation_id),
        json.dumps(
            {"kind": type(stamped.event).__name__, **msgspec.to_builtins(stamped.event)}
        ),  # escapes all but ASCII
        reason,
    )
    return DeadLetter(seq=stamped.event.seq, reservation_id=reservation_id)


def _reservation_of(event: AnyEvent) -> str | None:
    return event.reservation_id if isinstance(event, Held | Confirmed | Ended | Unreadable) else None


def fault_of(error: Exception | str) -> str:
    """Why an event is not recorded: the error's name and message without its details, which repeat the row."""
    if isinstance(error, str):
        return _storable(error)[:ERROR_CHARS_MAX]
    message = error.args[0] if error.args else ""
    return _storable(f"{type(error).__name__}: {message}")[:ERROR_CHARS_MAX]


def _storable(words: str) -> str:
    return words.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
