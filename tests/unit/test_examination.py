"""When the doctor reports a recorder as standing still, or an interpreter as slow."""

import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from reservasi.cli import examination
from reservasi.model import Position


def operations(positions: Iterator[Position]) -> Any:
    async def position(_program: str) -> Position:
        return next(positions)

    return SimpleNamespace(records=SimpleNamespace(position=position))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "STANDSTILL_S", 0.2)
    monkeypatch.setattr(examination, "STANDSTILL_LOOK_S", 0.01)


def _positions(*seqs: int) -> Iterator[Position]:
    yield from (Position(epoch=1, seq=seq) for seq in seqs)
    while True:
        yield Position(epoch=1, seq=seqs[-1])


async def test_one_whose_position_stays_stands_still() -> None:
    assert await examination._stands_still(operations(_positions(5)), "p", Position(epoch=1, seq=5))


@pytest.mark.parametrize("seqs", [(6,), (5, 5, 5, 9)])
async def test_one_that_is_busy_is_well_though_it_never_catches_up(seqs: tuple[int, ...]) -> None:
    assert not await examination._stands_still(operations(_positions(*seqs)), "p", Position(epoch=1, seq=5))


@pytest.mark.parametrize("without", ["", "1"])
def test_the_doctor_finds_the_parser_that_aiohttp_uses(without: str) -> None:
    code = (
        "from reservasi.front.process.http_parser import parses_in_c; import sys; assert 'aiohttp' not in sys.modules; "
        "from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy; "
        "print(parses_in_c(), HttpRequestParser is not HttpRequestParserPy)"
    )
    env = {"AIOHTTP_NO_EXTENSIONS": without, "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    reported, used = done.stdout.split()
    assert reported == used == str(not without)
