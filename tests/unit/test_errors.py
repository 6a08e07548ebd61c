"""How an exception is said in one line."""

import pytest

from reservasi.errors import described


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "TimeoutError"),
        (ValueError(" \n"), "ValueError"),
        (OSError("no such\nfile"), "OSError: no such file"),
    ],
)
def test_an_exception_is_one_line_and_says_its_kind(error: Exception, words: str) -> None:
    assert described(error) == words
