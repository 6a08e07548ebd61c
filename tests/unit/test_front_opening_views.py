"""Openings as shown to the public: cached, and updated by the clock and by changes."""

from datetime import UTC
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from reservasi.availability import Availability
from reservasi.availability.follower import Follower
from reservasi.availability.view import ProgramView
from reservasi.events import JournalEntry, OpeningSet, QuotaSet
from reservasi.front.api.bodies import OpeningBody
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import AnswerCache
from reservasi.front.views.openings import list_openings, listed_opening, next_openings, opening_state
from reservasi.front.views.quota_json import moment
from reservasi.model import NOT_KNOWN
from tests.ledgers import opening_of, terms

OPENING = opening_of(opens_at_ms=1000, joins_from_ms=500, ends_at_ms=90_000)


class View(Availability):
    """The real view, told by hand; its clock stands."""

    def __init__(self) -> None:
        self.clock_ms = 0
        self.program = ProgramView()
        self._followers = {"p": cast(Follower, SimpleNamespace(view=self.program))}
        self._version = 0

    def now_ms(self, program: str = "") -> int:
        return self.clock_ms

    def tell(self, *events: Any) -> None:
        self._version += 1
        entry = JournalEntry(epoch=1, first_seq=1, at_ms=1, chain="", payload=b"", events=events)
        self.program.apply(entry, self._version)

    def set(self, quota_id: str, capacity: int, **changes: Any) -> None:
        self.tell(QuotaSet(seq=1, quota=quota_id, version=1, terms=terms(capacity, **changes)))


class Pages:
    def __init__(self) -> None:
        self.view = View()
        catalogue = SimpleNamespace(program=lambda _: SimpleNamespace(zone=UTC), public_channels=lambda _: {"online"})
        self.services = cast(FrontServices, SimpleNamespace(availability=self.view, catalogue=catalogue))
        self.cache = AnswerCache(self.view)

    def states(self, at_ms: int, office: str = "kanim") -> list[str]:
        """Of the one opening: by itself, in the list, and in the list of one office."""
        self.view.clock_ms = at_ms
        one = listed_opening(self.services, self.cache, "p-1")
        return [each.state for each in (*([one] if one else []), *self.list(), *self.list(office=office))]

    def list(self, **filters: str) -> list[OpeningBody]:
        return list_openings(self.services, self.cache, {"program": "p", **filters})


@pytest.fixture
def pages() -> Pages:
    return Pages()


def test_the_clock_alone_turns_what_is_kept(pages: Pages) -> None:
    pages.view.tell(OpeningSet(seq=1, opening=OPENING))
    pages.view.set("p.1", 3, opens_at_ms=1000, closes_at_ms=5000)
    pages.view.set("p.2", 0, opens_at_ms=1000, closes_at_ms=8000)
    states = {at_ms: pages.states(at_ms) for at_ms in (0, 999, 1000, 4999, 5000, 7999, 8000)}
    assert states == {
        0: 3 * ["not-open"],
        999: 3 * ["not-open"],
        1000: 3 * ["open"],
        4999: 3 * ["open"],
        5000: 3 * ["sold-out"],
        7999: 3 * ["sold-out"],
        8000: 3 * ["ended"],
    }


def test_an_opening_is_closed_while_all_of_its_quotas_are(pages: Pages) -> None:
    pages.view.tell(OpeningSet(seq=1, opening=OPENING))
    pages.view.set("p.1", 3, opens_at_ms=1000, closes_at_ms=8000, closed=True)
    pages.view.set("p.2", 3, opens_at_ms=1000, closes_at_ms=5000)
    queue: list[str] = []
    for at_ms in (600, 1000, 5000, 8000):
        states = pages.states(at_ms)
        queue.append(opening_state(pages.services, "p", OPENING, at_ms))
        assert states == 3 * [{"joining": "not-open"}.get(queue[-1], queue[-1])]
    assert queue == ["joining", "open", "closed", "ended"]


def test_an_opening_without_quotas_is_closed(pages: Pages) -> None:
    pages.view.tell(OpeningSet(seq=1, opening=OPENING))
    assert pages.states(600) == ["closed", "closed"]  # no office lists it
    assert opening_state(pages.services, "p", OPENING, 600) == "closed"


