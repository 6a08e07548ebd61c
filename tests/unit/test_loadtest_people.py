"""Invented applicants are accepted by the service's own checks, and no two share a NIK."""

from loadtest.stage.people import COMPANION_OFFSET, companion, person
from reservasi.front.reading.field_checks import check_birth_date, check_name, check_nik

PEOPLE = 5000


def test_applicants_are_distinct_and_valid() -> None:
    crowd = [person(number) for number in range(PEOPLE)] + [companion(number) for number in range(PEOPLE)]
    assert len({one.nik for one in crowd}) == 2 * PEOPLE
    for one in crowd:
        assert check_nik(one.nik) is None
        assert check_name(one.name) is None
        assert check_birth_date(one.birth_date.isoformat()) is None


def test_the_same_number_and_seed_are_the_same_person() -> None:
    assert person(7, seed=3) == person(7, seed=3) != person(7, seed=4)
    assert companion(7) == person(COMPANION_OFFSET + 7)
