"""The indexes of a view equal a full scan of its quotas, after any changes."""

from collections.abc import Iterable
from unittest import mock

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from reservasi import quota_state
from reservasi.availability import alternatives
from reservasi.availability.groups import Group, GroupKey
from reservasi.availability.view import ProgramView
from reservasi.events import (
    AnyEvent,
    Confirmed,
    Ended,
    Held,
    JournalEntry,
    OpeningRetired,
    OpeningSet,
    QuotaRetired,
    QuotaSet,
    Returned,
)
from reservasi.ledger.wire.messages import Snapshot
from reservasi.model import APPLICANTS_MAX, Opening, Quota, QuotaTerms, State
from tests.ledgers import opening_of, terms

NOW_MS_MAX = 60
MOMENTS = (0, 10, 20, 40)
OFFICES = ("kanim", "mpp", "ulp")
SERVICES = ("baru", "ganti")
CHANNELS = ("online", "walk-in")
DATES = ("2026-11-30", "2026-12-01")
STARTS = ("08:00", "08:10", "08:20", "10:00")
QUOTA_IDS = tuple(f"p.{number}" for number in range(12))
OPENING_IDS = ("p-1", "p-2")
LIMIT = 3

TERMS = st.builds(
    terms,
    st.integers(0, 7),
    opens_at_ms=st.sampled_from(MOMENTS),
    closes_at_ms=st.sampled_from((0, 15, 20, 50)),
    closed=st.sampled_from((False, False, False, True)),
    office=st.sampled_from(OFFICES),
    service=st.sampled_from(SERVICES),
    channel=st.sampled_from(CHANNELS),
    date=st.sampled_from(DATES),
    start=st.sampled_from(STARTS),
)
OPENINGS = st.builds(
    lambda id_, opens_at_ms, offices, cancelled, revised_at_ms: msgspec.structs.replace(
        opening_of(id_, opens_at_ms=opens_at_ms, offices=offices), cancelled=cancelled, revised_at_ms=revised_at_ms
    ),
    st.sampled_from(OPENING_IDS),
    st.sampled_from(MOMENTS[1:]),
    st.sampled_from(((), OFFICES[:1], OFFICES[1:])),
    st.booleans(),
    st.integers(0, 3),
)


class Reservation(msgspec.Struct, frozen=True):
    """Places that are held or booked."""

    id: str
    quota: str
    places: int
    confirmed: bool = False


