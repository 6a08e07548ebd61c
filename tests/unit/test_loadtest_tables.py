"""A table of a run has the same cells wherever it is shown."""

import io
import json
from pathlib import Path

from rich.console import Console

from loadtest.stage import environment
from loadtest.stage.tables import Table, write_run

TABLE = Table(
    title="Claims",
    columns=("", "a second", "what"),
    rows=(("ours", "1,234", "all of it"), ("a|b", "2", "nothing")),
    notes=("Higher is better.",),
)


def test_every_cell_is_printed() -> None:
    console = Console(record=True, file=io.StringIO(), width=120)
    TABLE.show(console)
    shown = console.export_text()
    for word in ("Claims", "a second", "ours", "1,234", "all of it", "a|b", "Higher is better."):
        assert word in shown


def test_markdown_has_as_many_cells_in_each_line() -> None:
    lines = [line for line in TABLE.markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {4}
    assert TABLE.markdown().startswith("**Claims**\n")
    assert TABLE.markdown().endswith("\nHigher is better.\n")


def test_a_run_is_written_with_where_it_comes_from(tmp_path: Path) -> None:
    facts = environment.describe(tmp_path)
    write_run(tmp_path / "new" / "run.json", ("make", "bench", "ARGS=--only claims"), facts, [TABLE], rounds=[1, 2])
    run = json.loads((tmp_path / "new" / "run.json").read_text())
    assert run["command"] == "make bench 'ARGS=--only claims'"
    assert run["environment"].keys() >= {"date", "commit", "machine", "python", "fsync_us"}
    assert run["environment"]["commit"] == environment.commit() != ""
    assert run["tables"][0]["rows"][0] == ["ours", "1,234", "all of it"]
    assert run["rounds"] == [1, 2]
