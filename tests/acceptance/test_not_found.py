"""A refusal of something unknown names it and lists what exists; it never repeats a person's number."""

from typing import Any

import pytest

from tests.acceptance.conftest import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
LANGUAGES = ("id", "en")
NIK = "3578014107900001"
CLOSURE = {"date": "2027-04-21"}
OPENING = {"opens_at": "2027-04-20T02:00:00Z", "from": "2027-04-21", "to": "2027-04-21"}
NO_QUOTAS = {"from": "2029-01-01", "to": "2029-01-02"}


async def refusal(stack: Stack, method: str, path: str, language: str, body: Any = None) -> dict[str, Any]:
    options = {} if body is None else {"json": body}
    reply = await stack.staff(method, path, headers={"Accept-Language": language}, **options)
    return reply.is_problem("not-found", 404)


def speaks_of_no_token(problem: dict[str, Any]) -> bool:
    return not any(word in problem["detail"] + problem["next"] for word in ("token", "alamat", "address"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/staff/closures", {"program": "nowhere", **CLOSURE}),
        ("POST", "/v1/staff/openings", {"program": "nowhere", **OPENING}),
        ("GET", "/v1/staff/audit?program=nowhere", None),
        ("GET", "/v1/openings.ics?program=nowhere", None),
    ],
)
async def test_an_unknown_program_is_named_beside_those_that_there_are(
    stack: Stack, language: str, method: str, path: str, body: Any
) -> None:
    problem = await refusal(stack, method, path, language, body)
    assert {"id": "Tidak ada program `nowhere`.", "en": "There is no program `nowhere`."}[language] in problem["detail"]
    assert f"`{stack.program}`" in problem["detail"]
    assert speaks_of_no_token(problem)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_an_unknown_office_is_named_beside_those_of_the_program(stack: Stack, language: str) -> None:
    message = {"id": "Tidak ada kantor `nowhere`", "en": "There is no office `nowhere`"}[language]
    path = f"/v1/openings.ics?program={stack.program}&office=nowhere"
    details = [(await refusal(stack, "GET", path, language))["detail"]]
    await stack.quota(date=CLOSURE["date"])
    for path, body in (
        ("/v1/staff/closures", {"program": stack.program, "office": "nowhere", **CLOSURE}),
        ("/v1/staff/openings", {"program": stack.program, "office": "nowhere", **OPENING}),
        ("/v1/staff/openings", {"program": stack.program, **OPENING, **NO_QUOTAS, "offices": ["kanim", "nowhere"]}),
    ):
        reply = await stack.staff("POST", path, json=body, headers={"Accept-Language": language})
        (finding,) = reply.is_problem("invalid-request", 422)["errors"]
        assert (finding["pointer"], finding["code"]) == ("", "nothing-matches")
        details.append(finding["detail"])
    for detail in details:
        assert message in detail
        assert "`kanim`" in detail


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/openings/nowhere-1", None),
        ("GET", "/v1/openings/nowhere-1/queue", None),
        ("GET", "/v1/openings/nowhere-1/challenge", None),
        ("POST", "/v1/openings/nowhere-1/tickets", {"nik": NIK, "birth_date": "1990-07-01"}),
        ("PATCH", "/v1/staff/openings/nowhere-1", {"ends_at": OPENING["opens_at"]}),
        ("PUT", "/v1/staff/openings/nowhere-1/admission", {"paused": True}),
        ("POST", f"/v1/staff/reservations/{'a' * 26}/cancel", {}),
        ("POST", "/v1/staff/reservations/x/cancel", {}),
    ],
)
@pytest.mark.parametrize("language", LANGUAGES)
async def test_what_is_not_there_is_called_what_it_is(
    stack: Stack, language: str, method: str, path: str, body: Any
) -> None:
    problem = await refusal(stack, method, path, language, body)
    is_opening = "/openings/" in path
    noun = {"id": "pembukaan", "en": "opening"} if is_opening else {"id": "reservasi", "en": "reservation"}
    assert noun[language] in problem["detail"]
    assert speaks_of_no_token(problem)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/availability",
        "/v1/availability/days",
        "/v1/availability/stream",
        "/v1/offices",
        "/v1/openings",
        "/v1/openings.ics",
        "/v1/staff/quotas",
        "/v1/staff/audit",
    ],
)
async def test_a_value_that_no_program_has_is_named(stack: Stack, path: str) -> None:
    for name in ("Surabaya", "a", "no_where"):
        reply = await stack.staff("GET", f"{path}?program={name}", headers={"Accept-Language": "en"})
        (finding,) = reply.is_problem("invalid-request", 422)["errors"]
        assert (finding["pointer"], finding["code"]) == ("program", "parameter-invalid")
        assert f"There is no program `{name}`." in finding["detail"]
        assert f"`{stack.program}`" in finding["detail"]


async def test_no_number_comes_back(stack: Stack) -> None:
    for path in (
        f"/v1/openings.ics?program={NIK}",
        f"/v1/openings.ics?program={stack.program}&office={NIK}",
        f"/v1/staff/audit?program=nik-{NIK}",
        f"/v1/availability?program=NIK_{NIK}",
        f"/v1/availability?program={NIK[:6]}_",
        "/v1/availability?program=<script>",
    ):
        reply = await stack.staff("GET", path)
        assert reply.status in (404, 422)
        assert NIK[:6] not in reply.text
        assert "script" not in reply.text


async def test_a_page_that_is_not_there_speaks_of_openings(stack: Stack) -> None:
    reply = await stack.request("GET", "/openings/nowhere-1", headers={"Accept-Language": "en"})
    assert reply.status == 404
    assert "There is no opening with this id." in reply.text
    assert "token" not in reply.text
