"""The documents say what the code does: the generated pages are fresh, and what others name exists."""

import importlib.util
import inspect
import json
import re
import tomllib
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from pydantic.fields import FieldInfo

from docs.generate import results
from docs.generate.pages import PAGES, stale
from loadtest.stage.environment import describe
from loadtest.stage.tables import Table, write_run
from reservasi.cli import main
from reservasi.cli.examination import UNREACHABLE
from reservasi.cli.on_demand import command_of
from reservasi.cli.reloading import NEEDS_RESTART
from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.model import Outcome
from reservasi.records.revision import newest_revision
from reservasi.settings import Settings, default_data_dir
from reservasi.worker.ledger_owner import Ownership
from reservasi.worker.reconciliation import KINDS
from tests.releases import FORMER, FORMER_SCHEMA

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize("name", PAGES)
def test_every_generated_page_is_what_the_code_says_now(name: str) -> None:
    assert (ROOT / name).read_text() == PAGES[name](), f"{name} is stale: run `make docs` and commit what it changes"


def test_a_changed_or_missing_page_is_stale(tmp_path: Path) -> None:
    changed, missing, *others = PAGES
    for name in (changed, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / changed).write_text((ROOT / changed).read_text().replace("`", "'", 1))
    assert stale(tmp_path) == [changed, missing]
    assert stale(ROOT) == []


def rows_of(page: str) -> dict[str, list[str]]:
    """The rows of all tables of a generated page that begin with something in a fixed-width font, by that."""
    text = PAGES[f"docs/reference/{page}.md"]()
    rows = [cells(line.replace("\\|", "/")) for line in text.splitlines() if re.match(r"\| \[?`", line)]
    return {re.findall(r"`([^`]+)`", row[0])[0]: row for row in reversed(rows)}


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items())
def test_every_setting_is_documented(name: str, field: FieldInfo) -> None:
    _, variable, default, _, effect, meaning = rows_of("settings")[name]
    assert variable == f"`RESERVASI_{name.upper()}`"
    assert effect == ("restart" if name in NEEDS_RESTART else "reload")
    assert meaning == field.description
    if field.default not in ("", None, ()) and field.default_factory is None:
        assert Settings.model_validate({name: default.strip("`")}).model_dump()[name] == field.default


@pytest.mark.parametrize("root", [True, False])
def test_the_documented_data_directory_is_the_default(monkeypatch: pytest.MonkeyPatch, root: bool) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(Path, "home", lambda: Path("~"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert f"`{default_data_dir()}`" in rows_of("settings")["data_dir"][2]


def test_every_rule_between_settings_is_documented() -> None:
    text = PAGES["docs/reference/settings.md"]()
    checks = [each.func for each in Settings.__pydantic_decorators__.model_validators.values()]
    rules = sum(inspect.getsource(check).count("raise ValueError(") for check in checks)
    assert rules > 0
    assert text.split("## Rules between settings")[1].count("\n- ") == rules


def test_every_metric_is_documented() -> None:
    documented = rows_of("metrics")
    exposed = {each.name: each for each in REGISTRY.collect() if each.name.startswith("reservasi_")}
    assert exposed
    for name, metric in exposed.items():
        row = documented[name + ("_total" if metric.type == "counter" else "")]
        assert row[1] == metric.type
        assert row[4] == metric.documentation


def commands() -> list[str]:
    names = []
    for listed in main.COMMANDS:
        below = getattr(command_of(listed), "commands", None)
        names += [f"{listed.name} {sub}" for sub in below] if below else [listed.name]
    return names


def test_every_command_is_documented_with_its_options() -> None:
    page = PAGES["docs/reference/commands.md"]()
    sections = dict(part.split("\n", 1) for part in page.split("\n## reservasi ")[1:])
    assert list(sections) == commands()
    assert [name for name in sections if "| `--json` |" not in sections[name]] == []
    assert set(re.findall(r"^\| \[`reservasi ([a-z -]+)`\]", page, re.MULTILINE)) == set(commands())


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_documented(outcome: Outcome) -> None:
    _, meaning, where = rows_of("outcomes")[outcome]
    assert meaning != "-"
    assert where != "-"


@pytest.mark.parametrize("problem", PROBLEM_TYPES.values(), ids=lambda problem: problem.name)
def test_every_problem_type_is_documented(problem) -> None:  # type: ignore[no-untyped-def]
    status, *_ = next(
        cells(line) for line in PAGES["docs/reference/problems.md"]().splitlines() if f"[`{problem.name}`]" in line
    )
    assert status == str(problem.status)


@pytest.mark.parametrize("kind", [*results.BENCHMARKS, *results.FAULTS], ids=lambda kind: kind.name)
def test_every_result_says_where_it_comes_from_and_how_to_replace_it(kind: results.Kind) -> None:
    program, option, module, *_ = kind.command.split()
    if program == "make":
        assert re.search(rf"^{option}:", MAKEFILE, re.MULTILINE)
    else:
        assert importlib.util.find_spec(module) is not None
    assert str(kind.path.relative_to(ROOT)) in kind.command
    if not kind.path.exists():
        return
    run = json.loads(kind.path.read_text())
    assert {"date", "machine", "commit", "python"} <= run["environment"].keys()
    assert run["command"].startswith("python -m loadtest.")
    assert run["tables"]


def test_a_page_is_made_from_what_a_run_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    table = Table(title="Claims", columns=("", "of bare"), rows=(("ours", "0.5"),), notes=("ours: this service.",))
    where = describe(tmp_path)
    write_run(tmp_path / "benchmarks.json", ("python", "-m", "loadtest.bench"), where, [table], suites=[])
    page = results.benchmarks()
    assert "### Claims\n\n|  | of bare |\n|---|---:|\n| ours | 0.5 |\n\n- ours: this service.\n" in page
    assert all(fact in page for fact in (where["date"], where["machine"], where["commit"].removesuffix("+")))
    assert "by `python -m loadtest.bench`." in page


def test_readme_has_the_first_table_of_the_benchmarks_and_nothing_else_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def result(rows: int) -> None:
        columns, notes = ["", "of bare", "share"], ["a: one | another.", "share: of its core."]
        table = {"title": "Claims", "columns": columns, "rows": [["a", "1.0", "2"]] * rows, "notes": notes}
        run = {"tables": [table], "environment": {"date": "2026-01-02", "machine": "1 core"}}
        (tmp_path / "benchmarks.json").write_text(json.dumps(run))

    monkeypatch.setattr(results, "RESULTS", tmp_path)
    result(2)
    copied = results.readme()
    row = "| one \\| another | 1.0 |\n"
    caption = "Claims (2026-01-02, 1 core):"
    assert f"{results.BEGIN}\n{caption}\n\n| design | of bare |\n|---|---:|\n{row}{row}{results.END}" in copied
    assert results.COPIED.sub("", copied) == results.COPIED.sub("", README)
    result(9)
    with pytest.raises(ValueError, match="more than 8 rows"):
        results.readme()


def test_the_revision_of_the_former_release_is_named() -> None:
    releases = re.findall(r"^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text(), re.M)
    [about] = [kind.about for kind in results.BENCHMARKS if kind.name == "against"]
    assert f"Revision {FORMER} is release {releases[1]}." in about


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("docs/")])
def test_every_section_that_a_generated_page_refers_to_exists(name: str) -> None:
    text = PAGES[name]()
    anchors = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


@pytest.mark.parametrize("problem", PROBLEM_TYPES.values(), ids=lambda problem: problem.name)
def test_every_problem_type_speaks_both_languages(problem) -> None:  # type: ignore[no-untyped-def]
    for text in (problem.title, problem.detail, problem.next):
        assert text.id
        assert text.en
        assert text.id != text.en


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["loadtest"]]
    table = (ROOT / "docs/dependencies.md").read_text()
    for requirement in wanted:
        name = re.split(r"[\[<>=]", requirement)[0]
        assert re.search(rf"\b{re.escape(name)}\b", table), name


