"""Compares both sides after a double failover, this ledger and another server's, with the records. Changes nothing.

A `superseded` ledger was owned before another server was, and both may have sold since. To decide which one is kept, an
operator needs to know when each was owned, its position, and what only one side has.
"""

import msgspec

from reservasi.errors import LedgerUnreachable
from reservasi.ledger.connection import LedgerConnection
from reservasi.ledger.journal.stream import Journal
from reservasi.ledger.stored_reservations import Holdings
from reservasi.model import State
from reservasi.records import OwnedRun, Records
from reservasi.worker.ledger_owner import FROM_LEDGER, Comparison, Ownership, compare_ledger

NAMES = {"this": "This side", "other": "The other side"}
DOCTOR = "reservasi doctor"
NAMED_MAX = 20  # reservations that are listed; all are counted
# it continues from the recorded position, so that nothing recorded is lost
GOES_ON = (Ownership.OWNED, Ownership.OWNABLE)


class Contents(msgspec.Struct, frozen=True):
    """The live reservations of one side: the seq of each hold, and the state."""

    live: dict[str, tuple[int, State]]

    def beyond(self, *others: "Contents") -> dict[str, State]:
        """What none of the others has, or has only as a hold."""
        return {
            id_: state
            for id_, (held_seq, state) in self.live.items()
            if not any(other.has(id_, held_seq, state) for other in others)
        }

    def has(self, id_: str, held_seq: int, state: State) -> bool:
        """Whether it has the reservation; a confirmed one must be confirmed here as well."""
        own = self.live.get(id_)
        return own is not None and own[0] == held_seq and (own[1] is State.CONFIRMED or state is State.HELD)


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One server's ledger of a program, compared with the records and the other side."""

    side: str  # "this", "other"
    error: str = ""  # why it could not be read
    verdict: Ownership | None = None  # its relation to the records
    epoch: int = 0
    seq: int = 0
    run_id: str = ""  # of its server, now
    changed_at_ms: int = 0  # time of the last journal entry
    confirmed: int = 0
    held: int = 0
    confirmed_not_recorded: int = 0  # that PostgreSQL does not have
    held_not_recorded: int = 0
    confirmed_only_here: int = 0  # that neither PostgreSQL nor the other side has
    held_only_here: int = 0
    named: tuple[str, ...] = ()  # the first of these confirmed ones


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of one program."""

    program: str
    recorded_epoch: int
    recorded_seq: int
    owned: tuple[OwnedRun, ...]  # every owned run of a server, in order
    sides: tuple[Side, ...]
    recommendation: str
    command: str  # the next one to run


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of one side."""

    found: Comparison
    contents: Contents
    changed_at_ms: int


async def look_at(
    program: str, connection: LedgerConnection, journal: Journal, records: Records
) -> Look | LedgerUnreachable:
    """Read one side, or return the fault.

    Raises:
        RecordsUnavailable: nothing can be compared without the records.
    """
    try:
        comparison = await compare_ledger(program, connection, journal, records)
        holdings = await Holdings.read(journal)
        changed_at_ms = await journal.last_entry_at_ms()
    except LedgerUnreachable as error:
        return error
    finally:
        await connection.drop()
    live = {id_: (kept.held_seq, kept.state) for id_, kept in holdings.reservations.items() if kept.state.live}
    return Look(found=comparison, contents=Contents(live), changed_at_ms=changed_at_ms)


async def compare_sides(
    program: str, this: Look | LedgerUnreachable, other: Look | LedgerUnreachable | None, records: Records, *, url: str
) -> Sides:
    """Compare the two with the records; `url` is the other side's address."""
    recorded = await _recorded(program, records)
    looks = {"this": this, "other": other}
    contents = {name: look.contents for name, look in looks.items() if isinstance(look, Look)}
    sides = []
    for name, look in looks.items():
        if isinstance(look, Look):
            sides.append(_side(name, look, recorded, [of for at, of in contents.items() if at != name]))
        elif look is not None:
            sides.append(Side(side=name, error=str(look)))
    owned = tuple(await records.owned_runs(program))
    position = await records.position(program)
    words, command = recommend(program, sides[0], sides[1] if len(sides) > 1 else None, owned, url=url)
    return Sides(
        program=program,
        recorded_epoch=position.epoch if position else 0,
        recorded_seq=position.seq if position else 0,
        owned=owned,
        sides=tuple(sides),
        recommendation=words,
        command=command,
    )


async def _recorded(program: str, records: Records) -> Contents:
    live: dict[str, tuple[int, State]] = {}
    async with records.standing(program) as standing:
        async for page in standing.live():
            live |= {id_: (kept.held_seq, kept.state) for id_, kept in page}
    return Contents(live)


