"""`sold-out`: the most frequent answer in the minute of an opening.

Its body is assembled from encoded pieces: the text in a language, the JSON of each alternative, and the next openings
of the program. An answer serves all sold-out quotas with the same alternatives, and is reused for a moment: the places
that it names may be slightly older than decisions. The cost therefore does not depend on the number of quotas, or of
sold-out ones.
"""

import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec

from reservasi.front.api.answers import Answer
from reservasi.front.api.languages import Language
from reservasi.front.api.problem_catalogue import SOLD_OUT
from reservasi.front.api.problems import Refused, problem_answer, problem_body
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import AnswerCache, SoldOut
from reservasi.front.views.openings import SUGGESTIONS_REST_S, next_members, next_openings
from reservasi.model import Quota
from reservasi.programs import program_of

ALTERNATIVES_MAX = 5
KEPT_MAX = 8192  # reused answers, of some 2 kB; all are dropped when there are more


def sold_out_answer(
    services: FrontServices, cache: AnswerCache, quota: Quota, places: int, language: Language
) -> Answer:
    """The refusal of a claim of `places` places, complete with its head."""
    availability, program = services.availability, program_of(quota.id)
    now_s, now_ms = time.monotonic(), availability.now_ms(program)
    offer = availability.alternatives(quota, places, ALTERNATIVES_MAX, now_ms)
    kept = cache.sold_out.get((language, offer))
    if kept is not None and now_s < kept.until_s and now_ms < kept.turn_ms:
        return kept.answer
    end, stamp = _end(services, cache, program, now_s), cache.ticket_rules.stamp
    if kept is None or now_ms >= kept.turn_ms or not kept.is_made_of(availability, offer, end, stamp):
        if len(cache.sold_out) >= KEPT_MAX:
            cache.sold_out.clear()
        quotas = availability.offered(offer)
        kept = cache.sold_out[language, offer] = SoldOut(
            _encoded(cache, language, quotas, end, now_ms),
            quotas=quotas,
            changes=offer.contents.changes,
            end=end,
            stamp=stamp,
            turn_ms=availability.alternatives_turn_ms(program),
        )
    kept.until_s = now_s + SUGGESTIONS_REST_S
    return kept.answer


def _encoded(cache: AnswerCache, language: Language, quotas: Iterable[Quota], end: bytes, now_ms: int) -> Answer:
    text = _text(language)
    body = text.begin + b",".join([cache.fragment(each, now_ms) for each in quotas]) + end
    return Answer(SOLD_OUT.status, text.headers, body, outcome=SOLD_OUT.name, head=b"%b%d" % (text.head, len(body)))


class _Text(NamedTuple):
    """The constant parts in one language."""

    headers: Mapping[str, str]
    head: bytes  # up to the length of the body
    begin: bytes  # of the body, up to the first alternative


@lru_cache(maxsize=8)
def _text(language: Language) -> _Text:
    begin = problem_body(Refused(SOLD_OUT), language)[:-1] + b',"alternatives":['
    whole = problem_answer(language, Refused(SOLD_OUT), begin)
    return _Text(whole.headers, whole.head.removesuffix(b"%d" % len(begin)), begin)


def _end(services: FrontServices, cache: AnswerCache, program: str, now_s: float) -> bytes:
    """The next openings of the program, and the end of the body."""
    kept = cache.sold_out_ends.get(program)
    if kept is None or now_s >= kept[0]:
        cache.ticket_rules.refresh(services.availability.now_ms())
        ahead = {
            "next_opening": next(iter(next_openings(services, cache, program)), None),
            **next_members(services, cache, program),
        }
        kept = (now_s + SUGGESTIONS_REST_S, b"]," + msgspec.json.encode(ahead)[1:])
        cache.sold_out_ends[program] = kept
    return kept[1]
