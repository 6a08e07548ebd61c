"""Invented applicants: as many as asked for, all distinct, each with a valid NIK, the same ones for the same seed."""

from datetime import date
from math import gcd
from typing import NamedTuple

# Real regencies and cities, so that the region check of a NIK accepts them.
REGIONS = (
    *("3578", "3515", "3525", "3573", "3507", "3509"),  # Surabaya and East Java
    *("3171", "3174", "3273", "3374", "3471"),  # elsewhere on Java
    *("1271", "2171", "5171", "6171", "6471", "7371"),  # Medan, Batam, Denpasar, Pontianak, Samarinda, Makassar
)
GIVEN_NAMES = ("Siti", "Budi", "Dewi", "Agus", "Sri", "Eko", "Ayu", "Hendra", "Putri", "Rizki", "Wahyu", "Nur", "Yusuf")
FAMILY_NAMES = ("Aminah", "Santoso", "Lestari", "Wijaya", "Rahayu", "Pratama", "Handayani", "Saputra", "Nugroho")
YEARS = range(1950, 2008)
MONTHS = range(1, 13)
DAYS = range(1, 29)  # every month has them
SEXES = range(2)  # a woman's day of birth is written with 40 added
DISTRICTS = range(1, 21)
SERIALS = range(1, 10_000)
SPACE = len(REGIONS) * len(DISTRICTS) * len(DAYS) * len(MONTHS) * len(YEARS) * len(SEXES) * len(SERIALS)
STEP = 7_368_787_193  # no common divisor with SPACE: stepping by it meets every NIK once before any twice
SEED_STEP = 982_451_653
COMPANION_OFFSET = 100_000_000  # companions are numbered apart from those they come with

assert gcd(STEP, SPACE) == 1


class Person(NamedTuple):
    number: int
    nik: str
    name: str
    birth_date: date

    @property
    def email(self) -> str:
        return f"pemohon{self.number}@example.id"

    @property
    def phone(self) -> str:
        return f"+62811{self.number % 10**8:08d}"

    def applicant(self) -> dict[str, str]:
        return {"nik": self.nik, "name": self.name, "birth_date": self.birth_date.isoformat()}


def person(number: int, seed: int = 0) -> Person:
    """The applicant of that number (0 and up): another number is another NIK."""
    rest = (number * STEP + seed * SEED_STEP) % SPACE
    rest, serial = divmod(rest, len(SERIALS))
    rest, sex = divmod(rest, len(SEXES))
    rest, year = divmod(rest, len(YEARS))
    rest, month = divmod(rest, len(MONTHS))
    rest, day = divmod(rest, len(DAYS))
    region, district = divmod(rest, len(DISTRICTS))
    born = date(YEARS[year], MONTHS[month], DAYS[day])
    written_day = born.day + 40 * sex
    nik = f"{REGIONS[region]}{DISTRICTS[district]:02d}{written_day:02d}{born:%m%y}{SERIALS[serial]:04d}"
    name = f"{GIVEN_NAMES[number % len(GIVEN_NAMES)]} {FAMILY_NAMES[number // 7 % len(FAMILY_NAMES)]}"
    return Person(number, nik, name, born)


def companion(number: int, seed: int = 0) -> Person:
    """A person who comes along with the applicant of that number, and has a NIK of their own."""
    return person(COMPANION_OFFSET + number, seed)
