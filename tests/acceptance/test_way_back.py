"""Finding a live reservation without its token requires number, birth date and contact together."""

from typing import Any

import pytest

from tests.acceptance.conftest import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
WAYS = pytest.mark.parametrize("way", [{}, {"Trailer": "x"}], ids=["plain", "doubted"])
CONTACT = {"email": "Siti@Example.id", "phone": "+62 812-3456-7890"}


async def booked(stack: Stack, applicants: int = 1, **more: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A reservation that is recorded, and its applicants."""
    body = stack.body(await stack.quota(), applicants, contact=CONTACT, **more)
    held = (await stack.claim(body)).json
    assert (await stack.managed("POST", held, "/confirm")).status == 200
    return held, body["applicants"]


async def find(stack: Stack, person: dict[str, Any], contact: Any, way: dict[str, str], **more: Any) -> Any:
    proof = {"program": stack.program, "nik": person["nik"], "birth_date": person["birth_date"], "contact": contact}
    return await ask(stack, {**proof, **more}, way)


async def ask(stack: Stack, body: Any, way: dict[str, str]) -> Any:
    return await stack.request("POST", "/v1/find", json=body, headers={"Accept-Language": "en", **way})


@WAYS
@pytest.mark.parametrize(
    "contact",
    [
        CONTACT,
        {"email": "siti@example.id"},
        {"email": "SITI@EXAMPLE.ID", "phone": None},
        {"phone": "081234567890"},
        {"phone": "+62 0812 3456 7890"},
        {"phone": "0062 812 3456 7890"},
        {"phone": "+6281234567890", "email": ""},
    ],
)
async def test_every_applicant_finds_back(stack: Stack, way: dict[str, str], contact: Any) -> None:
    held, applicants = await booked(stack, 3)
    for person in applicants:
        reply = await find(stack, person, contact, way)
        assert (reply.status, reply.json) == (200, {"id": held["id"], "manage_token": held["manage_token"]})
        assert reply.headers["Cache-Control"] == "no-store"
    assert (await stack.managed("GET", reply.json)).json["status"] == "confirmed"


@WAYS
async def test_a_hold_is_found_at_once(stack: Stack, way: dict[str, str]) -> None:
    """The lost answer of a claim is asked for immediately, before the records have it."""
    quota = await stack.quota(capacity=50)
    for _ in range(20):
        body = stack.body(quota, contact=CONTACT)
        held = (await stack.claim(body)).json
        reply = await find(stack, body["applicants"][0], CONTACT, way)
        assert (reply.status, reply.json["id"]) == (200, held["id"])


@WAYS
async def test_whatever_does_not_fit_is_answered_alike(stack: Stack, way: dict[str, str]) -> None:
    _, (person, _) = await booked(stack, 2)
    nobody = stack.applicant()
    quota = await stack.quota()
    silent = stack.applicant()
    unproven = (await stack.claim({"quota": quota, "applicants": [silent]})).json
    assert (await stack.managed("POST", unproven, "/confirm")).status == 200
    ended, (former,) = await booked(stack)
    assert (await stack.managed("POST", ended, "/cancel")).status == 200
    replies = [
        await find(stack, nobody, CONTACT, way),
        await find(stack, person, {"email": "other@example.id"}, way),
        await find(stack, person, {"phone": "081234567891"}, way),
        await find(stack, person, {**CONTACT, "phone": "081234567891"}, way),
        await find(stack, person, CONTACT, way, birth_date="1990-07-02"),
        await find(stack, silent, CONTACT, way),
        await find(stack, former, CONTACT, way),
    ]
    for reply in replies:
        reply.is_problem("not-found", 404)
        assert reply.body == replies[0].body
        assert person["nik"] not in reply.text


@WAYS
@pytest.mark.parametrize(
    ("change", "pointer", "code"),
    [
        ({"contact": None}, "/contact", "object-expected"),
        ({"contact": {}}, "/contact", "contact-missing"),
        ({"contact": {"email": " "}}, "/contact", "contact-missing"),
        ({"contact": {"email": "x"}}, "/contact/email", "email-invalid"),
        ({"nik": "1"}, "/nik", "nik-length"),
        ({"birth_date": "1990"}, "/birth_date", "birth-date-invalid"),
        ({"program": 5}, "/program", "id-type"),
        ({"name": "Siti"}, "/name", "unknown-field"),
    ],
)
async def test_what_proves_nothing_is_named(
    stack: Stack, way: dict[str, str], change: dict[str, Any], pointer: str, code: str
) -> None:
    proof = {"program": stack.program, "nik": stack.nik(), "birth_date": "1990-07-01", "contact": CONTACT}
    reply = await ask(stack, {**proof, **change}, way)
    errors = reply.is_problem("invalid-request", 422)["errors"]
    assert [(each["pointer"], each["code"]) for each in errors] == [(pointer, code)]


async def test_nobody_guesses_for_long(stack: Stack) -> None:
    _, (person,) = await booked(stack)
    statuses = [
        (await find(stack, person, {"email": f"guess{number}@example.id"}, {})).status
        for number in range(stack.front.settings.rate_person_burst + 5)
    ]
    assert set(statuses) == {404, 429}


async def test_a_program_that_there_is_not_is_named(stack: Stack) -> None:
    reply = await find(stack, stack.applicant(), CONTACT, {}, program="nowhere")
    assert "nowhere" in reply.is_problem("not-found", 404)["detail"]
