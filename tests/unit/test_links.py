"""Every link between the pages of the repository leads to a file and a heading that exist."""

import subprocess
from pathlib import Path

import pytest

from tests.pages import ROOT, anchors, links


def pages() -> list[str]:
    """Every Markdown page, those that are not committed yet as well."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [page for page in listed.stdout.splitlines() if (ROOT / page).exists()]


def lost(page: Path, root: Path = ROOT) -> list[str]:
    """The links of a page that lead nowhere, or out of the repository."""
    broken = []
    for link in links(page.read_text()):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        exists = target.exists() and target.is_relative_to(root)
        if not exists or (anchor and (target.suffix != ".md" or anchor not in anchors(target.read_text()))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", pages())
def test_every_link_leads_somewhere(page: str) -> None:
    assert lost(ROOT / page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "# A title, with `code`\n## Twice\n## Twice\n"
        "[a](#a-title-with-code) [b](#twice-1) [c](other.md#part) [d](https://example.id) `[e](none.md)`\n"
        "[f](none.md) [g](#twice-2) [h](other.md#none) [i](../outside.md) ![j](none.png)\n"
        '<img src="lost.png">\n'
    )
    (tmp_path / "other.md").write_text("## Part\n")
    assert lost(tmp_path / "page.md", tmp_path) == [
        "none.md",
        "#twice-2",
        "other.md#none",
        "../outside.md",
        "none.png",
        "lost.png",
    ]