RECOVERY = (ROOT / "docs/operations/recovery.md").read_text()


@pytest.mark.parametrize("word", list(Ownership))
def test_every_word_for_a_ledger_has_its_section_for_operators(word: Ownership) -> None:
    assert f"\n### `{word}`: " in RECOVERY


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_drift_is_explained_to_operators(kind: str) -> None:
    rows = RECOVERY.split("## Ledger and records differ")[1].split("\n## ")[0]
    assert re.search(rf"^\| [^|]*`{kind}`", rows, re.MULTILINE)


def checks() -> set[str]:
    """Everything that `doctor` may look at, by the names that the sources give."""
    sources = ("reservasi/cli/examination.py", "reservasi/cli/findings.py", "reservasi/ledger/topology/server_facts.py")
    text = "".join((ROOT / path).read_text() for path in sources)
    return set(re.findall(r'(?:check|Check\(name)="([^"]+)"', text)) | {"program ID"} | set(UNREACHABLE)


@pytest.mark.parametrize("check", sorted(checks()))
def test_every_check_of_doctor_is_explained_to_operators(check: str) -> None:
    rows = RECOVERY.split("## What `doctor` looks at")[1].split("\n## ")[0]
    assert re.search(rf"^\| [^|]*`{re.escape(check)}`", rows, re.MULTILINE)


def test_the_way_back_names_the_schemas_of_both_releases() -> None:
    page = (ROOT / "docs/operations/deployment.md").read_text()
    named = re.findall(r"version_num = '(\d+)'", page)
    assert set(named) == {newest_revision(), FORMER_SCHEMA}
    assert f"Can't locate revision identified by '{newest_revision()}'" in page


def test_every_path_that_is_named_exists() -> None:
    for path in re.findall(r"`((?:tests|config|loadtest|reservasi)/[\w./-]+)`", README + ARCHITECTURE):
        assert (ROOT / path).exists(), path


def test_every_source_file_that_is_named_exists() -> None:
    """Files move; what a code map or a docstring says of them must move as well."""
    sources = [f"/{path.relative_to(ROOT)}" for kind in ("py", "lua") for path in ROOT.glob(f"[a-z]*/**/*.{kind}")]
    documents = [*ROOT.glob("*.md"), *ROOT.glob("loadtest/*.md"), *(ROOT / "reservasi").rglob("*.py")]
    lost = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in documents
        for name in re.findall(r"`([a-z_/]+\.(?:py|lua))`", path.read_text())
        if not any(source.endswith(f"/{name}") for source in sources)
    }
    assert not lost
