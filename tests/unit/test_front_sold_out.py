"""The body of `sold-out`: equal to a newly built one, and never older than allowed."""

import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from reservasi.availability import Availability
from reservasi.availability.follower import Follower
from reservasi.availability.view import ProgramView
from reservasi.events import Ended, Held, JournalEntry, OpeningSet, QuotaSet
from reservasi.front.api.answers import Answer
from reservasi.front.api.problem_catalogue import SOLD_OUT
from reservasi.front.api.problems import Refused, problem_answer, problem_body
from reservasi.front.services import FrontServices
from reservasi.front.views import sold_out
from reservasi.front.views.answer_cache import AnswerCache
from reservasi.front.views.openings import next_members, next_openings
from reservasi.front.views.sold_out import sold_out_answer
from reservasi.front.views.ticket_rules import TicketRules
from reservasi.model import Quota, QuotaTerms, State
from tests.ledgers import opening_of, terms

FULL, NEAR, LATER = "p.kanim.1", "p.kanim.2", "p.kanim.3"


class View(Availability):
    """The real view, told by hand; its clock stands."""

    def __init__(self) -> None:
        self.clock_ms = 1000
        self.program = ProgramView()
        follower = SimpleNamespace(view=self.program)
        self._followers = {"p": cast(Follower, follower)}
        self._version = self._left_tickets_changes = 0

    def now_ms(self, program: str = "") -> int:
        return self.clock_ms

    def tell(self, *events: Any) -> None:
        self._version += 1
        entry = JournalEntry(epoch=1, first_seq=1, at_ms=1, chain="", payload=b"", events=events)
        self.program.apply(entry, self._version)

    def set(self, quota_id: str, of_quota: QuotaTerms) -> None:
        self.tell(QuotaSet(seq=1, quota=quota_id, version=1, terms=of_quota))

    def hold(self, quota_id: str, reservation_id: str = "r") -> None:
        held = Held(
            seq=1,
            reservation_id=reservation_id,
            quota=quota_id,
            deadline_ms=9,
            fingerprint="",
            sealed="",
            persons=("a",),
        )
        self.tell(held)


