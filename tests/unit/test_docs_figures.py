"""What was measured stands on the generated pages only, where its date, machine and command stand as well."""

import re
from pathlib import Path

import pytest

from docs.generate import results

ROOT = Path(__file__).parents[2]
GENERATED = ("benchmarks.md", "faults.md")
FIGURE = re.compile(
    r"\d ?(?:us|µs)\b"  # no setting is in microseconds
    r"|\bp(?:50|99)\b[^a-z|]{0,12}\d"
    r"|\b\d[\d,]{2,} (?:claims|joins|places|refusals|requests|bookings) a second"
    r"|\b\d[\d,]*/s\b"
    r"|\b0\.\d+ (?:to 0?\.?\d+ )?of\b"
    r"|\b\d+\.\d+ times\b"
)
PAGES = [
    path.relative_to(ROOT)
    for folder in (".", "docs", "loadtest", "findings")
    for path in sorted(ROOT.glob("*.md" if folder == "." else f"{folder}/**/*.md"))
    if path.name not in GENERATED
]


def measured_figures(text: str) -> list[str]:
    return FIGURE.findall(results.COPIED.sub("", text))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_other_page_has_a_measured_figure(page: Path) -> None:
    assert measured_figures((ROOT / page).read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "a claim costs 69 us",
        "p99 17 ms",
        "7,800 claims a second",
        "4,528/s",
        "0.81 to 0.91 of the peak",
        "2.45 times EVALSHA",
    ],
)
def test_a_measured_figure_is_seen(text: str) -> None:
    assert measured_figures(text)


@pytest.mark.parametrize(
    "text", ["`confirm_wait_ms`: 2000 ms", "20,000 quotas", "600 a minute", f"{results.BEGIN}\n9 us{results.END}"]
)
def test_a_setting_a_limit_and_the_copied_table_may_stand(text: str) -> None:
    assert measured_figures(text) == []
