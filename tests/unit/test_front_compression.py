"""Which answers are compressed, and for which callers."""

import random

import pytest

from reservasi.front.views.quota_json import COMPRESSED_BYTES_MIN, accepts_gzip, encoded


def test_what_is_small_or_grows_is_sent_as_it_is() -> None:
    for body in (b"{}", b"a" * (COMPRESSED_BYTES_MIN - 1), random.Random(7).randbytes(5000)):
        view = encoded(body)
        assert view.variant(gzip=True).body == body
        assert view.variant(gzip=True).content_encoding == ""


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("deflate , gzip ; q=0.001", True),
        ("*", True),
        ("x-gzip", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("gzip; q=0.000", False),
        ("*;q=0", False),
        ("br, *;q=0", False),
        ("gzip;q=2", False),
        ("gzip;q=abc", False),
        ("gzip;level=9", False),
        (";;;,,,", False),
        ("gzip;q=0.8;x", False),
        ("not gzip", False),
        ("é", False),
    ],
)
def test_what_accepts_gzip(header: str, expected: bool) -> None:
    assert accepts_gzip(header) is expected
