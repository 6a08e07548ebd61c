"""A summary per day of the quotas that match, for a calendar."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import msgspec

from reservasi.front.api.bodies import DayBody, DaysBody
from reservasi.front.services import FrontServices
from reservasi.front.views.answer_cache import AnswerCache, Made, next_turn_ms
from reservasi.front.views.filters import midnight_ms, programs_of, quotas_matching, today_in
from reservasi.front.views.quota_json import Encoded, encoded, moment_or_none
from reservasi.model import Quota
from reservasi.programs import program_of
from reservasi.quota_state import BEST_FIRST, QuotaState


def days_view(services: FrontServices, cache: AnswerCache, filters: Mapping[str, str]) -> Encoded:
    """One row per program and day, of the same quotas as availability."""
    availability, catalogue = services.availability, services.catalogue

    def make(now_ms: int) -> Made[Encoded]:
        quotas = quotas_matching(availability, filters, today_in(availability, catalogue))
        days = [
            _day(program, date, [(quota, cache.public_state(quota, now_ms)) for quota in of_day])
            for (program, date), of_day in groupby(quotas, key=lambda quota: (program_of(quota.id), quota.terms.date))
        ]
        view = encoded(msgspec.json.encode(DaysBody(days=days)))
        midnight = midnight_ms(availability, catalogue, programs_of(availability, filters))
        return Made(view, len(view.body), min(next_turn_ms(quotas, now_ms), midnight))

    return cache.answer(("days", *sorted(filters.items())), make)


def _day(program: str, date: str, quotas: Sequence[tuple[Quota, QuotaState]]) -> DayBody:
    states = {state for _, state in quotas}
    ahead = [quota.terms.opens_at_ms for quota, state in quotas if state == "not-open"]
    return DayBody(
        program=program,
        date=date,
        quotas=len(quotas),
        capacity=sum(quota.terms.capacity for quota, _ in quotas),
        remaining=sum(quota.remaining for quota, state in quotas if state != "closed"),
        bookable=sum(quota.remaining for quota, state in quotas if state == "open"),
        state=next(state for state in BEST_FIRST if state in states),
        opens_at=moment_or_none(min(ahead, default=0)),
    )
