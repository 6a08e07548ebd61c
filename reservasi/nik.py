"""The NIK (nomor induk kependudukan): 16 digits, 6 for a region, 6 for a birth date as DDMMYY, and a serial of 4.

A NIK never changes: not when its holder moves, when a region is split or renumbered, or when a birth date is corrected
(PP 40/2019, and the civil registry's answers in the press, 2022). So every province code that was ever given out is
taken, regencies and districts are held to no list, and nobody's stated birth date is compared with the one in a NIK.
"""

import re

from reservasi.tidying import ascii_digits, without_marks

NIK_DIGITS = 16
# The civil registry's own numbering; the statistics office numbers the provinces of Papua otherwise.
# In force: Kepmendagri 300.2.2-2138/2025 (38 provinces since 2022). Read 2026-11-29.
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
# Given out once and still borne. Of 54 the registry's decree of that time is not at hand: it is the code that followed
# 51 to 53 in the numbering of the 1980s and 1990s, from which the registry's own was taken.
PROVINCES_FORMER = {"54": "Timor Timur"}  # 1976 to 1999
PROVINCES = frozenset(PROVINCES_IN_FORCE) | frozenset(PROVINCES_FORMER)
# 99 is no province: it begins a NIT (nomor identitas tunggal, PP 40/2019 article 32), which missions abroad give to
# citizens without a NIK.

# Regencies and cities are numbered from 01; 00 stands for the province as a whole.
_REGIONS = frozenset(f"{province}{regency:02d}" for province in PROVINCES for regency in range(1, 100))
_DAYS_OF_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_WOMEN = 40  # added to a woman's day of birth
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
    # The century is not in the NIK: 29 February exists when either year has it, and 2000 was a leap year.
    return nik[:4] in _REGIONS and (nik[6:10] in _DAYS or (nik[6:10] in _LEAP_DAYS and int(nik[10:12]) % 4 == 0))


def tidy_nik(text: str) -> str:
    """A NIK in groups, such as `3578 0141 0790 0001`, on two lines or in full-width digits, as its plain digits.

    Any other text is left as it is.
    """
    if has_digits(text):
        return text
    digits = _SEPARATORS.sub("", ascii_digits(without_marks(text)))
    return digits if has_digits(digits) else text
