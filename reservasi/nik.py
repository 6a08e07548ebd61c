"""The NIK (nomor induk kependudukan): 16 digits, 6 for a region, 6 for a birth date as DDMMYY, and a serial of 4.

A NIK never changes: not when its holder moves, when a region is split or renumbered, or when a birth date is corrected
(PP 40/2019, and answers of the civil registry in the press, 2022). So every province code that was ever issued is
accepted, regencies and districts are not checked against a list, and the birth date in a NIK is not compared with the
stated one.
"""

import re

from reservasi.tidying import ascii_digits, without_marks

NIK_DIGITS = 16
# The civil registry's numbering; the statistics office numbers the provinces of Papua differently. In force:
# Kepmendagri 300.2.2-2138/2025 (38 provinces since 2022). Read 2026-11-29.
PROVINCES_IN_FORCE = {
    "11": "Aceh",
    "12": "Sumatera Utara",
    "13": "Sumatera Barat",
    "14": "Riau",
    "15": "Jambi",
    "16": "Sumatera Selatan",
    "17": "Bengkulu",
    "18": "Lampung",
    "19": "Kepulauan Bangka Belitung",
    "21": "Kepulauan Riau",
    "31": "DKI Jakarta",
    "32": "Jawa Barat",
    "33": "Jawa Tengah",
    "34": "DI Yogyakarta",
    "35": "Jawa Timur",
    "36": "Banten",
    "51": "Bali",
    "52": "Nusa Tenggara Barat",
    "53": "Nusa Tenggara Timur",
    "61": "Kalimantan Barat",
    "62": "Kalimantan Tengah",
    "63": "Kalimantan Selatan",
    "64": "Kalimantan Timur",
    "65": "Kalimantan Utara",  # 2012
    "71": "Sulawesi Utara",
    "72": "Sulawesi Tengah",
    "73": "Sulawesi Selatan",
    "74": "Sulawesi Tenggara",
    "75": "Gorontalo",
    "76": "Sulawesi Barat",
    "81": "Maluku",
    "82": "Maluku Utara",  # before 1999 Irian Jaya
    "91": "Papua",
    "92": "Papua Barat",
    "93": "Papua Selatan",  # this and the three below: 2022
    "94": "Papua Tengah",
    "95": "Papua Pegunungan",
    "96": "Papua Barat Daya",
}
# Issued once and still in use. For 54 we do not have the registry's decree of that time: it is the code after 51 to 53
# in the numbering of the 1980s and 1990s, from which the registry's own was derived.
PROVINCES_FORMER = {"54": "Timor Timur"}  # 1976 to 1999
PROVINCES = frozenset(PROVINCES_IN_FORCE) | frozenset(PROVINCES_FORMER)
# 99 is not a province: it begins a NIT (nomor identitas tunggal, PP 40/2019 article 32), which missions abroad issue to
# citizens without a NIK.

# Regencies and cities are numbered from 01; 00 stands for the whole province.
_REGIONS = frozenset(f"{province}{regency:02d}" for province in PROVINCES for regency in range(1, 100))
_DAYS_OF_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_WOMEN = 40  # added to the day of birth of women
_DAYS = frozenset(
    f"{day + shift:02d}{month:02d}"
    for month, days in enumerate(_DAYS_OF_MONTH, 1)
    for day in range(1, days + 1)
    for shift in (0, _WOMEN)
)
_LEAP_DAYS = ("2902", f"{29 + _WOMEN}02")
_SEPARATORS = re.compile(r"[ \r\n.\-\u2012-\u2015]+")


def has_digits(text: str) -> bool:
    """Whether a text is 16 ASCII digits."""
    return len(text) == NIK_DIGITS and text.isascii() and text.isdigit()


def is_known(nik: str) -> bool:
    """Whether the region and the birth date in these 16 digits exist."""
    # The NIK does not have the century: 29 February exists if either year has it, and 2000 was a leap year.
    return nik[:4] in _REGIONS and (nik[6:10] in _DAYS or (nik[6:10] in _LEAP_DAYS and int(nik[10:12]) % 4 == 0))


def tidy_nik(text: str) -> str:
    """A NIK in groups, such as `3578 0141 0790 0001`, on two lines or in full-width digits, as plain digits.

    Any other text is returned unchanged.
    """
    if has_digits(text):
        return text
    digits = _SEPARATORS.sub("", ascii_digits(without_marks(text)))
    return digits if has_digits(digits) else text
