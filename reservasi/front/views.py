"""What the public reads, encoded: availability, and the body of `sold-out`."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from reservasi.front.encoding import Encoded, encoded
from reservasi.front.filters import midnight_ms, programs_of, quotas_matching, today_in
from reservasi.front.keys import FrontServices
from reservasi.front.languages import Language
from reservasi.front.memory import Made, Memory, next_turn_ms
from reservasi.front.opening_views import next_members, next_openings
from reservasi.front.paging import page_of
from reservasi.front.problem_types import RECOVERING, SOLD_OUT
from reservasi.front.problems import Refused, problem_body
from reservasi.model import Quota
from reservasi.programs import program_of

ALTERNATIVES_MAX = 5
ALTERNATIVES_REST_S = 0.25  # suggestions may be a little older than what is judged


def require_view(services: FrontServices, program: str | None) -> None:
    """Refuse where there is no view yet: of one program, or of all. A view that lost its journal is shown as it was."""
    shown = services.availability.has_view(program)
    unknown = program is not None and services.catalogue.program(program) is None  # shown as empty
    if not services.catalogue.loaded or not (shown or unknown):
        raise Refused(RECOVERING)


def availability_view(services: FrontServices, memory: Memory, filters: Mapping[str, str]) -> Encoded:
    """The public quotas that match, one page of them."""
    availability, catalogue = services.availability, services.catalogue

    def make(now_ms: int) -> "Made[Encoded]":
        matching = quotas_matching(availability, filters, today_in(availability, catalogue))
        quotas, following = page_of(matching, filters)
        fragments = b",".join([memory.fragment(quota, now_ms) for quota in quotas])
        behind = b',"next":' + msgspec.json.encode(following) if following else b""
        view = encoded(b'{"quotas":[' + fragments + b"]" + behind + b"}")
        midnight = midnight_ms(availability, catalogue, programs_of(availability, filters))
        turn_ms = min(next_turn_ms(quotas, now_ms), memory.ticket_rules.turn_ms, midnight)
        return Made(view, len(view.body), turn_ms)

    return memory.answer(("availability", *sorted(filters.items())), make)


def sold_out_body(services: FrontServices, memory: Memory, quota: Quota, places: int, language: Language) -> bytes:
    """The whole problem, encoded: it is the answer that most people get in the minute of an opening."""

    def make(now_ms: int) -> "Made[bytes]":
        alternatives = services.availability.alternatives(quota, places, ALTERNATIVES_MAX)
        members = {
            "alternatives": [msgspec.Raw(memory.fragment(alternative, now_ms)) for alternative in alternatives],
            "next_opening": next(iter(next_openings(services, memory, program_of(quota.id))), None),
            **next_members(services, memory, program_of(quota.id)),
        }
        body = problem_body(Refused(SOLD_OUT, members=members), language)
        return Made(body, len(body), next_turn_ms(alternatives, now_ms))

    return memory.answer(("sold-out", quota.id, places, language), make, ALTERNATIVES_REST_S)


def local_moment(services: FrontServices, program_id: str, at_ms: int) -> str:
    """A moment as people of the program read it, such as `2026-11-30 23:59 WIB`."""
    program = services.catalogue.program(program_id)
    return f"{datetime.fromtimestamp(at_ms / 1000, program.zone if program else UTC):%Y-%m-%d %H:%M %Z}"
