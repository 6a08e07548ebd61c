"""Language negotiation."""

import pytest

from reservasi.front.api.languages import negotiate


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "id"),
        ("en", "en"),
        ("EN-gb", "en"),
        ("in-ID", "id"),
        ("en;q=0.5, id;q=0.4", "en"),
        ("en;q=0.4, id;q=0.5", "id"),
        ("en;q=0", "id"),
        ("en;q=", "id"),
        ("en;q=x, id", "id"),
        ("de, fr;q=0.9, en;q=0.1", "en"),
        ("english", "id"),
        ("*", "id"),
        (";;;,,,=", "id"),
        ("x" * 10_000 + ", en", "id"),
        ("en;level=1", "en"),
    ],
)
def test_negotiation(header: str, language: str) -> None:
    assert negotiate(header) == language
