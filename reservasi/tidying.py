"""Normalises text that people type, so that the same words are the same text wherever they were typed.

Changed are spaces of any kind and tabs, invisible characters (zero-width, direction marks, byte order marks, soft
hyphens), typographic apostrophes and hyphens, and decomposed accents (NFC). Names of the civil registry are in Latin
letters (Permendagri 73/2022, article 5), so that joiners can be removed. Control characters other than the tab are
kept: they are refused, and the refusal names them.
"""

import re
import unicodedata

TIDIED_CHARS_MAX = 512  # longer than any field may be: longer text is not changed, and is refused for its length
# Default_Ignorable_Code_Point of Unicode 16.0 (DerivedCoreProperties.txt): invisible characters.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# General_Category Zs, the tab, and the line and paragraph separators of word processors.
_SPACES = re.compile("[\t \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_TYPOGRAPHIC = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201b\u02bc\uff07"), "'"),
    **dict.fromkeys(map(ord, "\u2010\u2011\ufe63\uff0d"), "-"),
}
_FULL_WIDTH = {0xFF01 + offset: 0x21 + offset for offset in range(0x5E)}
_PHONE_SEPARATORS = re.compile(r"[ ().\-/\u2012-\u2015\u2212]+")
_SEPARATORS_BUT_SLASH = re.compile(r"[ ().\-\u2012-\u2015\u2212]+")
_TRUNK_ZERO = re.compile(r"^(\+[0-9]{1,3}[ .-]?)\(0\)")  # +62 (0)21: the 0 is dialled within the country only
_LOCAL_ZERO = re.compile(r"^(\+62|0062)0+")
_PHONE_DIGITS_MIN = 6
_ENDING_DIGITS_MAX = 3  # of a second number that differs from the first only there
_E164_DIGITS_MAX = 15
_CONTROLS = {
    0x00: "NULL",
    0x07: "BELL",
    0x08: "BACKSPACE",
    0x09: "TAB",
    0x0A: "LINE FEED",
    0x0B: "LINE TABULATION",
    0x0C: "FORM FEED",
    0x0D: "CARRIAGE RETURN",
    0x1B: "ESCAPE",
    0x7F: "DELETE",
    0x85: "NEXT LINE",
}  # characters without a name in the character database


def tidy_line(text: str) -> str:
    """One line of text: single plain spaces between words, none around them, nothing invisible, accents composed."""
    if text.isascii() and text.isprintable() and "  " not in text and text.strip(" ") == text:
        return text
    plain = without_marks(text)
    return plain if len(plain) > TIDIED_CHARS_MAX else _SPACES.sub(" ", plain).strip(" ")


def plain_spaces(text: str) -> str:
    """A text in which spaces of any kind are single plain ones, and everything else is unchanged."""
    return _SPACES.sub(" ", text)


def without_marks(text: str) -> str:
    """A text without invisible characters, each space a plain one, apostrophes and hyphens as on a keyboard."""
    if len(text) > TIDIED_CHARS_MAX:
        return text
    visible = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return _SPACES.sub(lambda spaces: " " * len(spaces[0]), visible.translate(_TYPOGRAPHIC))


def tidy_word(text: str) -> str:
    """A text that has no spaces, such as a reference or a ticket, without inserted spaces."""
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    return without_marks(text).replace(" ", "")


def tidy_ticket(text: str) -> str:
    """A ticket without spaces and the line breaks of a letter or terminal."""
    return tidy_word(text if text.isprintable() else text.replace("\r", "").replace("\n", ""))


def tidy_date(text: str) -> str:
    """A date without spaces, line breaks and invisible characters around it, with ASCII digits."""
    if text.isascii() and text.isprintable() and text.strip(" ") == text:
        return text
    return ascii_digits(without_marks(text)).strip(" \r\n")


def ascii_digits(text: str) -> str:
    """A text with digits of other scripts or widths as 0 to 9, and full-width punctuation as on a keyboard."""
    if text.isascii() or len(text) > TIDIED_CHARS_MAX:
        return text
    plain = text.translate(_FULL_WIDTH)
    return "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in plain)


def tidy_reference(text: str) -> str:
    """A payment reference; one of digits only may be written in groups, such as `8202 6112 7001`."""
    line = tidy_line(text)
    digits = line.replace(" ", "")
    return digits if digits.isascii() and digits.isdigit() else line


def tidy_phone(text: str) -> str:
    """A telephone number as digits only, after a plus if there was one.

    A slash behind an area code is removed. One between two whole numbers stays, so that it is refused. The 0 that is
    dialled within Indonesia is removed behind its country code.
    """
    number = _plain_phone(text)
    return _LOCAL_ZERO.sub(r"\1", number) if number.startswith(("+620", "00620")) else number


def _plain_phone(text: str) -> str:
    digits = text[1:] if text[:1] == "+" else text
    if digits.isascii() and digits.isdigit():
        return text  # the usual form
    plain = ascii_digits(tidy_line(text))
    if len(plain) > TIDIED_CHARS_MAX:
        return plain
    number = _TRUNK_ZERO.sub(r"\1", plain)
    if _has_two_numbers(number):
        return _SEPARATORS_BUT_SLASH.sub("", number)
    number = _PHONE_SEPARATORS.sub("", number)
    return number if len(number) > _PHONE_DIGITS_MIN else _PHONE_SEPARATORS.sub("", plain)


def _has_two_numbers(text: str) -> bool:
    """Whether a slash divides two whole numbers.

    Behind an area code a part never begins with a 0 or a plus, and no number has more than 15 digits (ITU-T E.164).
    A few digits behind a whole number are the end of a second one, as in `021-5551234/35`.
    """
    if "/" not in text:
        return False
    first, *others = (part.strip(" (.-") for part in text.split("/"))
    digits, *more = (sum("0" <= each <= "9" for each in part) for part in (first, *others))
    begins_or_ends = any(part.startswith(("0", "+")) for part in others) or min(more) <= _ENDING_DIGITS_MAX
    return (digits >= _PHONE_DIGITS_MIN and begins_or_ends) or digits + sum(more) > _E164_DIGITS_MAX


def unusable_character(text: str) -> str | None:
    """The first character that is not allowed in names and reasons, such as a control character or an emoji."""
    if text.isascii() and text.isprintable():
        return None
    for each in text:
        if not each.isprintable() or unicodedata.category(each) in ("So", "Me"):
            return each
    return None


def name_character(character: str) -> str:
    """A character by its code point and its name, such as `U+0007 (BELL)`."""
    name = _CONTROLS.get(ord(character)) or unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" ({name})" if name else "")
