"""Availability as shown to the public, encoded."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from reservasi.front.api.paging import page_of
from reservasi.front.api.problem_catalogue import RECOVERING
from reservasi.front.api.problems import Refused
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import AnswerCache, Made, next_turn_ms
from reservasi.front.views.filters import midnight_ms, programs_of, quotas_matching, today_in
from reservasi.front.views.quota_json import Encoded, encoded


def require_view(services: FrontServices, program: str | None) -> None:
    """Refuse if there is no view yet, of one program or of all. A view that lost its journal is shown unchanged."""
    shown = services.availability.has_view(program)
    unknown = program is not None and services.catalogue.program(program) is None  # shown as empty
    if not services.catalogue.loaded or not (shown or unknown):
        raise Refused(RECOVERING)


def availability_view(services: FrontServices, cache: AnswerCache, filters: Mapping[str, str]) -> Encoded:
    """The public quotas that match, one page of them."""
    availability, catalogue = services.availability, services.catalogue

    def make(now_ms: int) -> "Made[Encoded]":
        matching = quotas_matching(availability, filters, today_in(availability, catalogue))
        quotas, following = page_of(matching, filters)
        fragments = b",".join([cache.fragment(quota, now_ms) for quota in quotas])
        behind = b',"next":' + msgspec.json.encode(following) if following else b""
        view = encoded(b'{"quotas":[' + fragments + b"]" + behind + b"}")
        midnight = midnight_ms(availability, catalogue, programs_of(availability, filters))
        turn_ms = min(next_turn_ms(quotas, now_ms), cache.ticket_rules.turn_ms, midnight)
        return Made(view, len(view.body), turn_ms)

    return cache.answer(("availability", *sorted(filters.items())), make)


def local_moment(services: FrontServices, program_id: str, at_ms: int) -> str:
    """A moment in the program's time zone, such as `2026-11-30 23:59 WIB`."""
    program = services.catalogue.program(program_id)
    return f"{datetime.fromtimestamp(at_ms / 1000, program.zone if program else UTC):%Y-%m-%d %H:%M %Z}"