def test_a_cancelled_opening_counts_what_it_had_offered(pages: Pages) -> None:
    first = {"opens_at_ms": 1000, "date": "2026-12-02"}
    never_changed, closed_by_import, closed_by_staff = (), (5, 1000, 0, 1), (6, 1000, 0, 0)
    pages.view.tell(OpeningSet(seq=1, opening=replace(OPENING, cancelled=True, revision=1)))
    for quota_id, capacity, imported in (
        ("p.1", 4, never_changed),
        ("p.2", 5, closed_by_import),
        ("p.3", 6, closed_by_staff),
        ("p.4", 7, (NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN)),
    ):
        version = 2 if imported else 1
        told = QuotaSet(seq=1, quota=quota_id, version=version, terms=terms(capacity, closed=True, **first))
        pages.view.tell(replace(told, imported=imported))
    (listed,) = pages.list()
    assert (listed.state, listed.quotas, listed.places) == ("cancelled", 2, 13)


def test_a_list_names_what_an_office_has(pages: Pages) -> None:
    pages.view.tell(OpeningSet(seq=1, opening=replace(OPENING, terms=replace(OPENING.terms, offices=("kanim",)))))
    pages.view.set("p.1", 3, opens_at_ms=1000, date="2026-12-02")
    pages.view.set("p.2", 4, opens_at_ms=1000, service="ganti")
    pages.view.set("p.3", 5, opens_at_ms=1000, closed=True)
    pages.view.set("p.4", 6, opens_at_ms=1000, office="mpp")
    pages.view.set("p.5", 7, opens_at_ms=0, office="mpp")

    def brief(openings: list[OpeningBody]) -> list[tuple[str, int, int, list[str], list[str]]]:
        return [(each.id, each.quotas, each.places, each.offices, each.services) for each in openings]

    derived = ("p-19700101T000001", 1, 6, ["mpp"], ["baru"])
    created = ("p-1", 2, 7, ["kanim"], ["baru", "ganti"])
    assert brief(pages.list()) == [derived, created]
    assert brief(pages.list(office="kanim")) == [created]
    assert brief(pages.list(office="mpp")) == [derived]
    assert pages.list(office="kanim")[0].dates == ["2026-12-01", "2026-12-02"]
    one = listed_opening(pages.services, pages.cache, derived[0])
    assert brief([one] if one else []) == [derived]
    assert brief(next_openings(pages.services, pages.cache, "p")) == [derived, created]
    pages.view.clock_ms = 1000
    assert next_openings(pages.services, pages.cache, "p") == []


def test_each_moment_of_one_minute_has_an_id_of_its_own(pages: Pages) -> None:
    moments = {"p-19700101T000007": 7_000, "p-19700101T000007250": 7_250, "p-19700101T0001": 60_000}
    for number, at_ms in enumerate(moments.values()):
        pages.view.set(f"p.{number}", 3, opens_at_ms=at_ms)
    assert [(each.id, each.opens_at) for each in pages.list()] == [(id_, moment(at)) for id_, at in moments.items()]

    def opens_at(opening_id: str) -> str | None:
        one = listed_opening(pages.services, pages.cache, opening_id)
        return one.opens_at if one else None

    assert {id_: opens_at(id_) for id_ in moments} == {id_: moment(at) for id_, at in moments.items()}
    assert opens_at("p-19700101T0000") == moment(7_000), "a minute's own id is that of its first moment"
    for nobody in ("T000008", "T000007251", "T000060", "T00000", "T0000072", "T0002"):
        assert opens_at(f"p-19700101{nobody}") is None


def test_a_called_off_opening_says_what_it_was_for(pages: Pages) -> None:
    pages.view.tell(OpeningSet(seq=1, opening=replace(OPENING, cancelled=True)))
    assert pages.states(0) == 3 * ["cancelled"]
    closed = terms(3, opens_at_ms=1000, closed=True)
    pages.view.tell(QuotaSet(seq=1, quota="p.1", version=2, terms=closed, imported=(3, 1000, 0, 0)))
    pages.cache = AnswerCache(pages.view)  # what was just made is given again for a moment
    assert [(each.state, each.quotas, each.places) for each in pages.list()] == [("cancelled", 1, 3)]


def test_what_is_closed_is_no_next_opening(pages: Pages) -> None:
    pages.view.set("p.1", 3, opens_at_ms=1000, closed=True)
    pages.view.set("p.2", 3, opens_at_ms=2000)
    assert [each.state for each in next_openings(pages.services, pages.cache, "p")] == ["not-open"]
