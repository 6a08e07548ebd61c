"""The draw is fair: every number as likely as any other, whoever joined when and whatever their ticket's id.

Each test statistic has a threshold that an honest draw passes by chance once in a million; the seeds are fixed, so
nothing here flickers. The same examination is then put before draws with a planted bias, and must find every one: an
examination that cannot fail proves nothing.
"""

import hashlib
import hmac
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import mul

import pytest

from reservasi.sealing import KeyRing, Sealing
from reservasi.waiting_room import draw

PEOPLE = 100_000
BINS = 64
CELLS = 16  # a side, of the table of who joined when against who comes when
Z = 4.8916  # of the standard normal distribution: beyond it, on either side, one in a million
SEALING = Sealing(KeyRing(identity=b"i" * 32, active="k1", sealing={"k1": b"1" * 32}))
OPENING = "surabaya-20261201-0800"
SEEDS = [hashlib.sha256(b"seed %d" % each).digest() for each in range(4)]

Draw = Callable[[bytes, str, str, int], int]  # as draw.number


@lru_cache(maxsize=1)
def ticket_ids() -> list[str]:
    """Of people with one NIK after another, in the order in which they joined."""
    persons = (SEALING.person("surabaya", f"{3578010101900000 + each}") for each in range(PEOPLE))
    return [SEALING.ticket_id("surabaya", OPENING, person) for person in persons]


@lru_cache(maxsize=1)
def order_of_ids() -> list[int]:
    return sorted(range(PEOPLE), key=ticket_ids().__getitem__)


def drawn(number: Draw, seed: bytes, beacon: str = "", joined: int = PEOPLE) -> list[int]:
    return [number(seed, ticket_id, beacon, joined) for ticket_id in ticket_ids()]


def deviation(counts: Sequence[int], expected: Sequence[float]) -> float:
    """How far counts are from what is expected of them, as a standard normal variable; less than 0: too close."""
    return normal(
        sum((count - mean) ** 2 / mean for count, mean in zip(counts, expected, strict=True)), len(counts) - 1
    )


