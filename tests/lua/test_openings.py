"""Openings in the ledger: allowed changes, counting, the final draw, and the mark."""

from typing import Any

import msgpack
import pytest
from msgspec.structs import replace

from reservasi.events import OpeningSet
from reservasi.ledger import keys
from reservasi.ledger.wire.openings import FIELDS, FIRST_FIELDS, decode_opening
from reservasi.model import Admit, Answer, Join, MoveOpening, Opening, Outcome, SetOpening
from tests.ledgers import HOUR_MS, Ledger, opening_of, opening_set, opening_terms

MINUTE_MS = 60_000
BYTES_A_PERSON, BYTES_IN_ANY_CASE = 3.3, 16_384
O = "p-1"  # noqa: E741 - as the Lua has it


def join(ticket_id: str, opening: str = O) -> Join:
    return Join(opening=opening, ticket_id=ticket_id)


def admit(controller: str = "a", *, lease_ms: int = 5000, rate: int = 0, opening: str = O) -> Admit:
    return Admit(opening=opening, controller=controller, lease_ms=lease_ms, rate_per_min=rate)


async def _outcome(ledger: Ledger, command: SetOpening | MoveOpening | Join | Admit) -> Outcome:
    return (await ledger.one(command)).outcome


async def _move_clock(ledger: Ledger, opening: str = O, **fields: int) -> None:
    """Let moments of the stored record lie elsewhere, as if time had passed."""
    stored: Any = await ledger.client.hget(keys.openings(ledger.program), opening)
    terms, *rest = msgpack.unpackb(stored)
    names = (*FIELDS[:FIRST_FIELDS], "leader", "lease_until_ms", *FIELDS[FIRST_FIELDS:])
    for name, value in fields.items():
        if name in names:
            rest[names.index(name)] = value
        else:
            terms[("opens_at_ms", "joins_from_ms", "ends_at_ms").index(name)] = value
    await ledger.client.hset(keys.openings(ledger.program), opening, msgpack.packb([terms, *rest], use_bin_type=False))


async def _open(ledger: Ledger, *, since_ms: int = 0, opening: str = O) -> int:
    """Let the opening have begun so long ago; returns the moment."""
    opens_at_ms = await ledger.now_ms() - since_ms
    await _move_clock(ledger, opening, opens_at_ms=opens_at_ms)
    return opens_at_ms


async def _events(ledger: Ledger) -> list[Opening]:
    events = [event for entry in await ledger.entries() for event in entry.events]
    return [event.opening for event in events if isinstance(event, OpeningSet)]


# -- set_opening -------------------------------------------------------------------------------------------------


async def test_an_opening_is_created_as_given_and_the_journal_has_it(ledger: Ledger) -> None:
    given = opening_set(adaptive=True, proof_of_work=True, rate_max_per_min=900)
    created = await ledger.one(given)
    assert (created.outcome, created.version, created.seq) == (Outcome.OPENING_SET, 1, 1)
    expected = opening_of(adaptive=True, proof_of_work=True, rate_max_per_min=900)
    assert await ledger.opening() == expected
    assert await _events(ledger) == [expected]


async def test_set_opening_peels_off_its_refusals_in_order(ledger: Ledger) -> None:
    assert await _outcome(ledger, SetOpening(opening=O, paused=True)) is Outcome.UNKNOWN_OPENING
    assert await _outcome(ledger, replace(opening_set(), version=1)) is Outcome.UNKNOWN_OPENING
    await ledger.one(opening_set())
    for same in (opening_set(), SetOpening(opening=O, paused=False), replace(opening_set(), version=7)):
        again = await ledger.one(same)
        assert (again.outcome, again.version) == (Outcome.EXISTS, 1)
    other = await ledger.one(opening_set(rate_per_min=5))
    assert (other.outcome, other.version) == (Outcome.EXISTS_WITH_DIFFERENT_CONTENT, 1)
    stale = await ledger.one(replace(opening_set(rate_per_min=5), version=7))
    assert (stale.outcome, stale.version) == (Outcome.VERSION_MISMATCH, 1)
    assert await _outcome(ledger, SetOpening(opening=O, paused=True, version=7)) is Outcome.VERSION_MISMATCH
    changed = await ledger.one(replace(opening_set(rate_per_min=5), version=1))
    assert (changed.outcome, changed.version) == (Outcome.OPENING_SET, 2)
    assert (await ledger.opening()).rate_per_min == 5


