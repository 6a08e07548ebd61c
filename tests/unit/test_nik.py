"""Valid NIKs: every province code that was ever issued, every existing date, and no list that becomes outdated."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum.id import nik as stdnum_nik

from reservasi.front.reading.field_checks import check_nik
from reservasi.nik import PROVINCES, PROVINCES_FORMER, PROVINCES_IN_FORCE, is_known, tidy_nik

# Spelled out on purpose: Kepmendagri 300.2.2-2138/2025, and Timor Timur.
IN_FORCE = [
    *("11", "12", "13", "14", "15", "16", "17", "18", "19", "21"),
    *("31", "32", "33", "34", "35", "36"),
    *("51", "52", "53"),
    *("61", "62", "63", "64", "65"),
    *("71", "72", "73", "74", "75", "76"),
    *("81", "82"),
    *("91", "92", "93", "94", "95", "96"),
]
FORMER = ["54"]
NEVER = [code for code in (f"{number:02d}" for number in range(100)) if code not in (*IN_FORCE, *FORMER)]


def test_the_table_holds_all_codes_and_no_other() -> None:
    assert sorted(PROVINCES_IN_FORCE) == IN_FORCE
    assert sorted(PROVINCES_FORMER) == FORMER
    assert len(IN_FORCE) == len(set(PROVINCES_IN_FORCE.values())) == 38
    assert frozenset(IN_FORCE + FORMER) == PROVINCES


@pytest.mark.parametrize("code", IN_FORCE + FORMER)
def test_every_province_that_ever_was_is_taken(code: str) -> None:
    for regency in ("01", "71", "99"):  # no list of regencies: they are split and renumbered
        assert check_nik(f"{code}{regency}010101900001") is None


@pytest.mark.parametrize("code", NEVER)
def test_a_province_that_never_was_is_refused(code: str) -> None:
    wrong = check_nik(f"{code}71010101900001")
    assert wrong is not None
    assert wrong.code == "nik-invalid"


def test_a_province_as_a_whole_registers_nobody() -> None:
    assert not is_known("3500010101900001")


@settings(deadline=None)
@given(st.dates(date(1930, 1, 1), date(2026, 11, 29)), st.sampled_from([0, 40]), st.sampled_from(sorted(PROVINCES)))
def test_every_day_of_birth_is_one(born: date, woman: int, province: str) -> None:
    assert is_known(f"{province}7101{born.day + woman:02d}{born:%m%y}0001")


@pytest.mark.parametrize(
    ("day", "real"),
    [
        ("290200", True),  # 2000 was a leap year, 1900 was none
        ("690204", True),
        ("290296", True),
        ("290201", False),
        ("690297", False),
        ("300200", False),
        ("310490", False),
        ("710490", False),
        ("000190", False),
        ("400190", False),
        ("320190", False),
        ("720190", False),
        ("810190", False),
        ("011390", False),
        ("010090", False),
    ],
)
def test_days_that_are_in_either_century(day: str, real: bool) -> None:
    assert is_known(f"357101{day}0001") is real


@settings(deadline=None)
@given(st.from_regex(r"[0-9]{2}(0[1-9]|[1-9][0-9])[0-9]{12}", fullmatch=True))
def test_whoever_a_library_with_an_older_table_knows_is_known(nik: str) -> None:
    assert (bool(stdnum_nik.is_valid(nik)) and int(nik[6:8]) <= 71) <= is_known(nik)


@pytest.mark.parametrize(
    "written",
    [
        "3578 0141 0790 0001",
        " 3578014107900001 ",
        "35.78.01.410790.0001",
        "357801-410790-0001",
        "357801\u2013410790\u20130001",
        "3578014107900001\u200b",
        "\u202a3578014107900001\u202c",
        "\ufeff3578\u00a00141\u202f0790\t0001",
        "3578014107900001\n",
        "35780141\r\n07900001",
        "３５７８０１４１０７９００００１",
        "３５７８．０１４１\u3000０７９０－０００１",
        "٣٥٧٨٠١٤١٠٧٩٠٠٠٠١",
    ],
)
def test_groups_are_digits_alone(written: str) -> None:
    assert tidy_nik(written) == "3578014107900001"


@pytest.mark.parametrize(
    "written",
    [
        "3578014107900001\x00",
        "3578014107900001\x0b",
        " 357801410790000",
        "３５７８０１４１０７９００００",
        "³⁵⁷⁸⁰¹⁴¹⁰⁷⁹⁰⁰⁰⁰¹",
        "3578/0141/0790/0001",
        "",
    ],
)
def test_anything_else_is_left_as_it_is(written: str) -> None:
    assert tidy_nik(written) == written
    assert check_nik(written) is not None
