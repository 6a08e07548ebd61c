"""`reservasi verify draw` against a running service: the service's numbers are the ones that anyone can compute."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reservasi.cli.main import app
from tests.acceptance.conftest import Stack
from tests.acceptance.waiting import Room, create_room

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def verify(room: Room, *words: str, code: int) -> Any:
    """What the command says, run beside the service as anybody would elsewhere."""
    line = ["verify", "draw", "--url", room.stack.url, "--opening", room.id, *words, "--json"]
    done = await asyncio.to_thread(CliRunner().invoke, app, line)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


async def test_the_numbers_that_the_service_acts_on_are_those_of_the_draw(stack: Stack, tmp_path: Path) -> None:
    room = await create_room(stack, opens_in_ms=2000)
    await room.set(beacon="round 4711")
    people = [stack.applicant() for _ in range(20)]
    tickets = [await room.joined(person) for person in people]
    noted = (await room.queue())["commitment"]
    queue = await room.opened()
    late = stack.applicant()
    people.append(late)
    tickets.append(await room.joined(late))
    entries = []
    for person, ticket in zip(people, tickets, strict=True):
        reply = await room.claim(person, ticket["ticket"])
        if reply.status == 403:  # at one a minute, nearly everybody
            problem = reply.is_problem("not-admitted", 403)
            entries.append({**ticket, "number": problem["number"]})
    assert len(entries) > 10
    assert entries[-1]["number"] == tickets[-1]["number"] > queue["joined"]
    file = tmp_path / "tickets.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + "".join(json.dumps(each) + "\r\n" for each in entries).encode())  # as on Windows
    ring = str(stack.worker.settings.secrets_path.parent)
    report = await verify(room, "--tickets", str(file), "--commitment", f" {noted}\n", "--data-dir", ring, code=0)
    assert report["ok"] is True
    assert report["beacon"] == "round 4711"
    assert [each["number"] for each in report["tickets"]] == [each["number"] for each in entries]

    pasted = entries[0]["ticket"]
    pasted = f" {pasted[:9]}\r\n {pasted[9:20]}\u200b\u00a0{pasted[20:]} "
    opening = room.id
    room.id = f" {opening}\u00a0\n"
    noted = f"{noted[:32]} {noted[32:]}"
    report = await verify(room, "--ticket", pasted, "--commitment", noted, "--data-dir", ring, code=0)
    assert [each["number"] for each in report["tickets"]] == [entries[0]["number"]]
    room.id = opening

    entries[3]["number"] += 1
    entries[5]["ticket"] = entries[5]["ticket"][:-4] + "AAAA"
    file.write_bytes(b"\xef\xbb\xbf" + "".join(json.dumps(each) + "\r\n" for each in entries).encode())  # as on Windows
    report = await verify(room, "--tickets", str(file), "--data-dir", ring, code=1)
    assert [(each["ticket"], each["problem"]) for each in report["findings"]] == [
        (4, "number-differs"),
        (6, "signature-wrong"),
    ]


async def test_a_ticket_that_cannot_be_read_says_nothing_against_the_draw(stack: Stack) -> None:
    room, other = await create_room(stack, opens_in_ms=1000), await create_room(stack)
    whole = (await room.joined(stack.applicant()))["ticket"]
    elsewhere = (await other.joined(stack.applicant()))["ticket"]
    await room.opened()
    line = ["verify", "draw", "--url", stack.url, "--opening", room.id, "--ticket"]
    for ticket in (whole[:-2], f'"{whole}"', elsewhere):
        done = await asyncio.to_thread(CliRunner().invoke, app, [*line, ticket])
        assert done.exit_code == 1
        assert "the draw itself agrees, but 1 ticket was not checked" in done.output
    done = await asyncio.to_thread(CliRunner().invoke, app, [*line, whole])
    assert (done.exit_code, "the draw agrees, and the number of 1 ticket with it" in done.output) == (0, True)


async def test_before_the_opening_there_is_a_commitment_and_no_seed(stack: Stack) -> None:
    room = await create_room(stack)
    ticket = await room.joined(stack.applicant())
    report = await verify(room, "--ticket", ticket["ticket"], "--commitment", room.opening.terms.commitment, code=1)
    assert [each["problem"] for each in report["findings"]] == ["not-revealed"]
    assert report["seed"] is None
    assert [each["number"] for each in report["tickets"]] == [None]


async def test_an_opening_that_does_not_exist_is_said_so(stack: Stack) -> None:
    room = await create_room(stack)
    room.id = f"{stack.program}-none"
    assert "404" in (await verify(room, code=1))["error"]
