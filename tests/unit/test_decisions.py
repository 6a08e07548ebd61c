"""The pages in docs/decisions/ have one form, are all in the index, and name only what exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/decisions"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
INDEX = (FOLDER / "README.md").read_text()
HEADINGS = ["Context", "Decision", "Rejected", "What proves it"]
NODE = re.compile(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`")
PATH = re.compile(r"`((?:reservasi|tests|config|loadtest|docs|findings)/[\w./-]+)(?:::\w+)?`")
FIGURE = re.compile(
    r"\b\d[\d.,]* (?:microseconds|us|milliseconds|claims a second|instructions|times as (?:fast|long))\b"
)


def faults_of(text: str) -> list[str]:
    """What is wrong with a page; nothing where it is as it should be."""
    faults = []
    if re.findall(r"^## (.+)$", text, re.MULTILINE) != HEADINGS:
        faults.append("its headings are others")
    if not 25 <= len(text.splitlines()) <= 60:
        faults.append("it is too short or too long for a page")
    proofs = NODE.findall(text.partition("## What proves it")[2])
    if not proofs:
        faults.append("it names no test")
    for path, name in proofs:
        if not (ROOT / path).is_file():
            faults.append(f"no {path}")
        elif f"def {name or 'test_'}" + ("(" if name else "") not in (ROOT / path).read_text():
            faults.append(f"no {name} in {path}")
    faults += [f"no {path}" for path in PATH.findall(text) if not (ROOT / path).exists()]
    faults += [f"a figure: {figure}" for figure in FIGURE.findall(text)]
    return faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_has_its_form_and_names_what_exists(page: Path) -> None:
    assert faults_of(page.read_text()) == []


def test_a_page_that_is_not_as_it_should_be_is_found() -> None:
    good = PAGES[0].read_text()
    assert faults_of(good.replace("## Rejected", "## Alternatives"))
    assert faults_of(good.replace("::test_", "::test_no_such_", 1))
    assert faults_of(good.replace("`reservasi/", "`reservasi/gone/", 1))
    assert faults_of(good.replace("## Decision\n", "## Decision\n\nIt takes 5 microseconds.\n"))
    assert faults_of(good.partition("- `tests/")[0])


def test_pages_are_numbered_without_a_gap_and_titled_by_their_number() -> None:
    assert [int(page.name[:4]) for page in PAGES] == list(range(1, len(PAGES) + 1))
    for page in PAGES:
        assert page.read_text().startswith(f"# {int(page.name[:4])}. ")


def test_the_index_has_every_page_once_under_its_title() -> None:
    listed = re.findall(r"^- \[\d{4}\]\(([\w.-]+)\): (.+)$", INDEX, re.MULTILINE)
    titles = {page.name: page.read_text().splitlines()[0].partition(". ")[2] for page in PAGES}
    assert dict(listed) == titles
    assert len(listed) == len(titles)


def test_links_between_pages_lead_somewhere() -> None:
    lost = [
        f"{page.name}: {target}"
        for page in [*PAGES, FOLDER / "README.md"]
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not lost
