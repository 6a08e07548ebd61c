"""E-mail addresses: the library email-validator decides what is one; those that most people have are told quickly."""

import re
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

from reservasi.front.api.bodies import EMAIL_CHARS_MAX
from reservasi.tidying import tidy_line, unusable_character

# A local part of at most 64 characters (RFC 5321, section 4.5.3.1.1) that the library takes as it is, two dots in a row
# apart; without capitals, since it writes a few names such as `Info` small.
_PLAIN_LOCAL = re.compile(r"[a-z0-9_+'&-][a-z0-9._+'&-]{0,62}(?<!\.)@").match


def is_email(text: str) -> bool:
    """Whether a text is an address in the form in which it is kept."""
    plain = _PLAIN_LOCAL(text)
    if plain is None:
        return _normalised(text) == text
    return _is_domain(text[plain.end() :]) and ".." not in text and len(text) <= EMAIL_CHARS_MAX


def tidy_email(text: str) -> str:
    """An address in the form in which it is kept, the domain in small ASCII letters; any other text merely tidied."""
    if is_email(text):
        return text
    plain = tidy_line(text)
    return _normalised(plain) or plain


def unusable_in_email(text: str) -> str | None:
    """The first character that no address may have; before the @ that is also a space or one outside ASCII."""
    local = text.rpartition("@")[0]
    return unusable_character(text) or next((each for each in local if each == " " or not each.isascii()), None)


@lru_cache(maxsize=4096)
def _is_domain(domain: str) -> bool:
    address = f"a@{domain}"
    return _normalised(address) == address


def _normalised(text: str) -> str | None:
    if len(text) > EMAIL_CHARS_MAX:
        return None
    try:
        address = validate_email(text, check_deliverability=False, allow_smtputf8=False, strict=True)
    except (EmailNotValidError, ValueError):  # the latter from the libraries below it
        return None
    return address.ascii_email