class Views(RuleBasedStateMachine):
    """One view, its quotas changed in every way that a journal knows."""

    def __init__(self) -> None:
        super().__init__()
        self.view = ProgramView()
        self.now_ms = 0
        self.seq = 0
        self.version = 0
        self.live: list[Reservation] = []
        self.returning: list[tuple[str, int]] = []
        self.changed_at: dict[str, int] = {}
        self.offered: dict[tuple[alternatives.Offer, int], list[tuple[QuotaTerms, int]]] = {}

    def apply(self, *events: AnyEvent) -> None:
        self.version += 1
        entry = JournalEntry(epoch=1, first_seq=self.seq, at_ms=self.now_ms, chain="", payload=b"", events=events)
        before = dict(self.view.quotas), dict(self.view.opening_ids)
        self.view.apply(entry, self.version)
        for quota_id, quota in self.view.quotas.items():
            if before[0].get(quota_id) is not quota or before[1].get(quota_id) != self.view.opening_ids.get(quota_id):
                self.changed_at[quota_id] = self.version

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    @initialize(quotas=st.lists(st.tuples(st.sampled_from(QUOTA_IDS), TERMS), min_size=4, max_size=12))
    def begin(self, quotas: list[tuple[str, QuotaTerms]]) -> None:
        for quota_id, of_quota in quotas:
            self.set_quota(quota_id, of_quota)

    @rule(quota_id=st.sampled_from(QUOTA_IDS), of_quota=TERMS)
    def set_quota(self, quota_id: str, of_quota: QuotaTerms) -> None:
        self.apply(QuotaSet(seq=self.next_seq(), quota=quota_id, version=1, terms=of_quota))

    @precondition(lambda self: self.view.quotas)
    @rule(data=st.data())
    def set_capacity(self, data: st.DataObject) -> None:
        quota = data.draw(st.sampled_from(sorted(self.view.quotas.values(), key=lambda quota: quota.id)))
        changed = msgspec.structs.replace(quota.terms, capacity=data.draw(st.integers(0, 7)))
        self.set_quota(quota.id, changed)

    @precondition(lambda self: self.with_room())
    @rule(data=st.data(), persons=st.lists(st.integers(1, APPLICANTS_MAX), min_size=1, max_size=3))
    def hold(self, data: st.DataObject, persons: list[int]) -> None:
        quota, events = data.draw(st.sampled_from(self.with_room())), list[AnyEvent]()
        left = quota.remaining
        for places in persons:
            if places > left:
                continue
            left -= places
            seq = self.next_seq()
            names = tuple(f"{seq}-{at}" for at in range(places))
            held = Held(
                seq=seq,
                reservation_id=f"r{seq}",
                quota=quota.id,
                deadline_ms=9,
                fingerprint="",
                sealed="",
                persons=names,
            )
            events.append(held)
            self.live.append(Reservation(held.reservation_id, quota.id, places))
        if events:
            self.apply(*events)

    @precondition(lambda self: any(not each.confirmed for each in self.live))
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        its = data.draw(st.sampled_from([each for each in self.live if not each.confirmed]))
        self.live[self.live.index(its)] = msgspec.structs.replace(its, confirmed=True)
        self.apply(
            Confirmed(
                seq=self.next_seq(), reservation_id=its.id, quota=its.quota, places=its.places, payment_reference=""
            )
        )

    @precondition(lambda self: self.live)
    @rule(data=st.data(), returns_at_ms=st.sampled_from((0, 30)))
    def end(self, data: st.DataObject, returns_at_ms: int) -> None:
        its = data.draw(st.sampled_from(self.live))
        self.live.remove(its)
        if returns_at_ms:
            self.returning.append((its.quota, its.places))
        state = State.CANCELLED if its.confirmed else State.RELEASED
        self.apply(
            Ended(
                seq=self.next_seq(),
                state=state,
                reservation_id=its.id,
                quota=its.quota,
                places=its.places,
                returns_at_ms=returns_at_ms,
            )
        )

    @precondition(lambda self: self.returning)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        its = data.draw(st.sampled_from(self.returning))
        self.returning.remove(its)
        self.apply(Returned(seq=self.next_seq(), quota=its[0], places=its[1]))

    @precondition(lambda self: self.unused())
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        quota_id = data.draw(st.sampled_from(self.unused()))
        self.changed_at.pop(quota_id, None)
        self.apply(QuotaRetired(seq=self.next_seq(), quota=quota_id))

    @rule(opening=OPENINGS)
    def set_opening(self, opening: Opening) -> None:
        self.apply(OpeningSet(seq=self.next_seq(), opening=opening))

    @precondition(lambda self: self.view.openings)
    @rule(data=st.data())
    def retire_opening(self, data: st.DataObject) -> None:
        opening_id = data.draw(st.sampled_from(sorted(self.view.openings)))
        self.apply(OpeningRetired(seq=self.next_seq(), opening=opening_id))

    @rule(now_ms=st.integers(0, NOW_MS_MAX))
    def turn_clock(self, now_ms: int) -> None:
        self.now_ms = now_ms

    @rule()
    def begin_anew(self) -> None:
        self.version += 1
        snapshot = Snapshot(
            position=self.view.position,
            now_ms=self.now_ms,
            quotas=list(self.view.quotas.values()),
            openings=list(self.view.openings.values()),
            timers={key: dict(timers) for key, timers in self.view._timers.items()},
        )
        self.view.reset(snapshot, (), self.version)
        self.changed_at = dict.fromkeys(self.view.quotas, self.version)

    @rule(places=st.integers(1, APPLICANTS_MAX))
    def ask_for_alternatives(self, places: int) -> None:
        for quota in self.view.quotas.values():
            answer = self.view.alternatives.near(quota, places, LIMIT, self.now_ms)
            wanted = nearest(self.view.quotas.values(), quota, places, self.now_ms)
            assert answer.ids == tuple(each.id for each in wanted)
            shown = [(each.terms, each.remaining) for each in wanted]
            shown_then = self.offered.setdefault((answer, answer.contents.changes), shown)
            assert shown_then == shown, "answers are reused as long as these changes are not more"

    def teardown(self) -> None:
        for places in range(1, APPLICANTS_MAX + 1):
            self.ask_for_alternatives(places)

    @invariant()
    def dates_are_in_order(self) -> None:
        for office in (None, *OFFICES):
            for first, last in ((None, None), (DATES[1], None), (None, DATES[0]), (DATES[1], DATES[1])):
                wanted = [
                    (quota.terms.date, quota.terms.start, quota.id)
                    for quota in self.view.quotas.values()
                    if office in (None, quota.terms.office) and (first or "") <= quota.terms.date <= (last or "9999")
                ]
                assert self.view.dates.between(office, first, last) == [place[2] for place in sorted(wanted)]

    @invariant()
    def groups_know_what_their_quotas_have(self) -> None:
        wanted: dict[tuple[GroupKey, str | None], list[Quota]] = {}
        for quota in self.view.quotas.values():
            key = quota.terms.opens_at_ms, self.view.opening_ids.get(quota.id, "")
            for office in (None, quota.terms.office):
                wanted.setdefault((key, office), []).append(quota)
        groups = self.view.groups
        assert list(groups.between(0, NOW_MS_MAX)) == sorted({key for key, _ in wanted})
        for key in groups.between(0, NOW_MS_MAX):
            for office in (None, *OFFICES):
                assert (groups.get(key, office) is not None) == ((key, office) in wanted)
        for (key, office), quotas in wanted.items():
            group = groups.get(key, office)
            assert group is not None
            assert set(group.quotas) == {quota.id for quota in quotas}
            self.knows(group, quotas, quotas)
            for channels in (CHANNELS, CHANNELS[:1], ()):
                offered = [quota for quota in quotas if quota.terms.channel in channels]
                group = groups.get(key, office, channels)
                if group is None:
                    assert not offered
                    assert not key[1], "an opening is there, also if nobody may claim from it"
                else:
                    self.knows(group, quotas, offered)

    def knows(self, group: Group, quotas: list[Quota], offered: list[Quota]) -> None:
        """What it says of its quotas, of which some may be claimed."""
        states = {quota_state.state_of(quota, self.now_ms) for quota in offered} | {"closed"}
        assert group.state(self.now_ms) == next(each for each in quota_state.BEST_FIRST if each in states)
        assert group.has_left(self.now_ms) == any(
            quota.remaining > 0 and quota_state.state_of(quota, self.now_ms) != "closed" for quota in offered
        )
        closings = [quota.terms.closes_at_ms for quota in offered or quotas]
        assert group.last_end_ms == (max(closings) if all(closings) else alternatives.NEVER_MS)
        shown = [quota for quota in offered if not quota.terms.closed]
        summary = group.summary(self.view.quotas, cancelled=False)
        assert (summary.quotas, summary.places) == (len(shown), sum(quota.terms.capacity for quota in shown))
        named = shown or offered
        if named:
            assert summary.offices == sorted({quota.terms.office for quota in named})
            assert summary.dates == sorted({quota.terms.date for quota in named})
        had_offered = [quota for quota in offered if quota_state.was_offered(quota)]
        assert group.summary(self.view.quotas, cancelled=True).quotas == len(had_offered)

    @invariant()
    def a_group_s_state_stays_until_its_turn(self) -> None:
        for key in self.view.groups.between(0, NOW_MS_MAX):
            group = self.view.groups.get(key)
            assert group is not None
            until_ms = min(group.turn_ms(self.now_ms), NOW_MS_MAX + 1)
            assert len({group.state(at_ms) for at_ms in range(self.now_ms, until_ms)}) == 1

    @invariant()
    def what_changed_is_told(self) -> None:
        for version in (0, self.version - 2, self.version - 1, self.version):
            ids = {quota.id for quota in self.view.changed_since(version)}
            assert ids >= {quota_id for quota_id, at in self.changed_at.items() if at > version}
            assert ids == {quota_id for quota_id, at in self.view.changed_at.items() if at > version}

    def with_room(self) -> list[Quota]:
        return [quota for quota in self.view.quotas.values() if quota.remaining > 0]

    def unused(self) -> list[str]:
        used = {each.quota for each in self.live} | {quota_id for quota_id, _ in self.returning}
        return sorted(set(self.view.quotas) - used)


def nearest(quotas: Iterable[Quota], refused: Quota, places: int, now_ms: int) -> list[Quota]:
    """What is offered instead, by a look through all quotas."""

    def distance(quota: Quota) -> tuple[bool, int, str]:
        slot, at = (alternatives.minutes(each.terms.date, each.terms.start) for each in (quota, refused))
        return quota.terms.office != refused.terms.office, abs(slot - at), quota.id

    fitting = [
        quota
        for quota in quotas
        if quota.id != refused.id
        and (quota.terms.service, quota.terms.channel) == (refused.terms.service, refused.terms.channel)
        and quota_state.state_of(quota, now_ms) == "open"
        and quota.remaining >= places
    ]
    return sorted(fitting, key=distance)[:LIMIT]


@pytest.mark.parametrize("turns_max", [1, 200])
def test_the_indexes_equal_a_look_through_all_quotas(turns_max: int) -> None:
    with mock.patch.object(alternatives, "TURNS_MAX", turns_max):
        run_state_machine_as_test(Views, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