async def test_one_moment_has_one_opening(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    assert await _outcome(ledger, opening_set("p-2")) is Outcome.EXISTS_WITH_DIFFERENT_CONTENT
    together = await ledger.run(opening_set("p-3", opens_at_ms=5), opening_set("p-4", opens_at_ms=5))
    assert [answer.outcome for answer in together] == [Outcome.OPENING_SET, Outcome.EXISTS_WITH_DIFFERENT_CONTENT]
    onto = replace(opening_set(opens_at_ms=5), version=1)
    assert await _outcome(ledger, onto) is Outcome.EXISTS_WITH_DIFFERENT_CONTENT
    elsewhere = replace(opening_set(opens_at_ms=4_000_000_000_001), version=1)
    assert await _outcome(ledger, elsewhere) is Outcome.TOO_LATE  # its quotas would stay behind
    assert await _outcome(ledger, MoveOpening(opening=O, opens_at_ms=4_000_000_000_001)) is Outcome.OPENING_SET
    assert await _outcome(ledger, opening_set("p-2")) is Outcome.OPENING_SET  # the moment is free again


async def test_two_openings_of_one_moment_have_no_office_in_common(ledger: Ledger) -> None:
    assert await _outcome(ledger, opening_set(offices=("kanim", "mpp"))) is Outcome.OPENING_SET
    for other in ((), ("kanim",), ("mpp", "ulp"), ("kanim", "mpp")):
        assert await _outcome(ledger, opening_set("p-2", offices=other)) is Outcome.EXISTS_WITH_DIFFERENT_CONTENT
    together = await ledger.run(*(opening_set(f"p-{number}", offices=("kan", "ulp")) for number in (2, 3)))
    assert [answer.outcome for answer in together] == [Outcome.OPENING_SET, Outcome.EXISTS_WITH_DIFFERENT_CONTENT]
    assert await _outcome(ledger, opening_set("p-2", offices=("kan", "ulp"))) is Outcome.EXISTS
    wider = replace(opening_set(offices=("kan",)), version=1)
    assert await _outcome(ledger, wider) is Outcome.EXISTS_WITH_DIFFERENT_CONTENT
    assert (await ledger.opening("p-2")).terms.offices == ("kan", "ulp")
    assert [event.terms.offices for event in await _events(ledger)] == [("kanim", "mpp"), ("kan", "ulp")]
    assert await _outcome(ledger, replace(opening_set(offices=("mpp",)), version=1)) is Outcome.OPENING_SET
    assert await _outcome(ledger, opening_set("p-3", offices=("kanim",))) is Outcome.OPENING_SET


async def test_an_opening_takes_no_quota_from_one_that_people_can_join(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    await ledger.run(
        opening_set(offices=("kanim",)),
        opening_set("p-2", offices=("ulp",), joins_from_ms=now_ms + HOUR_MS),
        opening_set("p-3", opens_at_ms=4_000_000_000_001, waiting_room=False),
    )
    joined, announced, plain = (4_000_000_000_000, "kanim"), (4_000_000_000_000, "ulp"), (4_000_000_000_001, "mpp")
    wanted = opening_set("p-4", opens_at_ms=4_000_000_000_009)
    before = await ledger.dump()
    for takes in ((joined,), (plain, announced, joined)):
        refused = await ledger.one(replace(wanted, takes=takes))
        assert (refused.outcome, refused.opening, refused.version) == (Outcome.OF_OPENING, O, 0)
    assert await ledger.dump() == before
    nobodys = (4_000_000_000_000, "mpp")
    assert await _outcome(ledger, replace(wanted, takes=(announced, plain, nobodys))) is Outcome.OPENING_SET
    assert await _outcome(ledger, replace(wanted, takes=(joined,))) is Outcome.EXISTS
    await _move_clock(ledger, ends_at_ms=now_ms - 1)  # nobody joins it any more
    later = opening_set("p-5", opens_at_ms=4_000_000_000_010)
    assert await _outcome(ledger, replace(later, takes=(joined,))) is Outcome.OPENING_SET


@pytest.mark.parametrize("lacking", [1, 2])
async def test_an_opening_that_was_stored_without_offices_is_one_of_all(ledger: Ledger, lacking: int) -> None:
    """Nor does one of an earlier version name where its beacon comes from."""
    await ledger.one(opening_set())
    stored: Any = await ledger.client.hget(keys.openings(ledger.program), O)
    terms, *rest = msgpack.unpackb(stored)
    assert [terms.pop() for _ in range(lacking)] == [""] * lacking
    await ledger.client.hset(keys.openings(ledger.program), O, msgpack.packb([terms, *rest], use_bin_type=False))
    assert (await ledger.opening()).terms == opening_terms()
    assert await _outcome(ledger, opening_set()) is Outcome.EXISTS
    assert await _outcome(ledger, opening_set("p-2", offices=("kanim",))) is Outcome.EXISTS_WITH_DIFFERENT_CONTENT
    assert await _outcome(ledger, SetOpening(opening=O, paused=True)) is Outcome.OPENING_SET
    assert (await _events(ledger))[-1].terms == opening_terms()
    old = decode_opening("p-1", terms, *rest[: len(FIELDS)])  # as an earlier version's event
    assert old.terms == opening_terms()


async def test_where_the_beacon_comes_from_is_said_once(ledger: Ledger) -> None:
    with_source, without_source = opening_set(beacon_source="drand, round 7"), opening_set()
    assert await _outcome(ledger, with_source) is Outcome.OPENING_SET
    assert (await ledger.opening()).terms.beacon_source == "drand, round 7"
    assert await _outcome(ledger, with_source) is Outcome.EXISTS
    assert await _outcome(ledger, without_source) is Outcome.EXISTS_WITH_DIFFERENT_CONTENT
    before = await ledger.dump()
    for other in (without_source, opening_set(beacon_source="drand, round 8")):
        assert await _outcome(ledger, replace(other, version=1)) is Outcome.TOO_LATE
    assert await ledger.dump() == before
    assert await _outcome(ledger, SetOpening(opening=O, beacon="3a7f")) is Outcome.OPENING_SET
    assert (await _events(ledger))[-1].terms.beacon_source == "drand, round 7"


async def test_the_first_commitment_stays(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    again = opening_set(commitment="d" * 64, sealed_seed="k1.another")
    assert await _outcome(ledger, again) is Outcome.EXISTS
    later = opening_set(commitment="d" * 64, sealed_seed="k1.another", ends_at_ms=4_200_000_000_000)
    assert await _outcome(ledger, replace(later, version=1)) is Outcome.OPENING_SET
    terms = (await ledger.opening()).terms
    assert terms == opening_terms(ends_at_ms=4_200_000_000_000)


async def test_a_beacon_is_entered_once_and_before_the_opening(ledger: Ledger) -> None:
    await ledger.run(opening_set(), opening_set("p-2", opens_at_ms=4_000_000_000_001))
    assert await _outcome(ledger, SetOpening(opening=O, beacon="lotto 7")) is Outcome.OPENING_SET
    assert await _outcome(ledger, SetOpening(opening=O, beacon="lotto 7")) is Outcome.EXISTS
    assert await _outcome(ledger, SetOpening(opening=O, beacon="lotto 8")) is Outcome.TOO_LATE
    await _open(ledger, opening="p-2")
    assert await _outcome(ledger, SetOpening(opening="p-2", beacon="lotto 7")) is Outcome.TOO_LATE
    assert ((await ledger.opening()).beacon, (await ledger.opening("p-2")).beacon) == ("lotto 7", "")


async def test_what_was_announced_is_fixed_once_it_has_opened(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    opens_at_ms = await _open(ledger)
    changes: list[dict[str, Any]] = [
        {"opens_at_ms": opens_at_ms + HOUR_MS},
        {"joins_from_ms": 1},
        {"waiting_room": False},
        {"offices": ("kanim",)},
    ]
    for change in changes:
        changed = opening_set(**{"opens_at_ms": opens_at_ms, **change})
        assert await _outcome(ledger, replace(changed, version=1)) is Outcome.TOO_LATE
    still = opening_set(opens_at_ms=opens_at_ms, ends_at_ms=4_200_000_000_000, rate_per_min=30)
    assert await _outcome(ledger, replace(still, version=1)) is Outcome.OPENING_SET
    assert await _outcome(ledger, SetOpening(opening=O, paused=True)) is Outcome.OPENING_SET


async def test_a_rate_that_staff_fixed_stays_until_they_let_go_of_it(ledger: Ledger) -> None:
    await ledger.one(opening_set(adaptive=True, rate_max_per_min=900))
    assert (await ledger.one(admit(rate=700))).rate_per_min == 700
    assert (await ledger.one(admit(rate=5000))).rate_per_min == 900
    await ledger.one(SetOpening(opening=O, rate_per_min=50))
    assert (await ledger.one(admit(rate=700))).rate_per_min == 50
    assert (await ledger.opening()).rate_fixed
    await ledger.one(SetOpening(opening=O, rate_per_min=0))
    assert (await ledger.opening()).rate_per_min == 600
    assert (await ledger.one(admit(rate=700))).rate_per_min == 700
    await ledger.one(opening_set("p-2", opens_at_ms=3_900_000_000_000))
    assert (await ledger.one(admit(rate=700, opening="p-2"))).rate_per_min == 600  # it does not adapt


# -- join --------------------------------------------------------------------------------------------------------


async def test_join_peels_off_its_refusals_in_order(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    assert await _outcome(ledger, join("t")) is Outcome.UNKNOWN_OPENING
    await ledger.one(opening_set(waiting_room=False, joins_from_ms=now_ms + HOUR_MS))
    assert await _outcome(ledger, join("t")) is Outcome.NO_WAITING_ROOM
    await ledger.one(replace(opening_set(joins_from_ms=now_ms + HOUR_MS), version=1))
    not_open = await ledger.one(join("t"))
    assert (not_open.outcome, not_open.opens_at_ms) == (Outcome.NOT_OPEN, now_ms + HOUR_MS)
    await _move_clock(ledger, joins_from_ms=0, ends_at_ms=now_ms)
    assert await _outcome(ledger, join("t")) is Outcome.CLOSED
    await _move_clock(ledger, ends_at_ms=now_ms + HOUR_MS)
    joined = await ledger.one(join("t"))
    assert (joined.outcome, joined.number, joined.joined) == (Outcome.JOINED, -1, 0)


async def test_joins_leave_no_event_and_nothing_of_the_person(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    before = await ledger.dump()
    await ledger.run(*(join(f"ticket-{number}") for number in range(500)))
    after = await ledger.dump()
    people = f"{keys.joined(ledger.program)}:{O}:before".encode()
    assert after.keys() - before.keys() == {people}
    assert {key: value for key, value in after.items() if key != people} == before
    assert b"ticket-1" not in (after[people] or b"")
    assert await ledger.client.pttl(people.decode()) > 0


async def test_people_are_counted_not_joins(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    for _ in range(10):
        await ledger.run(*(join("the same") for _ in range(10_000)))
    assert (await ledger.one(admit())).joined == 1
    await ledger.run(*(join(f"t{number}") for number in range(999)))
    assert (await ledger.one(admit())).joined == 1000


async def test_the_first_who_comes_after_the_opening_settles_the_draw(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    await ledger.run(*(join(f"t{number}") for number in range(100)))
    opens_at_ms = await _open(ledger)
    late = await ledger.run(*(join(f"late{number}") for number in range(20)))
    (created, drawn) = await _events(ledger)
    assert drawn == replace(
        created,
        terms=replace(created.terms, opens_at_ms=opens_at_ms),
        drawn=True,
        joined=drawn.joined,
        arrived=drawn.joined,
        advanced_at_ms=opens_at_ms,
    )
    assert drawn.joined == 100
    assert {(answer.number, answer.joined) for answer in late} == {(late[0].number, drawn.joined)}
    assert late[0].number == 120
    # What became of the clock since does not matter.
    await _open(ledger, since_ms=-HOUR_MS)
    assert (await ledger.one(join("later"))).number >= late[0].number
    assert (await ledger.opening()).joined == drawn.joined


async def test_to_ask_again_never_gives_a_better_number(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    await ledger.run(*(join(f"t{number}") for number in range(50)))
    await _open(ledger)
    numbers = [(await ledger.one(join("eager"))).number]
    for at in range(20):
        await ledger.run(*(join(f"late{at}-{number}") for number in range(10)))
        numbers.append((await ledger.one(join("eager"))).number)
    assert numbers == sorted(numbers)
    assert numbers[-1] > numbers[0]
    repeated = await ledger.run(*(join("eager") for _ in range(1000)))
    assert {answer.number for answer in repeated} == {numbers[-1]}


async def test_who_joined_before_the_opening_gets_their_drawn_number_again(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    await ledger.run(*(join(f"t{number}") for number in range(60)))
    await _open(ledger)
    mixed = [join("t7"), join("late1"), join("t59"), join("late2"), join("t7")]
    answers = await ledger.run(*mixed)
    assert [answer.number for answer in answers] == [-1, 62, -1, 62, -1]
    assert {answer.joined for answer in answers} == {60}
    # Neither asking again nor the late ones change who joined before, or how many have come.
    again = await ledger.run(*mixed)
    assert [(answer.number, answer.joined) for answer in again] == [(answer.number, 60) for answer in answers]
    assert (await ledger.one(admit())).arrived == 62


async def test_everybody_is_counted_once_and_known_again(ledger: Ledger) -> None:
    """So many that pages are cut, and that their entries have become shorter."""
    people = [join(f"t{number}") for number in range(16_000)]
    await ledger.one(opening_set())
    for start in range(0, len(people), 500):
        await ledger.run(*people[start : start + 500], *people[max(start - 700, 0) : start])
    assert (await ledger.one(admit())).joined == len(people)
    await _open(ledger)
    for start in range(0, len(people), 4000):
        answers = await ledger.run(*people[start : start + 4000])
        assert {answer.number for answer in answers} == {-1}
    late = await ledger.run(*(join(f"late{number}") for number in range(4000)))
    assert {answer.number for answer in late} == {20_000}


@pytest.mark.parametrize("people", [1, 100, 1000, 15_000])
async def test_who_joined_takes_few_bytes_a_person(ledger: Ledger, people: int) -> None:
    """The greatest is one in which entries of three bytes have just begun: before, they have four, and five at first."""
    await ledger.one(opening_set())
    for start in range(0, people, 5000):
        await ledger.run(*(join(f"t{number}") for number in range(start, min(start + 5000, people))))
    used = 0
    async for key in ledger.client.scan_iter(match=f"{keys.joined(ledger.program)}*"):
        used += int(await ledger.client.memory_usage(key, samples=0) or 0)
        assert await ledger.client.pexpiretime(key) > 0
    assert used <= BYTES_A_PERSON * people + BYTES_IN_ANY_CASE


async def test_what_an_earlier_version_counted_is_left_alone(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    await ledger.client.pfadd(f"{keys.joined(ledger.program)}:{O}", "somebody")
    await ledger.one(join("t1"))
    assert (await ledger.one(admit())).joined == 1


async def test_openings_are_counted_apart_also_in_one_batch(ledger: Ledger) -> None:
    await ledger.run(opening_set(), opening_set("p-2", opens_at_ms=3_900_000_000_000))
    batch = [join(f"t{number}", O if number % 3 else "p-2") for number in range(300)]
    answers = await ledger.run(*batch, join("t", "p-none"))
    assert [answer.outcome for answer in answers] == [Outcome.JOINED] * 300 + [Outcome.UNKNOWN_OPENING]
    counted = [(await ledger.one(admit(opening=opening))).joined for opening in (O, "p-2")]
    assert counted == [200, 100]


async def test_a_ledger_that_lost_the_counters_counts_nobody_down(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    await ledger.run(*(join(f"t{number}") for number in range(100)))
    joined = (await ledger.one(admit())).joined
    await ledger.client.delete(f"{keys.joined(ledger.program)}:{O}:before")
    await ledger.one(join("t0"))
    assert (await ledger.one(admit())).joined == joined
    await _open(ledger)
    assert (await ledger.one(join("late"))).number == joined + 1
    assert (await ledger.opening()).joined == joined


# -- admit -------------------------------------------------------------------------------------------------------


async def test_admit_peels_off_its_refusals_in_order(ledger: Ledger) -> None:
    now_ms = await ledger.now_ms()
    assert await _outcome(ledger, admit()) is Outcome.UNKNOWN_OPENING
    await ledger.one(opening_set(waiting_room=False, ends_at_ms=now_ms))
    assert await _outcome(ledger, admit()) is Outcome.NO_WAITING_ROOM
    await ledger.one(replace(opening_set(ends_at_ms=now_ms), version=1))
    assert await _outcome(ledger, admit()) is Outcome.CLOSED
    await _move_clock(ledger, ends_at_ms=now_ms + HOUR_MS)
    assert await _outcome(ledger, admit("a")) is Outcome.ADVANCED
    assert await _outcome(ledger, admit("b")) is Outcome.NOT_LEADING
    assert await _outcome(ledger, admit("a")) is Outcome.ADVANCED
    await _move_clock(ledger, lease_until_ms=now_ms - 1)
    assert await _outcome(ledger, admit("b")) is Outcome.ADVANCED
    assert await _outcome(ledger, admit("a")) is Outcome.NOT_LEADING
    # A clock that was set back must not keep the lead for anybody.
    await _move_clock(ledger, lease_until_ms=now_ms + 24 * HOUR_MS)
    assert await _outcome(ledger, admit("a")) is Outcome.ADVANCED


async def test_an_opening_that_ended_before_anybody_drew_it_is_drawn_late_and_once(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    await ledger.run(*(join(f"t{number}") for number in range(7)))
    opens_at_ms = await _open(ledger, since_ms=1000)
    await _move_clock(ledger, ends_at_ms=opens_at_ms + 500)
    for _ in range(2):
        assert await _outcome(ledger, admit()) is Outcome.CLOSED
    states = [(event.drawn, event.joined, event.admitted_through) for event in await _events(ledger)]
    assert states == [(False, 0, 0), (True, 7, 0)]
    assert await _outcome(ledger, join("late")) is Outcome.CLOSED


async def test_before_the_opening_people_are_counted_and_nothing_moves(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    for ticket_id, joined in (("x", 1), ("x", 1), ("y", 2), ("y", 2)):
        await ledger.one(join(ticket_id))
        answer = await ledger.one(admit())
        assert (answer.joined, answer.arrived, answer.admitted_through) == (joined, joined, 0)
    states = [(event.joined, event.drawn) for event in await _events(ledger)]
    assert states == [(0, False), (1, False), (2, False)]  # one event a change, none without


async def _queue(ledger: Ledger, people: int, *, since_ms: int = 0, **terms: Any) -> Answer:
    """An opening that so many people joined, and that has begun; the first answer to a controller."""
    await ledger.one(opening_set(**terms))
    await ledger.run(*(join(f"t{number}") for number in range(people)))
    await _open(ledger, since_ms=since_ms)
    return await ledger.one(admit())


async def test_the_mark_moves_with_time_and_loses_no_part_of_a_step(ledger: Ledger) -> None:
    drawn = await _queue(ledger, 500, rate_per_min=600)
    assert drawn.joined == drawn.arrived == 500
    since_ms = (await ledger.opening()).terms.opens_at_ms
    marks = []
    answer = drawn
    while answer.admitted_through < 8:  # 0.8 s, in steps far shorter than that of one number
        answer = await ledger.one(admit())
        marks.append(answer.admitted_through)
        assert answer.admitted_through == (answer.now_ms - since_ms) // 100
    assert marks == sorted(marks)


async def test_the_mark_never_passes_who_has_arrived_and_late_ones_are_reached(ledger: Ledger) -> None:
    first = await _queue(ledger, 3, rate_per_min=6_000_000)
    await ledger.until(first.now_ms + 2)
    assert (await ledger.one(admit())).admitted_through == 3
    late = await ledger.one(join("late"))
    assert late.number == 4
    await ledger.until(late.now_ms + 2)
    reached = await ledger.one(admit())
    assert (reached.joined, reached.arrived, reached.admitted_through) == (3, 4, 4)


async def test_who_comes_when_nobody_waits_gets_no_saved_up_steps(ledger: Ledger) -> None:
    await _queue(ledger, 1, since_ms=5000, rate_per_min=600)
    await ledger.run(*(join(f"late{number}") for number in range(100)))
    assert (await ledger.one(admit())).admitted_through <= 5


async def test_a_pause_stops_the_mark_and_is_not_made_up_for(ledger: Ledger) -> None:
    await _queue(ledger, 500, since_ms=1000, rate_per_min=600)
    before = await ledger.one(admit())
    assert before.admitted_through >= 10
    await ledger.one(SetOpening(opening=O, paused=True))
    await ledger.one(admit())
    await _move_clock(ledger, advanced_at_ms=before.now_ms - 5000)
    paused = await ledger.one(admit())
    assert paused.admitted_through <= before.admitted_through + 1
    await ledger.one(SetOpening(opening=O, paused=False))
    assert (await ledger.one(admit())).admitted_through <= paused.admitted_through + 2


async def test_after_a_long_silence_ten_seconds_are_made_up_for(ledger: Ledger) -> None:
    answer = await _queue(ledger, 1000, since_ms=5 * MINUTE_MS, rate_per_min=600)
    assert answer.admitted_through == 100


async def test_a_clock_that_was_set_back_neither_stops_the_mark_nor_moves_it_back(ledger: Ledger) -> None:
    answer = await _queue(ledger, 1000, since_ms=1000, rate_per_min=6000)
    await _move_clock(ledger, advanced_at_ms=answer.now_ms + HOUR_MS)
    back = await ledger.one(admit())
    assert back.admitted_through == answer.admitted_through
    await ledger.until(back.now_ms + 50)
    assert (await ledger.one(admit())).admitted_through > back.admitted_through


async def test_another_controller_goes_on_from_the_same_mark(ledger: Ledger) -> None:
    answer = await _queue(ledger, 1000, since_ms=1000, rate_per_min=600)
    await _move_clock(ledger, lease_until_ms=answer.now_ms - 1)
    other = await ledger.one(admit("b"))
    assert other.outcome is Outcome.ADVANCED
    assert answer.admitted_through <= other.admitted_through <= answer.admitted_through + 2


async def test_every_step_is_in_the_journal_and_idle_calls_are_not(ledger: Ledger) -> None:
    await _queue(ledger, 10, since_ms=2000, rate_per_min=600)
    for _ in range(20):
        await ledger.one(admit())
    events = await _events(ledger)
    assert [event.admitted_through for event in events] == [0, 0, 10]
    assert [event.drawn for event in events] == [False, True, True]
    assert await ledger.opening() == replace(events[-1], advanced_at_ms=(await ledger.opening()).advanced_at_ms)


async def test_openings_belong_to_the_ledger_that_is_owned(ledger: Ledger) -> None:
    await ledger.one(opening_set())
    await ledger.client.delete(keys.quotas(ledger.program), keys.journal(ledger.program), keys.meta(ledger.program))
    assert await ledger.own() == "moved"  # it is not empty, though nothing says where it is
