"""The refusals before an opening: what has not opened yet, and what to do until then."""

import msgspec

from reservasi.front.api.languages import Text
from reservasi.front.api.problem_catalogue import NOT_OPEN
from reservasi.front.api.problems import Refused
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import AnswerCache
from reservasi.front.views.availability import local_moment
from reservasi.front.views.openings import next_members
from reservasi.front.views.quota_json import moment
from reservasi.model import Opening, Quota
from reservasi.programs import program_of

_JOIN_FIRST = msgspec.structs.replace(
    NOT_OPEN,
    detail=Text(
        "Kuota ini belum dibuka, dan dibagikan melalui ruang tunggu pembukaan {opening}. "
        "Silakan bergabung terlebih dahulu di ruang tunggu itu ({since}).",
        "This quota has not opened yet, and is distributed through the waiting room of the opening {opening}. "
        "Join that waiting room first ({since}).",
    ),
    next=Text(
        "Ambil tiket di POST /v1/openings/{id}/tickets untuk `opening`, tunggu giliran Anda sesudah `opens_at`, lalu "
        "pesan dengan tiket itu.",
        "Get a ticket at POST /v1/openings/{id}/tickets for `opening`, wait for your turn after `opens_at`, "
        "and claim with that ticket.",
    ),
)
_HAS_JOINED = msgspec.structs.replace(
    NOT_OPEN,
    detail=Text(
        "Kuota ini belum dibuka. Anda sudah bergabung di ruang tunggu pembukaan {opening}. Simpan tiket Anda.",
        "This quota has not opened yet. You have joined the waiting room of the opening {opening}; keep the ticket.",
    ),
    next=Text(
        "Pantau GET /v1/openings/{id}/queue sesudah `opens_at`, dan pesan dengan tiket tersebut setelah "
        "`admitted_through` "
        "mencapai nomor Anda.",
        "Follow GET /v1/openings/{id}/queue after `opens_at`, and claim with that ticket once `admitted_through` has "
        "reached your number.",
    ),
)
_JOINING = msgspec.structs.replace(
    NOT_OPEN,
    detail=Text(
        "Ruang tunggu pembukaan ini dapat diikuti mulai {since}.",
        "People can join the waiting room of this opening from {since} on.",
    ),
)


def not_open(
    services: FrontServices, cache: AnswerCache, quota: Quota, opens_at_ms: int, *, has_joined: bool = False
) -> Refused:
    """The refusal of a claim before the opening; `has_joined`: with a valid ticket of its waiting room."""
    program, opening = program_of(quota.id), services.availability.opening_of(quota)
    members = {"opens_at": moment(opens_at_ms), **next_members(services, cache, program)}
    if opening is None or opening.cancelled:
        return Refused(NOT_OPEN, members=members)
    members["opening"] = opening.id
    if not opening.terms.waiting_room:
        return Refused(NOT_OPEN, members=members)
    words = {"opening": Text(opening.id, opening.id)}
    if has_joined:
        return Refused(_HAS_JOINED, members=members, words=words)
    return Refused(_JOIN_FIRST, members=members, words={**words, "since": _since(services, program, opening)})


def joining_not_open(
    services: FrontServices, cache: AnswerCache, program: str, opening: Opening, at_ms: int
) -> Refused:
    """The refusal of a join before joining begins."""
    at = local_moment(services, program, at_ms)
    members = {"opening": opening.id, "opens_at": moment(at_ms), **next_members(services, cache, program)}
    return Refused(_JOINING, members=members, words={"since": Text(at, at)})


def _since(services: FrontServices, program: str, opening: Opening) -> Text:
    """When joining begins, in words."""
    joins_from_ms = opening.terms.joins_from_ms
    at = local_moment(services, program, joins_from_ms)
    if services.availability.now_ms(program) < joins_from_ms:
        return Text(f"mulai {at}", f"from {at} on")
    return Text(f"dibuka sejak {at}", f"which began at {at}")
