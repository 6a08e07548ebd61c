"""Every problem type is translated, explained, used and documented."""

import re
from pathlib import Path
from string import Formatter

import msgspec
import pytest

import reservasi.front
from reservasi.front.api import problem_catalogue, waiting_problems
from reservasi.front.api.declarations import COMMON_PROBLEMS
from reservasi.front.api.languages import LANGUAGES, Text
from reservasi.front.api.operations import OPERATIONS
from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.front.api.problem_type import ProblemType
from reservasi.front.api.problems import FINDINGS_MAX, Finding, Refused, problem_body

FRONT = Path(reservasi.front.__path__[0])
DECLARING = {"problem_catalogue.py", "waiting_problems.py", "operations.py", "waiting_operations.py", "declarations.py"}
DECLARED = {**vars(problem_catalogue), **vars(waiting_problems)}
CONSTANTS = {kind: name for name, kind in DECLARED.items() if isinstance(kind, ProblemType)}
KINDS = list(PROBLEM_TYPES.values())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_is_translated_and_says_what_to_do(kind: ProblemType) -> None:
    for text in (kind.title, kind.detail, kind.next):
        assert text.id.strip()
        assert text.en.strip()
        assert text.id != text.en
    placeholders = [{name for _, name, _, _ in Formatter().parse(kind.detail.to(lang)) if name} for lang in LANGUAGES]
    assert placeholders[0] == placeholders[1]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.name)
    assert 400 <= kind.status <= 599
    assert kind.retry == (kind.status in (429, 503))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_is_used_and_documented(kind: ProblemType) -> None:
    sources = [path.read_text() for path in FRONT.rglob("*.py") if path.name not in DECLARING]
    assert any(re.search(rf"\b{CONSTANTS[kind]}\b", source) for source in sources)
    assert kind in COMMON_PROBLEMS or any(kind in operation.problems for operation in OPERATIONS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_becomes_a_problem_in_both_languages(kind: ProblemType) -> None:
    bodies = [msgspec.json.decode(problem_body(Refused(kind), language)) for language in LANGUAGES]
    assert [body["title"] for body in bodies] == [kind.title.id, kind.title.en]
    assert all("{" not in body["detail"] for body in bodies)


def test_words_fill_the_detail_and_members_are_added() -> None:
    words = {"state": Text("dilepas", "released")}
    refused = Refused(problem_catalogue.ALREADY_ENDED, members={"state": "released"}, words=words)
    indonesian, english = (msgspec.json.decode(problem_body(refused, language)) for language in LANGUAGES)
    assert indonesian["detail"] == "Reservasi ini sudah berakhir: dilepas."
    assert english["detail"] == "This reservation has already ended: released."
    assert indonesian["state"] == "released"


def test_a_request_that_does_not_arrive_is_refused_alike_with_and_without_a_body() -> None:
    kind = problem_catalogue.REQUEST_TIMEOUT
    assert kind in COMMON_PROBLEMS, "an unfinished head is refused before the operation is known"
    assert "body" not in kind.detail.en
    assert "Isi" not in kind.detail.id


def test_a_fixed_beacon_leaves_staff_with_a_next_step() -> None:
    kind = waiting_problems.BEACON_FIXED
    for text in (kind.next.id, kind.next.en):
        assert "GET /v1/openings/{id}/queue (`beacon`)" in text
    assert "cancelling this opening and creating a new one" in kind.next.en
    assert "membatalkan pembukaan ini dan membuat yang baru" in kind.next.id


def test_findings_are_bounded() -> None:
    findings = tuple(Finding(f"/{n}", "missing", Text("a", "b")) for n in range(FINDINGS_MAX * 2))
    refused = Refused(problem_catalogue.INVALID_REQUEST, findings=findings)
    assert len(msgspec.json.decode(problem_body(refused, "en"))["errors"]) == FINDINGS_MAX
