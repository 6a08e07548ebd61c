"""Pages of availability: a page begins after a given quota, which need not exist any more."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Mapping, Sequence

import msgspec

from reservasi.front.api.declarations import AFTER_CHARS_MAX, PAGE_MAX
from reservasi.model import Quota
from reservasi.programs import program_of


def page_of(quotas: Sequence[Quota], filters: Mapping[str, str]) -> tuple[Sequence[Quota], str | None]:
    """The requested page of ordered quotas, and the value of `after` for the next one."""
    limit, after = int(filters.get("limit", PAGE_MAX)), read_position(filters.get("after", ""))
    first = bisect_right(quotas, after, key=_place) if after else 0
    page = quotas[first : first + limit]
    return page, _name(page[-1]) if first + limit < len(quotas) else None


def _place(quota: Quota) -> tuple[str, str, str, str]:
    return program_of(quota.id), quota.terms.date, quota.terms.start, quota.id


def _name(quota: Quota) -> str:
    return urlsafe_b64encode(msgspec.json.encode(_place(quota))).decode().rstrip("=")


def read_position(name: str) -> tuple[str, str, str, str] | None:
    """The beginning of a page by its name; None if it is malformed."""
    if not name or len(name) > AFTER_CHARS_MAX or not name.isascii():
        return None
    try:
        return msgspec.json.decode(urlsafe_b64decode(name + "=" * (-len(name) % 4)), type=tuple[str, str, str, str])
    except ValueError:
        return None
