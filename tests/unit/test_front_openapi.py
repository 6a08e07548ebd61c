"""The OpenAPI document says what the routes are, what the bodies are, and what is refused."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec
import pytest
from aiohttp import web

from reservasi.availability import Availability
from reservasi.catalogue import Catalogue
from reservasi.front import bodies, fields, pages, waiting_bodies, waiting_validation
from reservasi.front.app import HANDLERS, FrontServices, create_app
from reservasi.front.declarations import COMMON_PROBLEMS
from reservasi.front.openapi import openapi_document
from reservasi.front.operations import OPERATIONS
from reservasi.front.problems import Refused
from reservasi.front.shapes import Field
from reservasi.front.validation import idempotency_key
from reservasi.records import Records
from reservasi.reservations import Reservations
from reservasi.sealing import Sealing
from reservasi.settings import Settings
from reservasi.waiting_room.room import WaitingRoom

DOCUMENT = openapi_document()


def routes() -> set[tuple[str, str]]:
    unused = object()  # the routes are made without asking any of the parts
    catalogue = Catalogue(cast(Records, unused), cast(Sealing, unused), refresh_ms=1000)
    services = FrontServices(
        Settings(), cast(Reservations, unused), cast(Availability, unused), catalogue, cast(WaitingRoom, unused)
    )
    app: web.Application = create_app(services)
    return {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD" and route.resource.canonical not in pages.PATHS
    }


def test_every_route_is_documented_and_the_reverse() -> None:
    documented = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert documented == routes()


def test_every_operation_has_a_handler_and_the_reverse() -> None:
    assert {operation.id for operation in OPERATIONS} == set(HANDLERS)
    assert len(OPERATIONS) == len(HANDLERS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_every_refusal_is_documented_under_its_status(operation: Any) -> None:
    responses = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    for kind in (*operation.problems, *COMMON_PROBLEMS):
        schema = responses[str(kind.status)]["content"]["application/problem+json"]["schema"]
        assert f"/problems/{kind.name}" in schema["allOf"][1]["properties"]["type"]["enum"]
    for status in operation.successes:
        assert str(status) in responses


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_leads_somewhere() -> None:
    schemas = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(references(DOCUMENT)) <= schemas


def test_it_is_plain_json_of_version_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert msgspec.json.decode(msgspec.json.encode(DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize(
    ("body", "judged"),
    [
        (bodies.ClaimBody, fields.CLAIM),
        (bodies.ApplicantBody, fields.APPLICANT),
        (bodies.ContactBody, fields.CONTACT),
        (bodies.ConfirmBody, fields.CONFIRM),
        (bodies.QuotaChangeBody, fields.QUOTA_CHANGE),
        (waiting_bodies.JoinBody, waiting_validation.JOIN),
        (waiting_bodies.OpeningRequestBody, waiting_validation.OPENING),
        (waiting_bodies.AdmissionBody, waiting_validation.ADMISSION),
        (waiting_bodies.BeaconBody, waiting_validation.BEACON),
    ],
)
def test_what_is_declared_is_what_is_judged(body: type, judged: Mapping[str, Field]) -> None:
    schema = DOCUMENT["components"]["schemas"][body.__name__]
    assert set(schema["properties"]) == set(judged)
    assert set(schema["required"]) == {name for name, field in judged.items() if field.required}
    assert schema["additionalProperties"] is False
    for name, declared in schema["properties"].items():
        for example in declared.get("examples", []):
            assert judged[name].check(example) is None, (name, example)


@pytest.mark.parametrize("key", ["k", "a b", "k" * 255, "k" * 256, "", " a", "a ", "a\x7f", "é", "a\tb"])
def test_a_key_that_is_declared_is_a_key_that_is_judged(key: str) -> None:
    parameters = DOCUMENT["paths"]["/v1/reservations"]["post"]["parameters"]
    (declared,) = [each["schema"] for each in parameters if each["name"] == "Idempotency-Key"]
    matches = re.search(declared["pattern"], key) is not None
    accepted = True
    try:
        idempotency_key([key])
    except Refused:
        accepted = False
    assert accepted == (matches and declared["minLength"] <= len(key) <= declared["maxLength"])
