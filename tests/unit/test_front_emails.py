"""E-mail addresses: the fast check agrees with the library."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given, settings
from hypothesis import strategies as st

from reservasi.front.reading.emails import is_email, tidy_email
from reservasi.front.reading.field_checks import check_email

LOCALS = st.text(st.sampled_from("abZ09._+'&-!#{ \"é@"), max_size=12) | st.sampled_from(
    ["info", "Info", "a" * 64, "a" * 65]
)
LABELS = st.text(st.sampled_from("abZ09-é_"), max_size=5) | st.sampled_from(["x" * 63, "x" * 64, "xn--4ca", "ab--c"])
DOMAINS = st.lists(LABELS | st.sampled_from(["id", "test", "local", "com"]), max_size=5).map(".".join)
ADDRESSES = st.builds("{}@{}".format, LOCALS, DOMAINS) | st.text(max_size=20) | st.emails()


def by_the_library(text: str) -> str | None:
    try:
        address = validate_email(text, check_deliverability=False, allow_smtputf8=False, strict=True)
    except (EmailNotValidError, ValueError):
        return None
    return address.ascii_email


@settings(deadline=None)
@given(ADDRESSES)
def test_an_address_is_what_the_library_takes_as_it_is(text: str) -> None:
    assert is_email(text) == (by_the_library(text) == text)


@settings(deadline=None)
@given(ADDRESSES)
def test_a_tidied_address_is_an_address_or_refused(text: str) -> None:
    tidied = tidy_email(text)
    assert tidy_email(tidied) == tidied
    assert (check_email(tidied) is None) == is_email(tidied)
    kept = by_the_library(text)
    assert kept is None or tidied == kept


@pytest.mark.parametrize(
    "address",
    [
        "siti@example.id",
        "o'brien@x.id",
        "a&b@x.id",
        "a+b@x.co.id",
        "siti_a-b.c@mail.kemenkumham.go.id",
        "{x}!#$%*/=?^`|~@x.id",
        "1@1.id",
    ],
)
def test_addresses(address: str) -> None:
    assert check_email(address) is None
    assert tidy_email(address) == address


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" siti@example.id\u00a0", "siti@example.id"),
        ("\u200bsiti@example.id\ufeff", "siti@example.id"),
        ("o\u2019brien@x.id", "o'brien@x.id"),
        ("Siti@Example.ID", "Siti@example.id"),
        ("a@exämple.id", "a@xn--exmple-cua.id"),
    ],
)
def test_addresses_are_tidied(typed: str, kept: str) -> None:
    assert tidy_email(typed) == kept
    assert check_email(kept) is None


@pytest.mark.parametrize(
    "typed",
    [
        "siti..r@x.id",
        ".siti@x.id",
        "siti.@x.id",
        "x@-example.id",
        "x@example-.id",
        "x@exa..mple.id",
        "x@example",
        "x@.id",
        "x@id.",
        "@x.id",
        "x@",
        "x",
        "a b@x.id",
        "a@b@x.id",
        "Siti <siti@x.id>",
        '"a b"@x.id',
        "a@[127.0.0.1]",
        "siti@x.id\n",
        "sití@x.id",
        "a" * 65 + "@x.id",
        "a@" + "b." * 130 + "id",
        "a@x.123",
        "a@localhost",
    ],
)
def test_what_is_none(typed: str) -> None:
    wrong = check_email(tidy_email(typed))
    assert wrong is not None
    assert wrong.code == "email-invalid"


@pytest.mark.parametrize(
    ("typed", "character"),
    [
        ("siti\x07@x.id", "U+0007 (BELL)"),
        ("siti@x.id\n", "U+000A (LINE FEED)"),
        ("s\u0131ti@x.id", "U+0131 (LATIN SMALL LETTER DOTLESS I)"),
        ("s\u0456ti@x.id", "U+0456 (CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I)"),
        ("siti aminah@x.id", "U+0020 (SPACE)"),
        ("siti\u00a0@x.id", "U+0020 (SPACE)"),
    ],
)
def test_a_character_that_cannot_be_is_named(typed: str, character: str) -> None:
    wrong = check_email(tidy_email(typed))
    assert wrong is not None
    assert character in wrong.detail.en
    assert character in wrong.detail.id
