"""Quotas and moments as shown to the public."""

import gzip
import hashlib
import re
import time
from collections.abc import Hashable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from reservasi.front.api.bodies import QuotaBody, StaffQuotaBody
from reservasi.front.views.ticket_rules import TicketRule
from reservasi.model import Quota
from reservasi.quota_state import QuotaState

GZIP = "gzip"
GZIP_LEVEL = 2  # a higher level costs more time than it saves
COMPRESSED_BYTES_MIN = 1024  # smaller bodies fit into a packet
_CODING = re.compile(r"([!#$%&'*+.^_`|~0-9a-z-]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")


@lru_cache(maxsize=1024)  # all holds of a batch end at the same moment
def moment(at_ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC; with a fraction if it is not 0."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds").replace("+00:00", "Z")


def moment_or_none(at_ms: int) -> str | None:
    """The same, with null for "none"."""
    return moment(at_ms) if at_ms else None


def quota_body(quota: Quota, state: QuotaState, rule: TicketRule) -> QuotaBody:
    return QuotaBody(**_public(quota, state, rule))


def staff_quota_body(quota: Quota, state: QuotaState, rule: TicketRule) -> StaffQuotaBody:
    terms, counts = quota.terms, quota.counts
    return StaffQuotaBody(
        **_public(quota, state, rule),
        held=counts.held,
        confirmed=counts.confirmed,
        returning=counts.returning,
        closes_at=moment_or_none(terms.closes_at_ms),
        closed=terms.closed,
        version=counts.version,
    )


def _public(quota: Quota, state: QuotaState, rule: TicketRule) -> dict[str, Any]:
    terms = quota.terms
    return {
        "id": quota.id,
        "office": terms.office,
        "service": terms.service,
        "channel": terms.channel,
        "date": terms.date,
        "start": terms.start,
        "end": terms.end,
        "capacity": terms.capacity,
        "remaining": quota.remaining,
        "state": state,
        "opens_at": moment_or_none(terms.opens_at_ms),
        "opening": rule.opening,
        "ticket_required": rule.required,
    }


class Encoded:
    """A body and its strong entity tag; compressed at most once, when that is first requested."""

    __slots__ = ("_variant", "answers", "body", "compress_s", "content_encoding", "etag")

    def __init__(self, body: bytes, etag: str, content_encoding: str = "") -> None:
        self.body = body
        self.etag = etag
        self.content_encoding = content_encoding  # "" for uncompressed
        self.compress_s = 0.0  # time that compressing took
        self.answers: dict[Hashable, Any] = {}  # answers built from it, by their headers: a few
        self._variant: Encoded | None = None  # the compressed variant

    def variant(self, *, gzip: bool) -> "Encoded":
        """The body as it is sent; small ones are not compressed."""
        if not gzip:
            return self
        if self._variant is None:
            self._variant = self._compressed()
        return self._variant

    @property
    def etags(self) -> tuple[str, str]:
        """The tags of this content in both encodings."""
        return self.etag, f'{self.etag[:-1]}-{GZIP}"'

    @property
    def has_variants(self) -> bool:
        """Whether other callers may get another encoding."""
        return bool(self.content_encoding) or len(self.body) >= COMPRESSED_BYTES_MIN

    def _compressed(self) -> "Encoded":
        started_s = time.perf_counter()
        body = compressed(self.body)
        self.compress_s = time.perf_counter() - started_s
        return self if body is None else Encoded(body, self.etags[1], GZIP)


def compressed(body: bytes) -> bytes | None:
    """The body compressed with gzip; None if it is small or would grow."""
    if len(body) < COMPRESSED_BYTES_MIN:
        return None
    smaller = gzip.compress(body, GZIP_LEVEL, mtime=0)  # the same bytes in every process
    return smaller if len(smaller) < len(body) else None


def encoded(body: bytes) -> Encoded:
    """The tag is a hash of the content, so that every process gives the same one."""
    return Encoded(body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"')


@lru_cache(maxsize=1024)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding (RFC 9110 section 12.5.3) accepts gzip; unreadable parts are ignored."""
    accepted = {}
    for element in accept_encoding.lower().split(","):
        matched = _CODING.fullmatch(element.strip(" \t"))
        if matched:
            accepted[matched[1]] = float(matched[2] or 1) > 0
    return accepted.get(GZIP, accepted.get("x-gzip", accepted.get("*", False)))