def normal(chi_square: float, freedom: int) -> float:
    """A chi-square variable as a standard normal one, after Wilson and Hilferty (1931)."""
    spread = 2 / (9 * freedom)
    return float(((chi_square / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))


def unevenness(numbers: Sequence[int], joined: int, bins: int = BINS) -> float:
    """Of the numbers over bins as equal as whole numbers can be."""
    counts = Counter(number * bins // joined for number in numbers)
    edges = [-(-joined * each // bins) for each in range(bins + 1)]  # the first number of each bin
    expected = [len(numbers) * (edges[each + 1] - edges[each]) / joined for each in range(bins)]
    return deviation([counts[each] for each in range(bins)], expected)


def slope(ones: Sequence[int], others: Sequence[int]) -> float:
    """How far two sequences go along with each other on a line, as a standard normal variable."""
    count, one, other = len(ones), sum(ones), sum(others)
    together = count * sum(map(mul, ones, others)) - one * other
    spread = count * sum(map(mul, ones, ones)) - one * one
    other_spread = count * sum(map(mul, others, others)) - other * other
    return float(together / math.sqrt(spread * other_spread) * math.sqrt(count - 1))


def dependence(numbers: Sequence[int], joined: int) -> tuple[float, float]:
    """Of the numbers on the order in which they stand here: on a line, and in any other way."""
    count = len(numbers)
    table = Counter((at * CELLS // count, number * CELLS // joined) for at, number in enumerate(numbers))
    rows, columns = Counter[int](), Counter[int]()
    for (row, column), cell in table.items():
        rows[row] += cell
        columns[column] += cell
    places = [(row, column) for row in sorted(rows) for column in sorted(columns)]
    chi_square = 0.0
    for row, column in places:
        expected = rows[row] * columns[column] / count
        chi_square += (table[row, column] - expected) ** 2 / expected
    return slope(range(count), numbers), normal(chi_square, (len(rows) - 1) * (len(columns) - 1))


def examine(number: Draw, seeds: Sequence[bytes]) -> set[str]:
    """What is wrong with a way of drawing, by a drawing with each of these seeds."""
    faults = set()

    def judge(what: str, *deviations: float) -> None:
        if max(abs(each) for each in deviations) > Z:
            faults.add(what)

    drawings = {seed: drawn(number, seed) for seed in {*seeds, *SEEDS[:2]}}
    for seed in seeds:
        numbers = drawings[seed]
        assert all(0 <= each < PEOPLE for each in numbers)
        judge("uneven", unevenness(numbers, PEOPLE))
        judge("uneven in its last digits", unevenness([each % 100 for each in numbers], 100, bins=100))
        judge("follows the order of joining", *dependence(numbers, PEOPLE))
        judge("follows the order of ids", *dependence([numbers[each] for each in order_of_ids()], PEOPLE))
        judge("neighbours stay together", slope(numbers[:-1], numbers[1:]))
    first, second = (drawings[seed] for seed in SEEDS[:2])
    judge("the seed changes little", slope(first, second))
    mixed = drawn(number, SEEDS[0], beacon="round 4711")
    judge("the beacon changes little", slope(first, mixed))
    return faults


def test_the_draw_passes() -> None:
    assert examine(draw.number, SEEDS) == set()


@pytest.mark.parametrize("joined", [2, 7, 64, 999, 65_537, 1_000_000])
def test_it_is_even_whatever_the_number_of_people(joined: int) -> None:
    numbers = drawn(draw.number, SEEDS[0], joined=joined)
    assert all(0 <= each < joined for each in numbers)
    assert abs(unevenness(numbers, joined, bins=min(joined, 128))) < Z


def test_everyone_is_as_likely_to_be_first_as_last() -> None:
    """Over many openings rather than in one: the same ten people, each of the numbers of a tenth of the openings."""
    ids = ticket_ids()[:10]
    openings = 20_000
    table: Counter[tuple[int, int]] = Counter()
    for each in range(openings):
        seed = hashlib.sha256(b"opening %d" % each).digest()
        table.update((who, draw.number(seed, ticket_id, "", 10)) for who, ticket_id in enumerate(ids))
    for who in range(10):
        counts = [table[who, number] for number in range(10)]
        assert abs(deviation(counts, [openings / 10] * 10)) < Z


def _bytes(seed: bytes, ticket_id: str, beacon: str) -> bytes:
    return hmac.digest(seed, f"{ticket_id}\n{beacon}".encode(), "sha256")


def of_one_byte(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """A hundred classes by the remainder of one byte: the first 56 have one chance in 256 more."""
    digest = _bytes(seed, ticket_id, beacon)
    within = int.from_bytes(digest[1:9], "big") * (joined // 100) >> 64
    return digest[0] % 100 * (joined // 100) + within


def of_two_bytes(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """65,536 values for 100,000 people: a third of the numbers is nobody's."""
    return int.from_bytes(_bytes(seed, ticket_id, beacon)[:2], "big") % joined


def of_seventeen_bits(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """The remainder of just enough bits: the first 31,072 numbers come twice as often."""
    return int.from_bytes(_bytes(seed, ticket_id, beacon)[:3], "big") % 2**17 % joined


def without_last_digit(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """Even to the eye, and never an odd number."""
    return draw.number(seed, ticket_id, beacon, joined) & ~1


def without_seed(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """As even as can be, and known before the opening."""
    return draw.number(b"x" * 32, ticket_id, beacon, joined)


def without_beacon(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """The outside value has no part in it."""
    return draw.number(seed, ticket_id, "", joined)


def by_id(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """In the order of ids, turned round by the seed."""
    at = int.from_bytes(ticket_id.encode()[:8], "big") - int.from_bytes(b"-" * 8, "big")
    turn = int.from_bytes(_bytes(seed, "", beacon)[:8], "big") * joined >> 64
    return (at * joined // int.from_bytes(b"z" * 8, "big") * 2 + turn) % joined


def first_come(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """The queue of old."""
    return places()[ticket_id] * joined // PEOPLE


def early_birds(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """One in ten of the first half may draw twice and keep the better."""
    number = draw.number(seed, ticket_id, beacon, joined)
    if places()[ticket_id] < PEOPLE // 2 and _bytes(seed, ticket_id, "lucky")[0] < 26:
        return min(number, draw.number(seed, ticket_id, f"{beacon} again", joined))
    return number


def middle_birds(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """Who joined in the middle has a little less to fear from both ends; on a line there is nothing to be seen."""
    number = draw.number(seed, ticket_id, beacon, joined)
    middle = PEOPLE // 4 < places()[ticket_id] < 3 * PEOPLE // 4
    if middle and _bytes(seed, ticket_id, "lucky")[0] < 26:
        return joined // 4 + number // 2
    return number


def in_pairs(seed: bytes, ticket_id: str, beacon: str, joined: int) -> int:
    """Who joins right after another comes near them, one time in twenty."""
    at = places()[ticket_id]
    if at % 2 and _bytes(seed, ticket_id, "near")[0] < 13:
        return draw.number(seed, ticket_ids()[at - 1], beacon, joined)
    return draw.number(seed, ticket_id, beacon, joined)


@lru_cache(maxsize=1)
def places() -> dict[str, int]:
    return {ticket_id: at for at, ticket_id in enumerate(ticket_ids())}


@pytest.mark.parametrize(
    ("biased", "expected"),
    [
        (of_one_byte, "uneven"),
        (of_two_bytes, "uneven"),
        (of_seventeen_bits, "uneven"),
        (without_last_digit, "uneven in its last digits"),
        (without_seed, "the seed changes little"),
        (without_beacon, "the beacon changes little"),
        (by_id, "follows the order of ids"),
        (first_come, "follows the order of joining"),
        (early_birds, "follows the order of joining"),
        (middle_birds, "follows the order of joining"),
        (in_pairs, "neighbours stay together"),
    ],
)
def test_a_planted_bias_is_found(biased: Draw, expected: str) -> None:
    assert expected in examine(biased, SEEDS[:1])


@pytest.mark.parametrize(("freedom", "critical"), [(63, 133.88), (99, 183.69), (127, 220.76), (255, 381.13)])
def test_the_threshold_is_that_of_the_distribution(freedom: int, critical: float) -> None:
    """A chi-square variable exceeds these once in two million (by the incomplete gamma function)."""
    assert normal(critical, freedom) == pytest.approx(Z, abs=0.03)
