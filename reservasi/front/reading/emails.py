"""E-mail addresses: the library email-validator decides; common forms are recognised quickly."""

import re
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

from reservasi.front.api.bodies import EMAIL_CHARS_MAX
from reservasi.tidying import tidy_line, unusable_character

# A local part of at most 64 characters (RFC 5321, section 4.5.3.1.1) that the library accepts unchanged, if there are
# no two dots in a row; without capitals, since it lowers a few names such as `Info`.
_PLAIN_LOCAL = re.compile(r"[a-z0-9_+'&-][a-z0-9._+'&-]{0,62}(?<!\.)@").match


def is_email(text: str) -> bool:
    """Whether a text is an address in its stored form."""
    plain = _PLAIN_LOCAL(text)
    if plain is None:
        return _normalised(text) == text
    return _is_domain(text[plain.end() :]) and ".." not in text and len(text) <= EMAIL_CHARS_MAX


def tidy_email(text: str) -> str:
    """An address in its stored form, with the domain in lower-case ASCII; any other text is only tidied."""
    if is_email(text):
        return text
    plain = tidy_line(text)
    return _normalised(plain) or plain


def unusable_in_email(text: str) -> str | None:
    """The first character that no address may have; before the @ also a space or a character outside ASCII."""
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
    except (EmailNotValidError, ValueError):  # the latter from libraries that it uses
        return None
    return address.ascii_email
