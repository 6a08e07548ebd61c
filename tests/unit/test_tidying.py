"""Normalisation of typed text: the same words give the same text on every device."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reservasi.front.reading.field_checks import check_name, check_phone, tidy_name
from reservasi.tidying import (
    TIDIED_CHARS_MAX,
    name_character,
    tidy_line,
    tidy_phone,
    tidy_reference,
    tidy_ticket,
    tidy_word,
    unusable_character,
)

EVERY_SPACE = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Zs", "Zl", "Zp")]
UNSEEN = [*"\u00ad\u034f\u061c\u200b\u200c\u200d\u200e\u200f\u2060\ufe0f\ufeff", *map(chr, range(0x202A, 0x202F))]
UNSEEN += [*map(chr, range(0x2066, 0x206A)), "\U000e0041"]
MESSY = st.text(
    st.sampled_from([*"abcSiti 0123+()-./", "\t", "é", "\u0301", "\u2019", "\u2011", "\U0001f600", "\x07"])
    | st.sampled_from(EVERY_SPACE)
    | st.sampled_from(UNSEEN)
    | st.characters(),
    max_size=60,
)


@pytest.mark.parametrize("space", [*EVERY_SPACE, "\t"], ids=lambda space: f"U+{ord(space):04X}")
def test_every_space_is_a_plain_one(space: str) -> None:
    assert tidy_line(f"{space}Siti{space}{space} Aminah{space}") == "Siti Aminah"


@pytest.mark.parametrize("mark", UNSEEN, ids=lambda mark: f"U+{ord(mark):04X}")
def test_what_nobody_sees_is_gone(mark: str) -> None:
    assert tidy_line(f"{mark}Si{mark}ti {mark}Aminah{mark}") == "Siti Aminah"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("Ma\u2019ruf", "Ma'ruf"),
        ("Ma\u02bcruf", "Ma'ruf"),
        ("Anne\u2011Marie", "Anne-Marie"),
        ("Jose\u0301", "José"),
        ("Ni  Luh\r", "Ni Luh\r"),
        ("李", "李"),
    ],
)
def test_typographic_and_composed(typed: str, kept: str) -> None:
    assert tidy_line(typed) == kept


@settings(deadline=None)
@given(MESSY)
def test_tidying_twice_is_tidying_once(text: str) -> None:
    for tidy in (tidy_line, tidy_word, tidy_ticket, tidy_reference, tidy_phone, tidy_name):
        assert tidy(tidy(text)) == tidy(text)


@pytest.mark.parametrize("typed", ["eyJ.a-b_c\n", "eyJ.\r\na-b_c", " eyJ.a\u200b-b _c\u00a0", "eyJ.a-b_c"])
def test_a_ticket_may_be_copied_with_its_line_breaks(typed: str) -> None:
    assert tidy_ticket(typed) == "eyJ.a-b_c"


@settings(deadline=None)
@given(MESSY)
@example("\U000e0100")  # a mark that changes the character before it, and there is none
def test_a_name_that_is_taken_is_tidy(text: str) -> None:
    if check_name(text) is None:
        assert tidy_name(text) == text
    name = tidy_name(text)
    wrong = check_name(name)
    assert (wrong is None) == (0 < len(name) <= 100 and not unusable_character(name) and bool(tidy_line(name)))


@pytest.mark.parametrize(
    ("typed", "character"),
    [
        ("Siti\x07", "U+0007 (BELL)"),
        ("Siti\n", "U+000A (LINE FEED)"),
        ("Siti\x00Aminah", "U+0000 (NULL)"),
        ("Siti\x9f", "U+009F"),
        ("Siti \U0001f600", "U+1F600 (GRINNING FACE)"),
        ("Siti \u2764\ufe0f", "U+2764 (HEAVY BLACK HEART)"),
        ("\ue000", "U+E000"),
        ("\u200b", "U+200B (ZERO WIDTH SPACE)"),
        ("\u00a0\u200b", "U+200B (ZERO WIDTH SPACE)"),
    ],
)
def test_what_cannot_be_tidied_is_named(typed: str, character: str) -> None:
    wrong = check_name(tidy_name(typed))
    assert wrong is not None
    assert wrong.code == "name-characters"
    assert character in wrong.detail.id
    assert character in wrong.detail.en


@pytest.mark.parametrize("typed", [" ", "\u00a0", "\t", "\u3000 \u00a0", "\u00a0" * 200])
def test_a_name_of_spaces_of_any_kind_has_only_spaces(typed: str) -> None:
    wrong = check_name(tidy_name(typed))
    assert wrong is not None
    assert (wrong.code, wrong.detail.en) == ("name-characters", "The name has only spaces.")


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("(021) 555-1234", "0215551234"),
        ("+62 812 3456 7890", "+6281234567890"),
        ("+62\u00a0812\u20113456\u20117890", "+6281234567890"),
        ("\u202a+62 812-3456-7890\u202c", "+6281234567890"),
        ("0812.3456.7890 ", "081234567890"),
        ("021/5551234", "0215551234"),
        ("021.555/1234", "0215551234"),
        ("0062 21 / 555 1234", "0062215551234"),
        ("+62 0361/222333", "+62361222333"),
        ("+49 1512/3456789", "+4915123456789"),
        ("0049 30/123456", "004930123456"),
        ("081 234/567 890", "081234567890"),
        ("0043 (0)664 / 1234567", "00430664" + "1234567"),
        ("+62 21 / 555 1234", "+62215551234"),
        ("0812 \u2013 3456 \u2013 7890", "081234567890"),
        ("(+62) 21 5551234", "+62215551234"),
        ("+62 (0)21 555 1234", "+62215551234"),
        ("+62 (0) 21 555 1234", "+62215551234"),
        ("+62 0812 3456 7890", "+6281234567890"),
        ("+620812-3456-7890", "+6281234567890"),
        ("0062 0812 3456 7890", "006281234567890"),
        ("+39 06 1234 5678", "+390612345678"),
        ("０８１２３４５６７８９０", "081234567890"),
        ("＋６２（８１２）３４５６", "+628123456"),
        ("\u0660\u0668\u0661\u0662\u0663\u0664\u0665\u0666", "08123456"),
        ("\u06f0\u06f8\u06f1\u06f2\u06f3\u06f4\u06f5\u06f6", "08123456"),
        ("\t0812\u200b3456\ufeff7890", "081234567890"),
    ],
)
def test_a_phone_number_is_its_digits(typed: str, kept: str) -> None:
    assert tidy_phone(typed) == kept
    assert check_phone(kept) is None


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("0812 3456 ext 7", "U+0065 (LATIN SMALL LETTER E)"),
        ("0812+3456789", "U+002B (PLUS SIGN)"),
        ("0812345678\x07", "U+0007 (BELL)"),
        ("08123456\n", "U+000A (LINE FEED)"),
        ("12345", "6"),
        ("1" * 21, "20"),
        ("+", "6"),
        ("08123456789, 0812999", "U+002C (COMMA)"),
        ("08123456789; 0812999", "U+003B (SEMICOLON)"),
        ("08123456789 & 0812999", "U+0026 (AMPERSAND)"),
        ("08123456789 atau 0812999", "U+0061 (LATIN SMALL LETTER A)"),
    ],
)
def test_what_is_no_phone_number_says_why(typed: str, named: str) -> None:
    wrong = check_phone(tidy_phone(typed))
    assert wrong is not None
    assert wrong.code == "phone-invalid"
    assert named in wrong.detail.id
    assert named in wrong.detail.en


@pytest.mark.parametrize(
    "typed",
    [
        "08123456789 / 0812999",
        "08123456789/08129991234",
        "+62 812 3456 789 / 0812-9991-234",
        "021/5551234/5559876",
        "(021) 555-1234 / 555987",
        "021-5551234/35",
        "(021) 5551234 / 5",
        "+62 21 555 1234/567",
        "08123456789 \uff0f 0812999",
    ],
)
def test_two_phone_numbers_are_not_joined(typed: str) -> None:
    wrong = check_phone(tidy_phone(typed))
    assert wrong is not None
    assert wrong.code == "phone-invalid"
    assert "one phone number" in wrong.detail.en
    assert "satu nomor telepon" in wrong.detail.id


def test_a_reference_of_digits_has_no_spaces() -> None:
    assert tidy_reference(" 8202 6112\u00a07001\u200b ") == "820261127001"
    assert tidy_reference(" INV-7\u200b ") == "INV-7"
    assert tidy_reference("a b") == "a b"


def test_tidying_is_bounded() -> None:
    long = "a" + "\u0301\u0316" * TIDIED_CHARS_MAX  # to be composed, all of it would have to be sorted
    assert tidy_line(long) == long
    assert check_name(tidy_name(long)) is not None


def test_every_character_has_a_name_to_be_told_by() -> None:
    assert name_character("A") == "U+0041 (LATIN CAPITAL LETTER A)"
    assert name_character("\x1f") == "U+001F"
