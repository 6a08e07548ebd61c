"""Checks of single values of requests; each says what is wrong, in both languages, and repeats nothing.

The limits are those that `bodies.py` declares; a test compares the two.
"""

import re
import time
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from reservasi.front.api.bodies import (
    BIRTH_YEAR_MIN,
    EMAIL_CHARS_MAX,
    NAME_CHARS_MAX,
    PAYMENT_REFERENCE_PATTERN,
    PHONE_DIGITS_MAX,
    PHONE_DIGITS_MIN,
    QUOTA_PATTERN,
    TICKET_CHARS_MAX,
)
from reservasi.front.api.languages import Text
from reservasi.front.reading.emails import is_email, tidy_email, unusable_in_email
from reservasi.front.reading.findings import (
    NOT_AN_ARRAY,
    NOT_AN_OBJECT,
    NOT_TEXT,
    NULL,
    NULL_OR_EMPTY,
    Check,
    Field,
    Wrong,
    text_check,
)
from reservasi.front.reading.reasons import REASON
from reservasi.model import CAPACITY_MAX
from reservasi.nik import NIK_DIGITS, is_known, tidy_nik
from reservasi.tidying import (
    name_character,
    plain_spaces,
    tidy_date,
    tidy_line,
    tidy_phone,
    tidy_reference,
    tidy_ticket,
    unusable_character,
)

_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_RFC3339 = re.compile(
    r"(20[0-9]{2}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?)(Z|z|[+-][0-9]{2}:[0-9]{2})"
)
# Dates are checked where the person is: the easternmost zone of the country is 9 hours ahead of UTC.
_EASTERNMOST_S = 9 * 3600
DAY_S = 86_400
_FIRST_BIRTH = date(BIRTH_YEAR_MIN, 1, 1)
_PAST_AT_START = datetime.now(UTC).date() - timedelta(days=1)  # valid as long as this process lives
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_nik(value: Any) -> Wrong | None:
    """A NIK: 16 ASCII digits with a known region and a real birth date (women: day + 40)."""
    if type(value) is not str:
        return Wrong("nik-type", _NIK_AS_NUMBER if type(value) in (int, float) else NOT_TEXT)
    if len(value) != NIK_DIGITS:
        return Wrong("nik-length", Text("NIK harus terdiri atas 16 angka.", "A NIK has exactly 16 digits."))
    if not (value.isascii() and value.isdigit()):
        return Wrong("nik-digits", Text("NIK hanya boleh berisi angka 0-9.", "A NIK has only the digits 0-9."))
    if not is_known(value):
        return Wrong(
            "nik-invalid",
            Text(
                "NIK tidak sah: kode wilayah atau tanggal lahir di dalamnya tidak ada.",
                "This NIK is not valid: the region or the birth date in it does not exist.",
            ),
        )
    return None


_NIK_AS_NUMBER = Text(
    "NIK harus berupa teks dalam tanda kutip, bukan angka.", "The NIK must be a string, not a number."
)


def tidy_name(text: str) -> str:
    """A name on one line; of a text of which nothing is left only the spaces are made plain, so that its fault can be
    reported.
    """
    return tidy_line(text) or plain_spaces(text)


def check_name(value: Any) -> Wrong | None:
    """A person's name, tidied: not blank, at most NAME_CHARS_MAX characters, and only characters of names."""
    if type(value) is not str:
        return Wrong("name-type", NOT_TEXT)
    if not 1 <= len(value) <= NAME_CHARS_MAX:
        return Wrong(
            "name-length",
            Text(
                f"Nama terdiri atas 1 sampai {NAME_CHARS_MAX} karakter.",
                f"A name has 1 to {NAME_CHARS_MAX} characters.",
            ),
        )
    if value.isascii() and value.isprintable() and value[0] != " " != value[-1] and "  " not in value:
        return None  # the usual form
    return _wrong_name(value)


def _wrong_name(value: str) -> Wrong | None:
    character = unusable_character(value)
    if character is not None:
        return Wrong(
            "name-characters",
            Text(
                f"Nama memuat karakter yang tidak dapat digunakan: {name_character(character)}. Hapus karakter "
                "tersebut.",
                f"The name has a character that cannot be used: {name_character(character)}. Remove it.",
            ),
        )
    if tidy_line(value) != value:
        return Wrong("name-characters", Text("Nama hanya berisi spasi.", "The name has only spaces."))
    return None


