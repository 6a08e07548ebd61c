"""The page about the HTTP API names limits, problem types and texts as they are in the code."""

import json
import re

import pytest

from reservasi.front.api.bodies import (
    BIRTH_YEAR_MIN,
    IDEMPOTENCY_KEY_CHARS_MAX,
    NAME_CHARS_MAX,
    OPENINGS_MAX,
    PHONE_DIGITS_MAX,
    PHONE_DIGITS_MIN,
)
from reservasi.front.api.cors import EXPOSED, TAKEN
from reservasi.front.api.declarations import PAGE_MAX, RANGE_DAYS_MAX
from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.front.handlers.programs import CACHE_A_SECOND
from reservasi.front.handlers.streams import HEARTBEAT_S
from reservasi.front.http.head_faults import HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX
from reservasi.front.views.live_feed import STREAMS_MAX, STREAMS_PER_ADDRESS_MAX
from reservasi.model import APPLICANTS_MAX, StaffScope
from reservasi.settings import Settings
from tests.pages import ROOT, tokens

PAGE = (ROOT / "docs/http-api.md").read_text()
WORDS = " ".join(PAGE.split())
DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}


def listed(headers: str) -> str:
    """Names of headers as a sentence lists them."""
    *most, last = (f"`{name}`" for name in headers.split(", "))
    return f"{', '.join(most)} and {last}"


@pytest.mark.parametrize(
    "text",
    [
        f"{IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters",
        f"{DEFAULTS['tombstone_ms'] // 3_600_000} hours after its reservation has ended",
        f"at most {PAGE_MAX:,} quotas",
        f"at most {RANGE_DAYS_MAX} days",
        f"at most {OPENINGS_MAX:,} openings",
        f"every {HEARTBEAT_S:.0f} seconds",
        f"may hold {STREAMS_PER_ADDRESS_MAX} streams at a front process, and all addresses together {STREAMS_MAX}",
        f"`{CACHE_A_SECOND.rpartition(', ')[2]}`",
        f"or is before {BIRTH_YEAR_MIN}",
        f"| {HEAD_BYTES_MAX // 1024} KiB, {HEADERS_MAX} lines | 431",
        f"| {TARGET_BYTES_MAX // 1024} KiB | 414",
        f"| {DEFAULTS['body_bytes_max'] // 1024} KiB (`body_bytes_max`) | 413",
        f"| {DEFAULTS['head_timeout_ms'] // 1000} s (`head_timeout_ms`, `body_timeout_ms`) | 408",
        f"more than {NAME_CHARS_MAX} characters",
        f"fewer than {PHONE_DIGITS_MIN} or more than {PHONE_DIGITS_MAX} digits",
        f"1 to {APPLICANTS_MAX}, all or none",
        ", ".join(f"`{scope}`" for scope in StaffScope),
        f"may send {listed(TAKEN)}, and read {listed(EXPOSED)}.",
    ],
)
def test_a_limit_is_named_as_it_is(text: str) -> None:
    assert text in WORDS


def test_head_and_body_have_the_same_time() -> None:
    assert DEFAULTS["head_timeout_ms"] == DEFAULTS["body_timeout_ms"]


def test_the_refusal_that_is_shown_reads_as_it_does() -> None:
    shown = next(json.loads(each.content) for each in tokens(PAGE) if each.type == "fence" and each.info == "json")
    sold_out = PROBLEM_TYPES["sold-out"]
    expected = {"title": sold_out.title.en, "status": 409, "detail": sold_out.detail.en, "next": sold_out.next.en}
    assert {name: shown[name] for name in expected} == expected
    assert {*shown} - {"type", *expected} <= {*sold_out.members}


def test_every_refusal_has_the_status_that_is_named() -> None:
    named = re.findall(r"\b([45][0-9]{2}) `([a-z-]+)`", PAGE)
    assert len(named) > 15
    for status, name in named:
        assert PROBLEM_TYPES[name].status == int(status), name
