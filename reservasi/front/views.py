"""What the public reads, encoded: availability, openings, programs, offices, and the body of `sold-out`."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from reservasi.front.bodies import OpeningBody, OpeningsBody, QuotaState
from reservasi.front.encoding import moment
from reservasi.front.filters import quotas_matching
from reservasi.front.keys import FrontServices
from reservasi.front.languages import Language
from reservasi.front.memory import NEVER_MS, Made, Memory, next_turn_ms
from reservasi.front.problem_types import RECOVERING, SOLD_OUT
from reservasi.front.problems import Refused, problem_body
from reservasi.model import Quota
from reservasi.programs import program_of

ALTERNATIVES_MAX = 5
ALTERNATIVES_REST_S = 0.25  # suggestions may be a little older than what is judged
OPENING_STATES: tuple[QuotaState, ...] = ("open", "not-open", "sold-out", "closed")  # the best one speaks for all


class Encoded(NamedTuple):
    """A body and its strong entity tag."""

    body: bytes
    etag: str


def encoded(body: bytes) -> Encoded:
    """The tag is made from the content, so every process gives the same one."""
    return Encoded(body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"')


def require_view(services: FrontServices, program: str | None) -> None:
    """Refuse where there is no view yet: of one program, or of all. A view that lost its journal is shown as it was."""
    shown = services.availability.has_view(program)
    unknown = program is not None and services.catalogue.program(program) is None  # shown as empty
    if not services.catalogue.loaded or not (shown or unknown):
        raise Refused(RECOVERING)


def availability_view(services: FrontServices, memory: Memory, filters: Mapping[str, str]) -> Encoded:
    """The public quotas that match."""

    def make(now_ms: int) -> Made[Encoded]:
        quotas = quotas_matching(services.availability, filters)
        view = encoded(b'{"quotas":[' + b",".join([memory.fragment(quota, now_ms) for quota in quotas]) + b"]}")
        return Made(view, len(view.body), next_turn_ms(quotas, now_ms))

    return memory.answer(("availability", *sorted(filters.items())), make)


def openings_view(services: FrontServices, memory: Memory, program: str | None) -> Encoded:
    """The openings of one program, or of all."""

    def make(now_ms: int) -> Made[Encoded]:
        quotas = services.availability.select(program=program)
        openings = list_openings(services, quotas, now_ms)
        view = encoded(msgspec.json.encode(OpeningsBody(openings=openings)))
        return Made(view, len(view.body), next_turn_ms(quotas, now_ms))

    return memory.answer(("openings", program), make)


def list_openings(services: FrontServices, quotas: Iterable[Quota], now_ms: int) -> list[OpeningBody]:
    """Group quotas by program and opening, earliest first; quotas that were open from the start have no opening."""
    groups: dict[tuple[int, str], list[Quota]] = {}
    for quota in quotas:
        if quota.terms.opens_at_ms:
            groups.setdefault((quota.terms.opens_at_ms, program_of(quota.id)), []).append(quota)
    return [_opening(services, program, at_ms, groups[at_ms, program], now_ms) for at_ms, program in sorted(groups)]


def _opening(
    services: FrontServices, program_id: str, opens_at_ms: int, quotas: list[Quota], now_ms: int
) -> OpeningBody:
    program = services.catalogue.program(program_id)
    local = datetime.fromtimestamp(opens_at_ms / 1000, program.zone if program else ZoneInfo("UTC"))
    states = {services.availability.state(quota, now_ms) for quota in quotas}
    return OpeningBody(
        id=f"{program_id}-{local:%Y%m%dT%H%M}",
        program=program_id,
        opens_at=moment(opens_at_ms),
        state=next(state for state in OPENING_STATES if state in states),
        quotas=len(quotas),
        places=sum(quota.terms.capacity for quota in quotas),
    )


def next_opening(services: FrontServices, memory: Memory, program: str) -> OpeningBody | None:
    """The program's next opening that lies ahead."""

    def make(now_ms: int) -> Made[OpeningBody | None]:
        ahead = [q for q in services.availability.select(program=program) if q.terms.opens_at_ms > now_ms]
        opens_at_ms = min((quota.terms.opens_at_ms for quota in ahead), default=NEVER_MS)
        openings = list_openings(services, [q for q in ahead if q.terms.opens_at_ms == opens_at_ms], now_ms)
        return Made(openings[0] if openings else None, 512, opens_at_ms)

    return memory.answer(("next-opening", program), make, ALTERNATIVES_REST_S)


def sold_out_body(services: FrontServices, memory: Memory, quota: Quota, places: int, language: Language) -> bytes:
    """The whole problem, encoded: it is the answer that most people get in the minute of an opening."""

    def make(now_ms: int) -> Made[bytes]:
        alternatives = services.availability.alternatives(quota, places, ALTERNATIVES_MAX)
        members = {
            "alternatives": [msgspec.Raw(memory.fragment(alternative, now_ms)) for alternative in alternatives],
            "next_opening": next_opening(services, memory, program_of(quota.id)),
        }
        body = problem_body(Refused(SOLD_OUT, members=members), language)
        return Made(body, len(body), next_turn_ms(alternatives, now_ms))

    return memory.answer(("sold-out", quota.id, places, language), make, ALTERNATIVES_REST_S)


def local_moment(services: FrontServices, program_id: str, at_ms: int) -> str:
    """A moment as people of the program read it, such as `2026-11-30 23:59 WIB`."""
    program = services.catalogue.program(program_id)
    return f"{datetime.fromtimestamp(at_ms / 1000, program.zone if program else UTC):%Y-%m-%d %H:%M %Z}"
