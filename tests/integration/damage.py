"""A small program with every kind of stored value, one of which is damaged, and the expected answers."""

import itertools
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from reservasi.errors import ItemDamaged, ReservasiError
from reservasi.events import Confirmed, Ended, Held
from reservasi.ledger import keys
from reservasi.ledger.topology.clients import text
from reservasi.ledger.wire import messages
from reservasi.ledger.wire.openings import decode_stored
from reservasi.ledger.wire.stored_forms import QUOTA_HEAD, decode_facts, decode_quota, decode_timers, encode_quota
from reservasi.model import Cancel, Claim, Command, Confirm, Find, Join, Release, Sweep
from tests.ledgers import Ledger, claim, frames_of, opening_set, quota_set

QUOTAS = ("p.o.s.20990101.0800.online", "p.o.s.20990101.0900.online", "p.o.s.20990101.1000.online")
ROOMY = "p.o.s.20990101.1100.online"  # where nobody's place depends on who else is refused
CAPACITY = 12
OPENING = "p-1"
JOINED = 40
RETURN_MS = 3_600_000
HASHES = (keys.quotas, keys.facts, keys.reservations, keys.persons, keys.names, keys.openings, keys.meta)
SORTED_SETS = (keys.due, keys.timers, keys.tombstones)
OTHERS = (keys.journal, keys.recorded, keys.dead_letters)
KEYS = (*HASHES, *SORTED_SETS, *OTHERS)
WHOLE = "*"


@dataclass
class Population:
    """Who has what in a program; the same ids and persons in each, so that two can be compared."""

    held: list[Claim] = field(default_factory=list)
    confirmed: list[Claim] = field(default_factory=list)
    ended: list[Claim] = field(default_factory=list)

    @property
    def everybody(self) -> list[Claim]:
        return [*self.held, *self.confirmed, *self.ended]


def person(name: str, at: int = 0) -> str:
    return f"person-{name}-{at}"


def claim_of(name: str, quota: str, places: int = 1) -> Claim:
    return claim([person(name, at) for at in range(places)], quota, reservation_id=f"r-{name}")


async def populate(ledger: Ledger) -> Population:
    """Quotas with holds, bookings, ended reservations and places on their way back; people who wait for an opening."""
    population = Population()
    await ledger.run(
        opening_set(OPENING),
        quota_set(ROOMY, capacity=100 * CAPACITY),
        *(quota_set(quota, capacity=CAPACITY, return_min_ms=RETURN_MS, return_max_ms=RETURN_MS) for quota in QUOTAS),
    )
    for number, quota in enumerate(QUOTAS):
        population.held += [claim_of(f"h{number}{at}", quota, 1 + at % 2) for at in range(2)]
        population.confirmed += [claim_of(f"c{number}{at}", quota, 1 + at % 2) for at in range(2)]
        population.ended += [claim_of(f"k{number}", quota), claim_of(f"r{number}", quota)]
    await ledger.run(*population.everybody)
    cancelled = [each for each in population.ended if each.reservation_id[2] == "k"]
    released = [each for each in population.ended if each.reservation_id[2] == "r"]
    await ledger.run(
        *(Confirm(reservation_id=each.reservation_id) for each in [*population.confirmed, *cancelled]),
        *(Cancel(reservation_id=each.reservation_id) for each in cancelled),
        *(Release(reservation_id=each.reservation_id) for each in released),
        *(Join(opening=OPENING, ticket_id=f"ticket-{at}") for at in range(JOINED)),
    )
    return population


def mixed_batch(of: Population) -> list[Command]:
    """Something of everything, by everybody; more claims than there is room for."""
    ids = [each.reservation_id for each in of.everybody]
    new = [claim_of(f"n{number}{at}", quota) for number, quota in enumerate(QUOTAS) for at in range(CAPACITY)]
    again = [claim_of(f"a{each.reservation_id}", ROOMY) for each in of.everybody]
    duplicates = [
        claim([each.persons[0]], ROOMY, reservation_id=f"d-{each.reservation_id}") for each in [*of.held, *of.confirmed]
    ]
    return [
        *(Find(reservation_id=id_) for id_ in ids),
        *(Confirm(reservation_id=each.reservation_id) for each in of.held),
        *(Cancel(reservation_id=each.reservation_id) for each in of.confirmed[::2]),
        *(Find(reservation_id=id_) for id_ in ids),
        Sweep(items_max=100),
        *of.everybody,  # replays
        *duplicates,
        *itertools.chain(*zip(new[:CAPACITY], new[CAPACITY : 2 * CAPACITY], new[2 * CAPACITY :], strict=True)),
        *again,
        *(Join(opening=OPENING, ticket_id=f"ticket-{at}") for at in range(0, JOINED + 9, 3)),
    ]