def _side(name: str, look: Look, recorded: Contents, others: list[Contents]) -> Side:
    states = [state for _, state in look.contents.live.values()]
    unrecorded = look.contents.beyond(recorded)
    alone = look.contents.beyond(recorded, *others)
    meta = look.found.meta
    named = sorted(id_ for id_, state in alone.items() if state is State.CONFIRMED)
    return Side(
        side=name,
        verdict=look.found.verdict,
        epoch=meta.position.epoch,
        seq=meta.position.seq,
        run_id=meta.run_id,
        changed_at_ms=look.changed_at_ms,
        confirmed=states.count(State.CONFIRMED),
        held=states.count(State.HELD),
        confirmed_not_recorded=list(unrecorded.values()).count(State.CONFIRMED),
        held_not_recorded=list(unrecorded.values()).count(State.HELD),
        confirmed_only_here=len(named),
        held_only_here=len(alone) - len(named),
        named=tuple(named[:NAMED_MAX]),
    )


def recommend(
    program: str, this: Side, other: Side | None, owned: tuple[OwnedRun, ...], *, url: str
) -> tuple[str, str]:
    """What to do, and the next command."""
    if other is not None and _is_better(other, this):
        return _of_the_other(program, this, other, url)
    rest = _left_behind(other)
    from_ledger = FROM_LEDGER.format(program)
    match this.verdict:
        case None:
            words = f"This side does not answer ({this.error}): bring it back, or make another server the primary."
            return words, DOCTOR
        case Ownership.OWNED:
            return f"This side was owned last and sells: keep it.{rest}", f"reservasi reconcile --program {program}"
        case Ownership.OWNABLE | Ownership.MOVED:
            return f"This side continues from the recorded position: a worker owns it within a second.{rest}", DOCTOR
        case Ownership.DAMAGED:
            words = f"This side's position was damaged: a rebuild repairs it from journal and records.{rest}"
            return words, f"reservasi rebuild --program {program}"
        case Ownership.BEHIND | Ownership.LOADING:
            words = f"PostgreSQL has more than this side: rebuild it from there.{rest}"
            return words, f"reservasi rebuild --program {program}"
        case Ownership.RECORDS_OLD:
            return (
                f"The records are an older copy and lack changes of this side: restore them from it.{rest}",
                from_ledger,
            )
        case Ownership.UNREADABLE:
            return "Another release stored this side: start that release again.", "reservasi version"
        case _:
            return _of_two_histories(program, this, other, owned)


def _of_the_other(program: str, this: Side, other: Side, url: str) -> tuple[str, str]:
    if other.verdict is Ownership.RECORDS_OLD:
        words = "The records are an older copy and lack changes of the other side: restore them from it, then make it "
        return f"{words}the primary.{_left_behind(this)}", f"{FROM_LEDGER.format(program)} --redis-url {url}"
    words = (
        "The other side continues from the recorded position, so that nothing recorded is lost: make it the primary "
        "(fail over "
    )
    return f"{words}to it, or set redis_url to it).{_left_behind(this)}", f"{DOCTOR} --redis-url {url}"


def _of_two_histories(program: str, this: Side, other: Side | None, owned: tuple[OwnedRun, ...]) -> tuple[str, str]:
    if other is None:
        last = owned[-1] if owned else None
        named = f" (run {last.run_id}, epoch {last.epoch})" if last and last.run_id else ""
        words = (
            f"This side is {this.verdict}. Read the server that was owned last{named} before you discard anything; "
            "if it is lost, give its address nevertheless."
        )
        return words, f"reservasi ledger compare --program {program} --other-redis-url redis://HOST:PORT"
    second = " --discard-confirmed" if this.confirmed_not_recorded else ""
    lost = f"{this.confirmed_not_recorded} confirmed bookings and {this.held_not_recorded} holds of this side"
    words = (
        "No side that answers continues from the recorded position. Copy both stores, then rebuild this side from "
        f"PostgreSQL; {lost} are lost. Every answer 200 is in PostgreSQL.{_left_behind(other)}"
    )
    return words, f"reservasi rebuild --program {program} --discard{second}"


def _is_better(other: Side, this: Side) -> bool:
    """Whether the other side loses less: only it continues from the records, or it is further ahead."""
    if other.verdict in GOES_ON:
        return this.verdict not in GOES_ON or (other.epoch, other.seq) > (this.epoch, this.seq)
    return other.verdict is Ownership.RECORDS_OLD and this.verdict not in (*GOES_ON, Ownership.RECORDS_OLD)


def _left_behind(side: Side | None) -> str:
    """What is lost with a side that is not kept."""
    if side is None or side.verdict is None or not (side.confirmed_only_here or side.held_only_here):
        return ""
    return (
        f" {NAMES[side.side]} has {side.confirmed_only_here} confirmed reservations and "
        f"{side.held_only_here} holds that no other store has: keep a copy of it. None of them was answered 200; the "
        "confirmed ones are named, and their people have to book again."
    )
