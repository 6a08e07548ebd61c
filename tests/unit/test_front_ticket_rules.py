"""Which quotas need a ticket: right at every moment, and looked up only when it may have changed."""

import itertools
from collections.abc import Iterator
from typing import cast

import pytest
from msgspec.structs import replace

from reservasi.availability import Availability
from reservasi.front.views.ticket_rules import NO_OPENING, TicketRule, TicketRules
from reservasi.model import Opening, Quota, QuotaCounts
from reservasi.waiting_room.state import NEVER_MS
from tests.ledgers import opening_of, terms

QUOTA = Quota(id="p.kanim.baru.20261201.0800.online", terms=terms(), counts=QuotaCounts())


class View:
    """As much of the view as the rules depend on."""

    tickets_version = 1
    opening: Opening | None = None

    def opening_of(self, quota: Quota) -> Opening | None:
        return self.opening

    def all_openings(self) -> Iterator[Opening]:
        return iter([] if self.opening is None else [self.opening])


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
def rules(view: View) -> TicketRules:
    return TicketRules(cast(Availability, view))


def test_a_ticket_is_needed_until_the_waiting_room_ends(view: View, rules: TicketRules) -> None:
    assert rules.of(QUOTA, 5) == NO_OPENING
    view.opening = opening_of(opens_at_ms=10, ends_at_ms=20)
    assert [rules.of(QUOTA, at_ms).required for at_ms in (0, 10, 19, 20, 21)] == [True, True, True, False, False]
    view.opening = replace(view.opening, paused=True)
    assert rules.of(QUOTA, 25) == TicketRule("p-1", required=True)
    view.opening = replace(view.opening, paused=False, cancelled=True)
    assert rules.of(QUOTA, 5) == TicketRule("p-1", required=False)
    view.opening = opening_of(waiting_room=False)
    assert rules.of(QUOTA, 5) == TicketRule("p-1", required=False)


def test_the_stamp_changes_with_the_view_and_with_the_end(view: View, rules: TicketRules) -> None:
    view.opening = opening_of(opens_at_ms=10, ends_at_ms=20)
    stamps = []
    for at_ms in (5, 6, 19, 20, 21, 19):  # at the end, and when the clock was set back
        rules.refresh(at_ms)
        stamps.append(rules.stamp)
    assert [after - before for before, after in itertools.pairwise(stamps)] == [0, 0, 1, 0, 1]
    assert rules.turn_ms == 20
    view.tickets_version += 1
    view.opening = None
    rules.refresh(19)
    assert (rules.stamp, rules.turn_ms) == (stamps[-1] + 1, NEVER_MS)


def test_without_a_view_no_quota_has_an_opening() -> None:
    rules = TicketRules()
    rules.refresh(5)
    assert (rules.of(QUOTA, 5), rules.stamp) == (NO_OPENING, 0)
