"""What is offered instead of a quota that is sold out, and what it costs when everybody is refused."""

from reservasi.availability.alternatives import FRESH_S, Alternatives
from reservasi.model import Quota, QuotaCounts
from tests.ledgers import terms


def quota(start: str, *, office: str = "kanim", date: str = "2026-12-01", capacity: int = 5) -> Quota:
    of_slot = terms(capacity, office=office, service="baru", channel="online", date=date, start=start)
    day, hour = date.replace("-", ""), start.replace(":", "")
    return Quota(id=f"p.{office}.baru.{day}.{hour}.online", terms=of_slot, counts=QuotaCounts())


class Program:
    """Counts how often its quotas are looked through."""

    def __init__(self, *quotas: Quota) -> None:
        self.quotas = list(quotas)
        self.looks: list[tuple[str, str, str]] = []
        self.now_s = 100.0
        self.alternatives = Alternatives(self._open, lambda: self.now_s)

    def _open(self, *asked: str) -> list[Quota]:
        program, service, channel = asked
        self.looks.append((program, service, channel))
        return [each for each in self.quotas if each.remaining > 0]


FULL = quota("09:00", capacity=0)


def test_the_same_office_comes_first_and_then_the_nearest() -> None:
    far, near, day_after = quota("15:00"), quota("08:30"), quota("09:00", date="2026-12-02")
    elsewhere = quota("09:00", office="unit")
    program = Program(elsewhere, far, day_after, near, FULL)
    assert program.alternatives.near(FULL, 1, 9) == [near, far, day_after, elsewhere]
    assert program.alternatives.near(FULL, 1, 2) == [near, far]


def test_a_month_s_end_is_no_gap() -> None:
    before, after = quota("09:00", date="2026-12-31"), quota("09:00", date="2027-01-01")
    assert Program(before, after).alternatives.near(quota("10:00", date="2027-01-01"), 1, 1) == [after]


def test_what_has_too_little_room_is_not_offered_nor_the_quota_itself() -> None:
    small, large = quota("08:00", capacity=2), quota("12:00", capacity=3)
    program = Program(small, large)
    assert program.alternatives.near(FULL, 3, 5) == [large]
    assert program.alternatives.near(small, 2, 5) == [large]


def test_all_refused_people_of_all_quotas_share_one_look() -> None:
    program = Program(quota("12:00"), *(quota(f"{hour:02}:00", capacity=0) for hour in range(10)))
    for refused in program.quotas[1:]:
        for places in (1, 2):
            assert len(program.alternatives.near(refused, places, 5)) == 1
    assert program.looks == [("p", "baru", "online")]
    program.now_s += FRESH_S
    program.quotas = []
    assert program.alternatives.near(FULL, 1, 5) == []
    assert len(program.looks) == 2
