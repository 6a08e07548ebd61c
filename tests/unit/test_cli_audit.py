"""Times in `reservasi audit`: in the program's zone as text, in UTC as JSON."""

from zoneinfo import ZoneInfo

import pytest

from reservasi.cli.audit import described
from reservasi.records import AuditRow

ROW = AuditRow(
    epoch=1,
    seq=2,
    at_ms=1_796_108_403_250,
    actor="cli:ani",
    reason="",
    quota="surabaya.kanim.baru.20261201.0800.online",
    opening=None,
    reservation_id=None,
    after={"capacity": 5, "opens_at_ms": 1_796_108_400_000, "closes_at_ms": 0},
)


@pytest.mark.parametrize(
    ("zone", "at"), [("Asia/Jakarta", "2026-12-01 14:00:03+07:00"), ("Asia/Jayapura", "2026-12-01 16:00:03+09:00")]
)
def test_people_read_the_programs_time_with_its_offset(zone: str, at: str) -> None:
    row = described(ROW, ZoneInfo(zone), as_json=False)
    assert (row["at"], row["after"]) == (at, f"capacity=5 opens_at={at.replace(':03+', ':00+')}")


def test_programs_read_utc() -> None:
    row = described(ROW, ZoneInfo("Asia/Jakarta"), as_json=True)
    assert row["at"] == "2026-12-01T07:00:03.250000+00:00"
    assert row["after"] == {"capacity": 5, "opens_at": "2026-12-01T07:00:00+00:00", "closes_at": None}
