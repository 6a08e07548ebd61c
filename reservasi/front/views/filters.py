"""The filters of availability: the quotas of the view that match, and whether one quota does.

Without dates they begin today, in the program's time zone, and end after `RANGE_DAYS_MAX` days. A first date in the
past does not move the end: past quotas leave the view, and such a query also means what lies ahead.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping

from reservasi.availability import Availability
from reservasi.catalogue import Catalogue
from reservasi.front.api.date_ranges import dates_of
from reservasi.front.views.answer_cache import NEVER_MS
from reservasi.model import Quota
from reservasi.programs import program_of

Today = Callable[[str], str]  # a program's current date


def today_in(availability: Availability, catalogue: Catalogue) -> Today:
    """The date of a program by the ledger's clock and the program's time zone."""

    def today(program: str) -> str:
        return _local(availability, catalogue, program).date().isoformat()

    return today


def midnight_ms(availability: Availability, catalogue: Catalogue, programs: Iterable[str]) -> int:
    """When the next day begins in one of the programs."""
    midnights = []
    for program in programs:
        now = _local(availability, catalogue, program)
        tomorrow = dt.datetime.combine(now.date() + dt.timedelta(days=1), dt.time(), tzinfo=now.tzinfo)
        midnights.append(int(tomorrow.timestamp() * 1000))
    return min(midnights, default=NEVER_MS)


def _local(availability: Availability, catalogue: Catalogue, program: str) -> dt.datetime:
    stored = catalogue.program(program)
    return dt.datetime.fromtimestamp(availability.now_ms(program) / 1000, stored.zone if stored else dt.UTC)


def programs_of(availability: Availability, filters: Mapping[str, str]) -> list[str]:
    """The programs that the filters select, in order."""
    return [filters["program"]] if "program" in filters else availability.programs()


def quotas_matching(availability: Availability, filters: Mapping[str, str], today: Today) -> list[Quota]:
    """The quotas that match the query parameters of availability, by program, date, start and id."""
    quotas: list[Quota] = []
    for program in programs_of(availability, filters):
        first, last = dates_of(filters, today(program))
        quotas += availability.select(
            program=program,
            office=filters.get("office"),
            service=filters.get("service"),
            channel=filters.get("channel"),
            first=first,
            last=last,
        )
    return quotas


def fits(quota: Quota, filters: Mapping[str, str], today: Today) -> bool:
    """Whether `quotas_matching` would select the quota; a test compares the two."""
    terms, program = quota.terms, program_of(quota.id)
    facts = {
        "program": program,
        "office": terms.office,
        "service": terms.service,
        "channel": terms.channel,
    }
    if any(filters.get(name, fact) != fact for name, fact in facts.items()):
        return False
    first, last = dates_of(filters, today(program))
    return first <= terms.date <= last
