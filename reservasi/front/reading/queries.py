"""Query parameters: known ones, each at most once, each checked; and filters that several operations share."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from reservasi.catalogue import Catalogue
from reservasi.front.api.bodies import ID_PATTERN
from reservasi.front.api.date_ranges import is_too_long
from reservasi.front.api.declarations import PAGE_MAX, RANGE_DAYS_MAX
from reservasi.front.api.languages import Text
from reservasi.front.api.not_found import no_program
from reservasi.front.api.paging import read_position
from reservasi.front.api.problem_catalogue import INVALID_REQUEST
from reservasi.front.api.problems import Finding, Refused
from reservasi.front.api.request import Request, query_parameters
from reservasi.front.reading.field_checks import check_date_parameter, parameter_check
from reservasi.front.reading.findings import HARMLESS_KEY, Check, Wrong
from reservasi.tidying import tidy_word

# the zone in which today is latest: nobody is refused because of their time zone
EASTERNMOST = timezone(timedelta(hours=14))
READ_KEPT_MAX = 1024
NO_FILTERS: Mapping[str, str] = {}
_ID = parameter_check(ID_PATTERN)


class Filters:
    """Query parameters that belong together: their checks, and a cache of recent values."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self.checks = checks
        self.read = lru_cache(maxsize=READ_KEPT_MAX)(self._read)  # by the query as sent

    def _read(self, query: str) -> Mapping[str, str]:
        """The values of a query; refuses a reversed or too long date range."""
        return checked_filters(query_parameters(query), self.checks)


_LIMIT = Text(
    f"Isi 1 sampai {PAGE_MAX}. Minta sisanya dengan `after`.", f"1 to {PAGE_MAX}; request the rest with `after`."
)
_AFTER = Text("Gunakan nilai `next` dari jawaban sebelumnya.", "Use the value of `next` in the previous answer.")


def _check_limit(value: Any) -> Wrong | None:
    """The number of quotas of a page."""
    is_number = value.isascii() and value.isdecimal() and len(value) <= len(str(PAGE_MAX))
    return None if is_number and 1 <= int(value) <= PAGE_MAX else Wrong("out-of-range", _LIMIT)


def _check_after(value: Any) -> Wrong | None:
    """The beginning of a page."""
    return None if read_position(value) is not None else Wrong("after-invalid", _AFTER)


PROGRAM_FILTER = {"program": _ID}
_DATES = {"from": check_date_parameter, "to": check_date_parameter}
OPENING_FILTERS = Filters({"program": _ID, "office": _ID, **_DATES})
AVAILABILITY_FILTERS = Filters({"program": _ID, "office": _ID, "service": _ID, "channel": _ID, **_DATES})
PAGED_FILTERS = Filters({**AVAILABILITY_FILTERS.checks, "limit": _check_limit, "after": _check_after})


def read_query(catalogue: Catalogue, request: Request, checks: Mapping[str, Check]) -> Mapping[str, str]:
    """The query parameters; refuses unknown, repeated and invalid ones, all at once."""
    if not request.query:
        return NO_FILTERS
    return _naming_programs(catalogue, request, lambda: check_query(request.query_parameters, checks))


def read_filters(catalogue: Catalogue, request: Request, filters: Filters = AVAILABILITY_FILTERS) -> Mapping[str, str]:
    """The filters of availability or of openings; refuses a reversed or too long date range."""
    if not request.query:
        return NO_FILTERS
    return _naming_programs(catalogue, request, lambda: filters.read(request.query))


def checked_filters(parameters: Iterable[tuple[str, str]], checks: Mapping[str, Check]) -> dict[str, str]:
    """The filters among decoded parameters."""
    filters = check_query(parameters, checks)
    if "from" in filters and "to" in filters and filters["from"] > filters["to"]:
        raise Refused(INVALID_REQUEST, findings=(Finding("from", "dates-reversed", _DATES_REVERSED),))
    if is_too_long(filters, datetime.now(EASTERNMOST).date().isoformat()):
        raise Refused(INVALID_REQUEST, findings=(Finding("to", "range-too-long", _RANGE_TOO_LONG),))
    return filters


_RANGE_TOO_LONG = Text(
    f"Paling banyak {RANGE_DAYS_MAX} hari dari `from` (tanpa `from`: dari hari ini). Minta per bagian.",
    f"At most {RANGE_DAYS_MAX} days from `from` (without it: from today). Request it in parts.",
)
_DATES_REVERSED = Text("`from` tidak boleh sesudah `to`.", "`from` must not lie after `to`.")


def _naming_programs(
    catalogue: Catalogue, request: Request, read: Callable[[], Mapping[str, str]]
) -> Mapping[str, str]:
    """The result of `read`; a refusal of the value of `program` lists the existing programs."""
    try:
        return read()
    except Refused as refused:
        value = next((value for name, value in request.query_parameters if name == "program"), "")
        findings = tuple(
            Finding(each.pointer, each.code, no_program(catalogue, value)) if _is_of_program(each) else each
            for each in refused.findings
        )
        raise Refused(refused.kind, findings=findings) from None


def _is_of_program(finding: Finding) -> bool:
    return (finding.pointer, finding.code) == ("program", "parameter-invalid")


def check_query(parameters: Iterable[tuple[str, str]], checks: Mapping[str, Check]) -> dict[str, str]:
    """The values of decoded parameters; refuses unknown, repeated and invalid ones, all at once."""
    read: dict[str, str] = {}
    findings: list[Finding] = []
    for name, value in parameters:
        check = checks.get(name)
        if check is None:
            findings.append(_unknown(name, checks))
        elif name in read:
            findings.append(Finding(name, "repeated-parameter", _REPEATED_PARAMETER))
        else:
            wrong = check(value)
            if wrong is not None:
                value = tidy_word(value)  # noqa: PLW2901 - a space or a mark that came along with a pasted one
                wrong = check(value)
            if wrong is not None:
                findings.append(Finding(name, wrong.code, wrong.detail))
            read[name] = value
    if findings:
        raise Refused(INVALID_REQUEST, findings=tuple(findings))
    return read


def refuse_parameters(request: Request) -> None:
    """Refuse every query parameter, for an operation without any."""
    check_query(request.query_parameters, {})


def _unknown(name: str, checks: Mapping[str, Check]) -> Finding:
    """The finding of an unknown parameter, by its name if it cannot contain a person's number, with the known ones."""
    if not checks:
        existing = Text("Alamat ini tidak menerima parameter.", "This address has no parameters.")
    else:
        names = ", ".join(f"`{each}`" for each in checks)
        existing = Text(f"Yang tersedia: {names}.", f"There are: {names}.")
    if not HARMLESS_KEY.fullmatch(name):
        text = Text(f"Ada parameter yang tidak dikenal. {existing.id}", f"There is an unknown parameter. {existing.en}")
        return Finding("", "unknown-parameter", text)
    text = Text(f"Tidak ada parameter `{name}`. {existing.id}", f"There is no parameter `{name}`. {existing.en}")
    return Finding(name, "unknown-parameter", text)


_REPEATED_PARAMETER = Text("Parameter ini ditulis lebih dari satu kali.", "This parameter is given more than once.")
