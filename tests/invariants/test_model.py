"""Several fronts, real deadlines and returns: every change in the journal keeps the promises."""

import asyncio
import random

from reservasi.events import (
    AnyEvent,
    Confirmed,
    Ended,
    Held,
    OpeningRetired,
    OpeningSet,
    QuotaRetired,
    QuotaSet,
    Returned,
    Unreadable,
)
from reservasi.ledger.group_commit import GroupCommit
from reservasi.model import (
    Answer,
    Cancel,
    Claim,
    Command,
    Confirm,
    Outcome,
    QuotaCounts,
    Release,
    SetQuota,
    State,
    Sweep,
)
from tests.ledgers import Ledger, open_group, open_ledger, quota_set

QUOTAS = [f"p.o.s.20261201.{number:04}.online" for number in range(4)]
FRONTS, PEOPLE_A_FRONT, PERSONS = 3, 200, 150
ARRIVALS_S = 0.4


class Replay:
    """The journal folded event by event, with nothing but its own words."""

    def __init__(self) -> None:
        self.capacity: dict[str, int] = {}
        self.version: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.confirmed: dict[str, int] = {}
        self.returning: dict[str, int] = {}
        self.live: dict[str, Held] = {}
        self.states: dict[str, State] = {}
        self.persons: dict[str, str] = {}

    def apply(self, event: AnyEvent) -> None:
        match event:
            case OpeningSet() | OpeningRetired() | QuotaRetired():
                raise AssertionError("nobody opens or retires anything here")
            case QuotaSet():
                self.capacity[event.quota] = event.terms.capacity
                assert event.version == self.version.get(event.quota, 0) + 1
                self.version[event.quota] = event.version
                for counts in (self.held, self.confirmed, self.returning):
                    counts.setdefault(event.quota, 0)
            case Held():
                assert event.reservation_id not in self.states, "an id is used once"
                for person in event.persons:
                    assert person not in self.persons, "a person has one live reservation"
                    self.persons[person] = event.reservation_id
                self.live[event.reservation_id] = event
                self.states[event.reservation_id] = State.HELD
                self.held[event.quota] += event.places
            case Confirmed():
                assert self.states[event.reservation_id] is State.HELD
                self.states[event.reservation_id] = State.CONFIRMED
                self.held[event.quota] -= event.places
                self.confirmed[event.quota] += event.places
            case Ended():
                self._end(event)
            case Returned():
                self.returning[event.quota] -= event.places
            case Unreadable():
                raise AssertionError(f"this version wrote what it cannot read: {event.why}")
        taken = self.held[event.quota] + self.confirmed[event.quota] + self.returning[event.quota]
        assert taken <= self.capacity[event.quota], "a place is sold once"
        assert min(self.held[event.quota], self.confirmed[event.quota], self.returning[event.quota]) >= 0

    def _end(self, event: Ended) -> None:
        was = State.CONFIRMED if event.state is State.CANCELLED else State.HELD
        assert self.states[event.reservation_id] is was
        self.states[event.reservation_id] = event.state
        held = self.live.pop(event.reservation_id)
        assert (held.quota, held.places) == (event.quota, event.places)
        for person in held.persons:
            del self.persons[person]
        if was is State.CONFIRMED:
            self.confirmed[event.quota] -= event.places
        else:
            self.held[event.quota] -= event.places
        if event.returns_at_ms:
            self.returning[event.quota] += event.places


async def _visit(front: GroupCommit, number: int, answers: dict[int, Answer]) -> None:
    """One person's way: claim, then confirm, give up, walk away or cancel; each answer under its seq."""
    rng = random.Random(number)
    persons = tuple(f"p{at}" for at in rng.sample(range(PERSONS), rng.randint(1, 3)))
    reservation_id = f"r{number}"
    claim = Claim(reservation_id=reservation_id, quota=rng.choice(QUOTAS), fingerprint="f", sealed="s", persons=persons)
    later: list[Command] = [
        Confirm(reservation_id=reservation_id),
        Release(reservation_id=reservation_id),
        Cancel(reservation_id=reservation_id),
    ]
    await asyncio.sleep(rng.random() * ARRIVALS_S)
    for command in (claim, *rng.sample(later, rng.randint(0, 3))):
        answer = await front.submit(command)
        if answer.outcome in (Outcome.HELD, Outcome.CONFIRMED, Outcome.RELEASED, Outcome.CANCELLED):
            assert answer.seq not in answers, "each change has its own seq"
            answers[answer.seq] = answer
        await asyncio.sleep(rng.random() / 100)


async def _disturb(front: GroupCommit) -> None:
    """Staff change quotas and sweepers sweep meanwhile."""
    rng = random.Random(0)
    for _ in range(60):
        await front.submit(Sweep(items_max=rng.choice([1, 10, 500])))
        await front.submit(SetQuota(quota=rng.choice(QUOTAS), capacity=rng.randint(0, 40)))


async def _assert_told_is_what_happened(ledger: Ledger, answers: dict[int, Answer]) -> None:
    outcomes = {State.RELEASED: Outcome.RELEASED, State.CANCELLED: Outcome.CANCELLED}
    replay = Replay()
    count = 0
    for entry in await ledger.entries():
        for event in entry.events:
            replay.apply(event)
            answer = answers.get(event.seq)
            if answer is not None:
                count += 1
                assert not isinstance(event, OpeningSet | OpeningRetired | Unreadable)
                happened = {Held: Outcome.HELD, Confirmed: Outcome.CONFIRMED}.get(type(event))
                assert answer.outcome is (outcomes[event.state] if isinstance(event, Ended) else happened)
                assert (answer.quota, answer.places) == (event.quota, getattr(event, "places", 0))
    assert count == len(answers), "whatever was answered is in the journal"
    for quota in (await ledger.snapshot()).quotas:
        assert quota.counts == QuotaCounts(
            held=replay.held[quota.id],
            confirmed=replay.confirmed[quota.id],
            returning=replay.returning[quota.id],
            version=replay.version[quota.id],
        )
        assert quota.terms.capacity == replay.capacity[quota.id]


async def test_fronts_at_once_keep_every_promise(valkey_url: str, program: str) -> None:
    late = {"hold_ms": 8, "return_min_ms": 1, "return_max_ms": 10}
    answers: dict[int, Answer] = {}
    async with (
        open_ledger(valkey_url, program) as ledger,
        open_group(valkey_url, program, batch_items_max=16) as first,
        open_group(valkey_url, program, batch_items_max=64) as second,
        open_group(valkey_url, program, batch_items_max=256) as third,
    ):
        await ledger.run(*(quota_set(quota, 20, **(late if at % 2 else {})) for at, quota in enumerate(QUOTAS)))
        fronts = (first, second, third)
        assert len(fronts) == FRONTS
        visits = [
            _visit(front, at * PEOPLE_A_FRONT + number, answers)
            for at, front in enumerate(fronts)
            for number in range(PEOPLE_A_FRONT)
        ]
        await asyncio.gather(*visits, _disturb(first))
        assert len(answers) > 50
        assert {answer.outcome for answer in answers.values()} >= {Outcome.HELD, Outcome.CONFIRMED, Outcome.RELEASED}
        await _assert_told_is_what_happened(ledger, answers)