async def answers_to(ledger: Ledger, commands: Sequence[Command]) -> list[tuple[object, ...]]:
    """What everybody hears, without what differs from ledger to ledger."""
    replies = await ledger.connection.call(frames_of(commands), 30.0)
    answers: list[tuple[object, ...]] = []
    for raw in replies:
        assert not isinstance(raw, ReservasiError), raw
        reply = messages.decode_reply(raw)
        if reply.fenced:
            of_kind = next(itertools.groupby(commands[len(answers) :], type))[1]
            answers += [("fenced",) for _ in of_kind]
            continue
        for at in range(len(reply.answers)):
            command = commands[len(answers)]
            try:
                answer = messages.decode_answer(reply, at, command)
            except ItemDamaged:
                answers.append(("damaged",))
                continue
            answers.append((answer.outcome, answer.state, answer.quota, answer.places, answer.joined))
    assert len(answers) == len(commands)
    return answers


def subjects(command: Command) -> set[str]:
    """What a command is about."""
    match command:
        case Claim():
            return {command.reservation_id, command.quota, *command.persons}
        case Join():
            return {command.opening}
        case Sweep():
            return set()
    return {command.reservation_id}  # type: ignore[union-attr]


@dataclass(frozen=True)
class Place:
    """Where one value stands."""

    key_of: Callable[[str], str]
    field: str  # of a hash or a sorted set; WHOLE the key itself

    @property
    def name(self) -> str:
        return self.key_of("").removeprefix("{}:")

    def __repr__(self) -> str:
        return f"{self.name} {self.field}"


async def places_in(ledger: Ledger) -> list[Place]:
    """Everything that can be damaged, in the same order in every program."""
    places = [Place(key_of, WHOLE) for key_of in KEYS]
    client: Any = ledger.client
    for key_of in HASHES:
        places += [Place(key_of, text(each)) for each in sorted(await client.hkeys(key_of(ledger.program)))]
    for key_of in SORTED_SETS:
        members = sorted(await client.zrange(key_of(ledger.program), 0, -1))
        places += [Place(key_of, text(each)) for each in members]
    for which in ("before", "late"):
        places.append(Place(lambda program, which=which: f"{keys.joined(program)}:{OPENING}:{which}", WHOLE))  # type: ignore[misc]
    return places


async def value_at(ledger: Ledger, place: Place) -> bytes:
    """The value as it is; a sorted set's member is its own value."""
    if place.field == WHOLE:
        return b""
    if place.key_of in HASHES:
        client: Any = ledger.client
        value: bytes = await client.hget(place.key_of(ledger.program), place.field)
        return value
    return place.field.encode()


async def put(ledger: Ledger, place: Place, value: bytes | None) -> None:
    """Replace the value; None removes it. A whole key becomes a string, or goes."""
    client: Any = ledger.client
    key = place.key_of(ledger.program)
    if place.field == WHOLE:
        await client.delete(key)
        if value is not None:
            await client.set(key, value)
    elif place.key_of in HASHES:
        await (client.hdel(key, place.field) if value is None else client.hset(key, place.field, value))
    else:
        score = await client.zscore(key, place.field)
        await client.zrem(key, place.field)
        if value is not None:
            await client.zadd(key, {value: score})


def is_well_formed(place: Place, value: bytes) -> bool:
    """Whether the functions may have written such a value there: that it is wrong, only a comparison can tell."""
    name = place.name
    try:
        if name == "quotas":
            quota = decode_quota(value)
            return encode_quota(quota)[QUOTA_HEAD.size :] == value[QUOTA_HEAD.size :] and quota.number < 2**24
        if name == "reservations":
            state, number, _, deadline, held_seq, later, _, *persons = msgpack.unpackb(value)
            return state in messages.STATES and bool(persons) and min(number, deadline, held_seq, later) >= 0
        if name == "facts":
            return bool(decode_facts(value))
        if name == "openings":
            return bool(decode_stored("o", value))
        if name == "timers":
            return bool(decode_timers([value], {}))
    except (ValueError, TypeError, KeyError, struct.error):
        return False
    return name in ("persons", "tombstones", "due", "recorded")


def affected_by(place: Place, of: Population) -> set[str]:
    """Whose requests may be refused: those about the damaged item."""
    name, field_ = place.name, place.field
    if field_ == WHOLE and (name.startswith("joined") or name == "openings"):
        return {OPENING}
    if field_ == WHOLE and name in ("due", "tombstones", "recorded", "dead", "journal", "facts"):
        return set()
    if name == "openings":
        return {field_}
    if name in ("quotas", "facts", "names"):
        quota = (ROOMY, *QUOTAS)[int(field_) - 1] if name == "names" and field_ != WHOLE else field_
        return _of_reservations([each for each in of.everybody if field_ == WHOLE or each.quota == quota]) | {quota}
    if name == "timers" and field_ != WHOLE:
        return _of_reservations([each for each in of.everybody if field_.endswith(each.reservation_id)])
    return _of_reservations([each for each in of.everybody if field_ in (WHOLE, each.reservation_id, *each.persons)])


def _of_reservations(claims: Sequence[Claim]) -> set[str]:
    return {subject for each in claims for subject in (each.reservation_id, *each.persons)}


async def taken_places(ledger: Ledger) -> Counter[str]:
    """How many places of each quota are held or confirmed, as the journal tells it."""
    taken: Counter[str] = Counter()
    for entry in await ledger.entries():
        for event in entry.events:
            match event:
                case Held():
                    taken[event.quota] += len(event.persons)
                case Ended():
                    taken[event.quota] -= event.places
                case Confirmed():
                    continue
    return taken
