"""The pieces of Markdown that the generated pages consist of."""

from collections.abc import Iterable, Sequence

NONE = "-"  # an empty cell
PIPE = "\\|"  # one that does not end its cell


def document(title: str, source: str, *parts: str) -> str:
    """A whole page, which names the source that has to be changed instead of it."""
    note = f"<!-- Generated from {source} by `make docs`. Change the source, not this page. -->"
    return "\n\n".join([f"# {title}", note, *parts]) + "\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a header that ends with a colon is the header of a column of numbers."""
    rule = "|".join("---:" if header.endswith(":") else "---" for header in headers)
    lines = [_line([header.rstrip(":") for header in headers]), f"|{rule}|"]
    return "\n".join([*lines, *(_line([cell or NONE for cell in row]) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', PIPE) for cell in cells)} |"


def code(text: str) -> str:
    """The text in a fixed-width font, nothing where there is none."""
    return f"`{text}`" if text else ""


def codes(texts: Iterable[str]) -> str:
    return ", ".join(map(code, texts))


def anchor(heading: str) -> str:
    """The fragment of a link to a heading that consists of letters, digits, hyphens and spaces."""
    return heading.lower().replace(" ", "-")
