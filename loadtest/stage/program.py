"""The program that a load test claims from: so many quotas on one date, all open from the start."""

import datetime as dt
from pathlib import Path
from string import Template
from typing import Any

from reservasi.model import QuotaTerms

PROGRAM = "crowd"
WINDOWS_AN_OFFICE = 10
WINDOW_MINUTES = 30
FIRST_MINUTE = 8 * 60
QUOTAS_MAX = 200 * WINDOWS_AN_OFFICE

HEAD, OFFICE = (
    Template(Path(__file__).with_name(name).read_text()) for name in ("program.toml", "program_office.toml")
)


def program_file(quotas: int, places: int, day: dt.date, hold_s: int, program: str = PROGRAM) -> str:
    """TOML that expands on `day` to exactly so many quotas of so many places each.

    The day is an extra date, so that neither weekend nor holiday matters to when the test runs.
    """
    if not 1 <= quotas <= QUOTAS_MAX:
        raise ValueError(f"quotas must be 1 to {QUOTAS_MAX}")
    parts = [HEAD.substitute(program=program, hold_s=hold_s, day=day.isoformat())]
    times = {"open": _clock(FIRST_MINUTE), "slot_minutes": WINDOW_MINUTES}
    for number, first in enumerate(range(0, quotas, WINDOWS_AN_OFFICE), start=1):
        close = _clock(FIRST_MINUTE + min(WINDOWS_AN_OFFICE, quotas - first) * WINDOW_MINUTES)
        parts.append(OFFICE.substitute(times, number=number, padded=f"{number:03d}", places=places, close=close))
    return "".join(parts)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def open_terms(**changes: Any) -> QuotaTerms:
    """The terms of a quota that is open, never closes and takes places back at once; `changes` are other terms."""
    terms: dict[str, Any] = {
        "capacity": 10,
        "opens_at_ms": 0,
        "closes_at_ms": 0,
        "cancel_until_ms": 0,
        "hold_ms": 7_200_000,
        "return_min_ms": 0,
        "return_max_ms": 0,
        "closed": False,
        "office": "kanim",
        "service": "baru",
        "channel": "online",
        "date": "2030-12-01",
        "start": "08:00",
        "end": "08:30",
    }
    return QuotaTerms(**{**terms, **changes})
