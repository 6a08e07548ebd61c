"""The filters of availability: which quotas of the view they choose, and whether one quota is among those."""

from collections.abc import Mapping

from reservasi.availability import Availability
from reservasi.model import Quota
from reservasi.programs import program_of


def quotas_matching(availability: Availability, filters: Mapping[str, str]) -> list[Quota]:
    """The quotas that match the query parameters of availability, by program, date, start and id."""
    return availability.select(
        program=filters.get("program"),
        office=filters.get("office"),
        service=filters.get("service"),
        channel=filters.get("channel"),
        first=filters.get("from"),
        last=filters.get("to"),
    )


def fits(quota: Quota, filters: Mapping[str, str]) -> bool:
    """Whether `quotas_matching` would choose the quota; a test holds one against the other."""
    terms = quota.terms
    facts = {
        "program": program_of(quota.id),
        "office": terms.office,
        "service": terms.service,
        "channel": terms.channel,
    }
    return all(filters.get(name, fact) == fact for name, fact in facts.items()) and filters.get(
        "from", terms.date
    ) <= terms.date <= filters.get("to", terms.date)
