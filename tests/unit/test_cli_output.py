"""What commands print: addresses without their passwords, and lists of any length."""

import pytest

from reservasi.cli import output
from reservasi.cli.output import masked, show_rows


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@ledger.example:6379/0", "redis://:***@ledger.example:6379/0"),
        ("rediss://app:s%40e:c@ret@ledger.example", "rediss://app:***@ledger.example"),
        ("unix://app:secret@/run/valkey.sock?db=1", "unix://app:***@/run/valkey.sock?db=1"),
        ("unix:///run/valkey.sock?db=1&password=secret", "unix:///run/valkey.sock?db=1&password=***"),
        ("postgresql://app:secret@one:5432,two:5433/db", "postgresql://app:***@one:5432,two:5433/db"),
        ("postgresql://app@/db?host=%2Frun&password=secret", "postgresql://app@/db?host=%2Frun&password=***"),
        ("redis://ledger.example:6379/0", "redis://ledger.example:6379/0"),
        ("postgresql://reservasi@/reservasi?host=%2Frun%2Fa@b", "postgresql://reservasi@/reservasi?host=%2Frun%2Fa@b"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_a_long_list_is_written_without_the_terminal_library(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rich prints the heading; it would take minutes for the rows of a large program."""
    printed: list[object] = []
    monkeypatch.setattr(output.out, "print", lambda *rows, **_: printed.extend(rows))
    row = {name: f"{name}.kanim.baru.20301203.0800.online" for name in ("id", "office", "service", "opens", "closes")}
    show_rows([row] * 20_000, as_json=False)
    assert len(printed) == 1
    assert len(capsys.readouterr().out.splitlines()) == 20_000
