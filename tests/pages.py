"""The Markdown pages of the repository, as their readers use them: shell lines, links, headings."""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
# These two keep a terminal busy; the tests run the first themselves, and are run by the second.
_PRELUDE = 'make() { case "$1" in up|test) command make --dry-run "$@" >/dev/null ;; *) command make "$@" ;; esac; }\n'
_AS_INSTALLED = {"MAKEFLAGS": "-o .venv/.run"}  # `make` does not install anything while tests run


def tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def shell_blocks(text: str) -> list[str]:
    """Everything that the page asks its reader to type."""
    return [each.content for each in tokens(text) if each.type == "fence" and each.info == "sh"]


def script_of(page: str, places: Mapping[str, str]) -> str:
    """The shell lines of a page as one script; `places` says what stands elsewhere than the page says."""
    lines = _PRELUDE + "\n".join(shell_blocks((ROOT / page).read_text()))
    for written, actual in {".venv/bin/": f"{Path(sys.executable).parent}/", **places}.items():
        lines = lines.replace(written, actual)
    return lines


def environment(**values: str) -> dict[str, str]:
    """Ours, without what a `make` that runs the tests hands down."""
    ours = {name: value for name, value in os.environ.items() if not re.match("MAKE|MFLAGS", name)}
    return {**ours, **_AS_INSTALLED, **values}


def run_page(page: str, data_dir: Path, places: Mapping[str, str]) -> str:
    """Run the shell lines of a page against the service of that data directory; what they print."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script_of(page, places)],
        cwd=ROOT,
        env=environment(RESERVASI_DATA_DIR=str(data_dir)),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def anchors(text: str) -> set[str]:
    """What a link may name behind `#`: each heading as GitHub writes it."""
    counts: Counter[str] = Counter()
    names = set()
    for heading in _headings(tokens(text)):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        names.add(f"{name}-{counts[name]}" if counts[name] else name)
        counts[name] += 1
    return names


def _headings(all_tokens: list[Token]) -> Iterator[str]:
    for opening, inline in pairwise(all_tokens):
        if opening.type == "heading_open":
            yield "".join(each.content for each in inline.children or () if each.type in ("text", "code_inline"))


def links(text: str) -> list[str]:
    """Targets of links and pictures, those written in HTML too; those in code do not count."""
    all_tokens = tokens(text)
    inline = [child for each in all_tokens for child in each.children or ()]
    targets = [each.attrGet("href") or each.attrGet("src") for each in inline if each.type in ("link_open", "image")]
    html = [each.content for each in (*all_tokens, *inline) if each.type in ("html_block", "html_inline")]
    return [str(each) for each in targets if each] + re.findall(r'\b(?:src|href)="([^"]+)"', "".join(html))