class Page:
    """Asks, with a clock of its own for what is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.view = View()
        self.view.set(FULL, terms(0, start="08:00"))
        self.view.set(NEAR, terms(3, start="08:10"))
        self.view.set(LATER, terms(3, start="08:20", opens_at_ms=5000))
        catalogue = SimpleNamespace(program=lambda _: None, public_channels=lambda _: {"online"})
        self.services = cast(FrontServices, SimpleNamespace(availability=self.view, catalogue=catalogue))
        self.cache = AnswerCache(self.view, ticket_rules=TicketRules(self.view))
        self.now_s = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)

    @property
    def quota(self) -> Quota:
        return self.view.program.quotas[FULL]

    def answer(self, places: int = 1) -> Answer:
        return sold_out_answer(self.services, self.cache, self.quota, places, "en")

    def ask(self) -> bytes:
        return self.answer().body

    def ask_later(self) -> bytes:
        self.now_s += 1
        return self.ask()

    def anew(self) -> bytes:
        """What it would be without anything kept."""
        cache = AnswerCache(self.view, ticket_rules=TicketRules(self.view))
        cache.ticket_rules.refresh(self.view.clock_ms)
        ids = self.view.alternatives(self.quota, 1, 5, self.view.clock_ms).ids
        quotas = [self.view.program.quotas[id_] for id_ in ids]
        members = {
            "alternatives": [msgspec.Raw(cache.fragment(each, self.view.clock_ms)) for each in quotas],
            "next_opening": next(iter(next_openings(self.services, cache, "p")), None),
            **next_members(self.services, cache, "p"),
        }
        return problem_body(Refused(SOLD_OUT, members=members), "en")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page(monkeypatch)


def test_a_body_is_the_whole_problem(page: Page) -> None:
    body = msgspec.json.decode(page.ask())
    assert [each["id"] for each in body["alternatives"]] == [NEAR]
    assert body["next_opening"]["opens_at"] == "1970-01-01T00:00:05Z"
    assert page.ask() == page.anew()


def test_its_head_is_that_of_any_problem(page: Page) -> None:
    answer, like = page.answer(), problem_answer("en", Refused(SOLD_OUT), page.anew())
    assert (answer.status, answer.outcome, answer.closes) == (like.status, like.outcome, like.closes)
    assert (answer.headers, answer.head, answer.body) == (like.headers, like.head, like.body)


def test_a_body_stays_while_its_pieces_do(page: Page) -> None:
    first = page.ask()
    page.view.set("p.mpp.9", terms(0, office="mpp"))
    page.view.hold(LATER)
    assert page.ask() is first
    assert page.ask_later() == first


def test_a_body_follows_what_it_names(page: Page) -> None:
    first = page.ask()
    page.view.hold(NEAR)
    assert page.ask() is first, "for a moment"
    assert page.ask_later() == page.anew() != first
    page.view.hold(NEAR, "r2")
    page.view.hold(NEAR, "r3")
    assert page.ask_later() == page.anew()
    assert b'"alternatives":[]' in page.ask()
    ended = Ended(seq=1, state=State.RELEASED, reservation_id="r2", quota=NEAR, places=1, returns_at_ms=0)
    page.view.tell(ended)
    assert page.ask_later() == page.anew()
    opening = replace(opening_of(opens_at_ms=0), revised_at_ms=1)
    page.view.tell(OpeningSet(seq=1, opening=opening))
    page.view.set(NEAR, terms(3, start="08:10", opens_at_ms=0))
    assert page.ask_later() == page.anew()


def test_the_clock_turns_it_at_once(page: Page) -> None:
    first = page.ask()
    page.view.clock_ms = 4999
    assert page.ask() is first
    page.view.clock_ms = 5000
    assert [each["id"] for each in msgspec.json.decode(page.ask())["alternatives"]] == [NEAR, LATER]


def test_an_answer_that_would_be_the_same_is_given_again(page: Page) -> None:
    first = page.answer()
    page.now_s += 1
    assert page.answer() is first
    page.view.hold(NEAR)
    page.now_s += 1
    assert page.answer() is not first


def test_a_change_within_the_own_office_makes_an_answer_anew(page: Page) -> None:
    page.view.set("p.mpp.1", terms(3, office="mpp", start="08:01"))
    before = page.ask()
    page.view.hold("p.mpp.1")
    assert page.ask_later() == page.anew() != before, "the own office has too few"
    own = [f"p.kanim.1{number}" for number in range(5)]
    for quota_id in own:
        page.view.set(quota_id, terms(3, start="08:01"))
    first = page.answer()
    page.view.hold("p.mpp.1", "r2")
    page.now_s += 1
    assert page.answer() is first, "what changes elsewhere does not matter while the own office has enough"
    page.view.hold(own[0])
    assert page.ask_later() == page.anew() != first.body


def test_quotas_with_the_same_to_offer_share_an_answer(page: Page) -> None:
    page.view.set("p.mpp.1", terms(0, office="mpp", start="08:00"))
    page.view.set("p.mpp.2", terms(0, office="mpp", start="08:05"))
    first, second = (
        sold_out_answer(page.services, page.cache, page.view.program.quotas[each], 1, "en")
        for each in ("p.mpp.1", "p.mpp.2")
    )
    assert first is second
    page.view.hold(NEAR)  # two places are left: not for three
    page.now_s += 1
    other = sold_out_answer(page.services, page.cache, page.view.program.quotas["p.mpp.1"], 3, "en")
    assert b'"alternatives":[]' in other.body
    assert sold_out_answer(page.services, page.cache, page.view.program.quotas["p.mpp.1"], 1, "id") is not first


def test_what_is_kept_is_bounded(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sold_out, "KEPT_MAX", 3)
    for places in range(1, 6):
        answer = page.answer(places)
        assert page.answer(places) is answer
        assert len(page.cache.sold_out) <= 3