def check_birth_date(value: Any) -> Wrong | None:
    """An ISO date that exists, from BIRTH_YEAR_MIN on, not in the future."""
    if type(value) is not str:
        return Wrong("birth-date-type", NOT_TEXT)
    born = parse_date(value)
    if born is None:
        return Wrong(
            "birth-date-invalid",
            Text(
                "Tanggal lahir harus sesuai kalender dan ditulis YYYY-MM-DD.",
                "The birth date must exist, as YYYY-MM-DD.",
            ),
        )
    if not is_past(born):
        return Wrong(
            "birth-date-range",
            Text(
                f"Tanggal lahir harus antara tahun {BIRTH_YEAR_MIN} dan hari ini.",
                f"The birth date must lie between {BIRTH_YEAR_MIN} and today.",
            ),
        )
    return None


def is_past(born: date) -> bool:
    """Whether a living person may be born on that day."""
    if _FIRST_BIRTH <= born <= _PAST_AT_START:
        return True  # nearly always
    return _FIRST_BIRTH <= born <= _today(int(time.time() + _EASTERNMOST_S) // DAY_S)


@lru_cache(maxsize=2)
def _today(days: int) -> date:
    return date(1970, 1, 1) + timedelta(days=days)


def parse_date(value: str) -> date | None:
    """An ISO date in the form YYYY-MM-DD; None if it is malformed or does not exist."""
    if not _ISO_DATE.fullmatch(value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _check_array(value: Any) -> Wrong | None:
    return None if type(value) is list else Wrong("array-expected", NOT_AN_ARRAY)


def _check_object(value: Any) -> Wrong | None:
    return None if type(value) is dict else Wrong("object-expected", NOT_AN_OBJECT)


def _check_ticket(value: Any) -> Wrong | None:
    if type(value) is not str:
        return Wrong("ticket-type", NOT_TEXT)
    if len(value) > TICKET_CHARS_MAX:
        return Wrong("ticket-length", Text("Tiket terlalu panjang.", "The ticket is too long."))
    return None


def check_email(value: Any) -> Wrong | None:
    """An e-mail address, tidied."""
    if type(value) is not str:
        return Wrong("email-type", NOT_TEXT)
    if is_email(value):
        return None
    character = unusable_in_email(value[: EMAIL_CHARS_MAX + 1])
    if character is not None:
        return Wrong(
            "email-invalid",
            Text(
                f"Alamat surel memuat karakter yang tidak dapat digunakan: {name_character(character)}. "
                "Tulis seperti nama@contoh.id.",
                f"The e-mail address has a character that cannot be used: {name_character(character)}. "
                "Write it like name@example.id.",
            ),
        )
    return Wrong("email-invalid", _EMAIL_FORM)


_EMAIL_FORM = Text(
    "Alamat surel tidak sah. Contoh penulisan: nama@contoh.id, tanpa titik ganda.",
    "This is not an e-mail address. Write it like name@example.id, without two dots in a row.",
)


def check_phone(value: Any) -> Wrong | None:
    """A telephone number, tidied: an optional plus, and digits."""
    if type(value) is not str:
        return Wrong("phone-type", NOT_TEXT)
    digits = value.removeprefix("+")
    if digits.isascii() and digits.isdigit():
        return None if PHONE_DIGITS_MIN <= len(digits) <= PHONE_DIGITS_MAX else Wrong("phone-invalid", _PHONE_FORM)
    character = next((each for each in digits if not "0" <= each <= "9"), None)
    if character is None:
        return Wrong("phone-invalid", _PHONE_FORM)
    if character == "/":  # tidying keeps it only between two numbers
        return Wrong("phone-invalid", _TWO_PHONES)
    return Wrong(
        "phone-invalid",
        Text(
            f"Nomor telepon memuat karakter selain angka: {name_character(character)}. {_PHONE_FORM.id}",
            f"The phone number has a character that is not a digit: {name_character(character)}. {_PHONE_FORM.en}",
        ),
    )


_TWO_PHONES = Text(
    "Isi satu nomor telepon saja, tanpa garis miring (/) di antara dua nomor.",
    "Give one phone number only, without a slash (/) between two numbers.",
)
_PHONE_FORM = Text(
    f"Nomor telepon terdiri atas {PHONE_DIGITS_MIN} sampai {PHONE_DIGITS_MAX} angka.",
    f"A phone number has {PHONE_DIGITS_MIN} to {PHONE_DIGITS_MAX} digits.",
)


def _check_capacity(value: Any) -> Wrong | None:
    if type(value) is not int:  # not isinstance: True is an int in Python, and 1.0 is not a count
        return Wrong("capacity-type", Text("Kapasitas harus bilangan bulat.", "The capacity must be an integer."))
    if not 0 <= value <= CAPACITY_MAX:
        return Wrong(
            "capacity-range",
            Text(f"Kapasitas harus 0 sampai {CAPACITY_MAX}.", f"The capacity must be 0 to {CAPACITY_MAX}."),
        )
    return None


def _check_moment(value: Any) -> Wrong | None:
    if value is None or (type(value) is str and parse_moment_ms(value) is not None):
        return None
    return Wrong(
        "time-invalid",
        Text(
            "Waktu harus sesuai kalender, tahun 2000-2099, dan ditulis menurut RFC 3339 dengan zona; atau null.",
            "The time must exist, be in 2000-2099, and be written as in RFC 3339 with its offset; or null.",
        ),
    )


def _check_closed(value: Any) -> Wrong | None:
    return (
        None if type(value) is bool else Wrong("closed-type", Text("Harus true atau false.", "Must be true or false."))
    )


def parse_moment_ms(value: str) -> int | None:
    """An RFC 3339 time as milliseconds since the epoch; None if it is malformed or does not exist."""
    parts = _RFC3339.fullmatch(value)
    if parts is None:
        return None
    offset = "+00:00" if parts[3] in "Zz" else parts[3]
    try:
        moment = datetime.fromisoformat(f"{parts[1]}T{parts[2]}{offset}")
    except ValueError:
        return None
    return max(1, (moment - _EPOCH) // timedelta(milliseconds=1))  # exact, unlike a float


# -- objects, field by field -------------------------------------------------------------------------------------

APPLICANT = {
    "nik": Field(check_nik, required=True, tidy=tidy_nik),
    "name": Field(check_name, required=True, tidy=tidy_name),
    "birth_date": Field(check_birth_date, required=True, tidy=tidy_date),
}
CONTACT = {
    "email": Field(check_email, tidy=tidy_email, left_out=NULL_OR_EMPTY),
    "phone": Field(check_phone, tidy=tidy_phone, left_out=NULL_OR_EMPTY),
}
CLAIM = {
    "quota": Field(
        text_check(
            "quota",
            Text("Bentuk id kuota tidak sah.", "This is not the form of a quota id."),
            pattern=QUOTA_PATTERN.strip("^$"),
        ),
        required=True,
    ),
    "applicants": Field(_check_array, required=True),
    "contact": Field(_check_object, left_out=NULL),
    "ticket": Field(_check_ticket, tidy=tidy_ticket, left_out=NULL_OR_EMPTY),
}
CONFIRM = {
    "payment_reference": Field(
        text_check(
            "payment-reference",
            Text(
                "Nomor pembayaran terdiri atas 1 sampai 64 huruf, angka, titik, garis bawah, atau tanda hubung.",
                "A payment reference has 1 to 64 letters, digits, dots, underscores or hyphens.",
            ),
            pattern=PAYMENT_REFERENCE_PATTERN.strip("^$"),
        ),
        tidy=tidy_reference,
        left_out=NULL_OR_EMPTY,
    )
}
QUOTA_CHANGE = {
    "capacity": Field(_check_capacity, left_out=NULL),
    "opens_at": Field(_check_moment),  # null removes the time
    "closes_at": Field(_check_moment),
    "closed": Field(_check_closed, left_out=NULL),
    "reason": REASON,
}


# -- query parameters --------------------------------------------------------------------------------------------


def parameter_check(pattern: str) -> Check:
    """A check of a query parameter against a pattern, which must match completely."""
    return text_check(
        "parameter",
        Text("Nilai parameter tidak sah.", "The parameter's value is not valid."),
        pattern=pattern.strip("^$"),
    )


def check_date_parameter(value: Any) -> Wrong | None:
    """An ISO date that exists."""
    if parse_date(value) is not None:
        return None
    return Wrong(
        "date-invalid",
        Text("Tanggal harus sesuai kalender dan ditulis YYYY-MM-DD.", "The date must exist, as YYYY-MM-DD."),
    )
