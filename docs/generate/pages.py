"""Which pages are generated, and by what; of README.md only one table."""

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.generate import commands, metrics, outcomes, problems, results, settings

ROOT = Path(__file__).parents[2]

PAGES: Mapping[str, Callable[[], str]] = {
    "docs/reference/settings.md": settings.page,
    "docs/reference/metrics.md": metrics.page,
    "docs/reference/commands.md": commands.page,
    "docs/reference/problems.md": problems.page,
    "docs/reference/outcomes.md": outcomes.page,
    "docs/benchmarks.md": results.benchmarks,
    "docs/faults.md": results.faults,
    "README.md": results.readme,
}


def stale(root: Path = ROOT) -> list[str]:
    """The generated pages below `root` that are missing or differ from what `make docs` would write."""
    return [name for name, page in PAGES.items() if not (root / name).is_file() or (root / name).read_text() != page()]
