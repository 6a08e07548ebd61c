"""`reservasi dead-letters`: unrecorded events are listed, retried and settled."""

import json
from typing import Any

import pytest

from reservasi.ledger.journal import entries
from tests.acceptance.test_cli import Deployment, deployment
from tests.acceptance.test_cli_unreadable import append

__all__ = ["deployment"]  # a fixture
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def unread(deployment: Deployment) -> Deployment:
    """A confirmed reservation and three changes of a later version, recorded by a version that knows none of them."""
    quota = deployment.imported()
    deployment.recorded()
    deployment.confirmed(quota)
    append(deployment, ["z", "future-kind", 1], ["y"], ["x"])
    with pytest.MonkeyPatch.context() as older:
        for letter in ("h", "c"):
            older.delitem(entries._EVENT_DECODERS, letter)
        deployment.recorded()
    return deployment


def listed(of: Deployment, *words: str) -> list[dict[str, Any]]:
    letters = of.ok("dead-letters", "list", *words)
    assert isinstance(letters, list)
    return letters


def test_letters_are_listed_page_by_page_and_whole(unread: Deployment) -> None:
    everything = listed(unread, "--program", unread.program)
    assert [each["kind"] for each in everything] == [f"Unreadable {letter!r}" for letter in "hczyx"]
    assert [each["seq"] for each in everything] == sorted(each["seq"] for each in everything)
    assert everything[0]["reservation"]
    assert everything[0]["event"]["packed"]
    assert {each["state"] for each in everything} == {"open"}
    page = unread.call("dead-letters", "list", "--limit", "2", "--json")
    assert json.loads(page.stdout) == everything[:2]
    last = everything[1]
    after = f"{unread.program}:{last['epoch']}:{last['seq']}"
    assert after in page.stderr
    assert listed(unread, "--after", after) == everything[2:]
    assert "future" not in unread.call("dead-letters", "list").stderr
    for wrong in ("5", "p:1", "p:x:1", "::"):
        assert unread.call("dead-letters", "list", "--after", wrong).exit_code == 2
    assert "there is no program" in str(unread.call("dead-letters", "list", "--program", "nobody").exception)


def test_what_can_be_recorded_is_and_the_rest_is_settled_by_a_person(unread: Deployment) -> None:
    assert "5 dead letters" in unread.finding(f"program {unread.program}")
    tried = unread.call("dead-letters", "retry", "--json")
    assert tried.exit_code == 1, "some stay open"
    by_kind = {each["kind"]: each["result"] for each in json.loads(tried.stdout)}
    assert by_kind["Unreadable 'h'"] == by_kind["Unreadable 'c'"] == "recorded"
    assert by_kind["Unreadable 'z'"] == "unreadable"
    assert "3 dead letters" in unread.finding(f"program {unread.program}")

    ids = [str(each["id"]) for each in listed(unread)]
    assert unread.call("dead-letters", "settle", *ids).exit_code == 2, "a reason is wanted"
    assert unread.call("dead-letters", "settle", *ids, "--reason", "of 3174010101900001").exit_code == 2
    settled = unread.ok("dead-letters", "settle", *ids, "--reason", "the new version was tried by mistake")
    assert {each["result"] for each in settled} == {"settled"}
    assert unread.ok("dead-letters", "settle", ids[0], "--reason", "again")[0]["result"] == "was settled before"
    assert unread.call("dead-letters", "settle", "999999999", "--reason", "x").exit_code == 1
    assert unread.ok("doctor")["ok"]
    assert listed(unread) == []
    kept = [each for each in listed(unread, "--all") if each["state"] == "settled"]
    assert {each["reason"] for each in kept} == {"the new version was tried by mistake"}
    assert all(each["closed_by"].startswith("cli:") and each["closed_at"] for each in kept)
    assert unread.ok("dead-letters", "retry") == []
    assert unread.call("reconcile").exit_code == 0
