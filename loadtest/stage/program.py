"""The program that a load test claims from: so many quotas on one date, all open from the start."""

import datetime as dt
from pathlib import Path
from string import Template
from typing import Any

from reservasi.bootstrap.commands import open_operations
from reservasi.cli.importing import import_program
from reservasi.model import QuotaTerms
from reservasi.programs.files import read_program
from reservasi.settings import Settings

PROGRAM = "crowd"
WINDOWS_AN_OFFICE = 10
WINDOW_MINUTES = 30
FIRST_MINUTE = 8 * 60
DAYS_AHEAD = 2  # of the date that is offered: far enough that no quota closes during a test
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


async def offer(settings: Settings, program: str, quotas: int, places: int, hold_s: int) -> int:
    """Import a program with so many quotas on one date; returns how many were created."""
    day = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=DAYS_AHEAD)
    file = settings.data_dir / f"{program}.toml"
    file.write_text(program_file(quotas, places, day, hold_s, program))
    async with open_operations(settings) as operations:
        done = await import_program(operations, read_program(file), day, day, open_now=False, quiet=True)
    return done.created


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
