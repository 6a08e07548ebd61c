"""The OpenAPI document agrees with routes, bodies and refusals."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from reservasi.front.api import bodies, closure_bodies, examples, waiting_bodies
from reservasi.front.api.declarations import COMMON_PROBLEMS
from reservasi.front.api.openapi import openapi_document
from reservasi.front.api.operations import OPERATIONS
from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.front.api.problems import Refused
from reservasi.front.handlers import staff_closures
from reservasi.front.operation_routes import API_ROUTES, HANDLERS
from reservasi.front.reading import field_checks as fields
from reservasi.front.reading import opening_requests as waiting_validation
from reservasi.front.reading.findings import Field
from reservasi.front.reading.reservation_requests import idempotency_key

DOCUMENT = openapi_document()


def test_every_route_is_documented_and_the_reverse() -> None:
    documented = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert documented == {(route.method, route.path) for route in API_ROUTES}


def test_every_operation_has_a_handler_and_the_reverse() -> None:
    assert {operation.id for operation in OPERATIONS} == set(HANDLERS)
    assert len(OPERATIONS) == len(HANDLERS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_every_refusal_is_documented_under_its_status(operation: Any) -> None:
    responses = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    for kind in (*operation.problems, *COMMON_PROBLEMS):
        schema = responses[str(kind.status)]["content"]["application/problem+json"]["schema"]
        types = {
            DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]["properties"]["type"]["const"]
            for reference in references(schema)
        }
        assert f"/problems/{kind.name}" in types
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
        (closure_bodies.ClosureRequestBody, staff_closures.CLOSURE),
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


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def json_contents() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, operation in operations():
        for status, answer in (("request", operation.get("requestBody", {})), *operation["responses"].items()):
            content = answer.get("content", {}).get("application/json")
            if content is not None and "$ref" in content["schema"]:
                yield f"{name} {status}", content


def test_no_refusal_is_merged_of_two_schemas() -> None:
    assert "allOf" not in msgspec.json.encode(DOCUMENT).decode()
    for name, operation in operations():
        for status, answer in operation["responses"].items():
            schema = answer.get("content", {}).get("application/problem+json", {}).get("schema", {})
            for reference in references(schema):
                properties = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
                assert properties["status"]["const"] == int(status), name
            assert set(schema.get("discriminator", {}).get("mapping", {}).values()) <= set(references(schema))


def test_every_whole_body_has_an_example_that_fits() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name, content in json_contents():
        assert "example" in content, name
        schema = {**content["schema"], "components": {"schemas": schemas}}
        jsonschema_rs.validator_for(schema, validate_formats=False).validate(content["example"])


def test_every_refusal_has_an_example_with_all_its_members() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for name, operation in operations():
        for answer in operation["responses"].values():
            content = answer.get("content", {}).get("application/problem+json", {})
            for kind, example in content.get("examples", {}).items():
                value, schema = example["value"], schemas[f"{kind.title().replace('-', '')}Problem"]
                assert set(value) == set(schema["properties"]), (name, kind)
                whole = {**schema, "components": {"schemas": schemas}}
                jsonschema_rs.validator_for(whole, validate_formats=False).validate(value)
                assert set(re.findall(r"\{(\w+)\}", value["detail"] + value["next"])) <= {"id"}, (name, kind)


def test_the_examples_name_only_members_that_exist() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for body, member in (each.split(".") for each in examples.BY_MEMBER):
        assert member in schemas[body]["properties"], (body, member)
    assert set(examples.BY_NAME) <= {name for schema in schemas.values() for name in schema.get("properties", {})}


def test_an_operation_says_whether_it_needs_a_secret_and_where_it_is() -> None:
    assert [server["url"] for server in DOCUMENT["servers"]] == ["/"]
    described = {tag["name"] for tag in DOCUMENT["tags"] if tag["description"]}
    for name, operation in operations():
        assert "security" in operation, name
        assert set(operation["tags"]) <= described


def test_the_data_of_events_is_typed() -> None:
    for operation_id, body in (("streamAvailability", "AvailabilityBody"), ("streamQueue", "QueueBody")):
        (operation,) = [each for _, each in operations() if each["operationId"] == operation_id]
        content = operation["responses"]["200"]["content"]["text/event-stream"]
        assert content["schema"] == {"$ref": f"#/components/schemas/{body}"}


@pytest.mark.parametrize("kind", PROBLEM_TYPES.values(), ids=lambda kind: kind.name)
def test_a_problem_has_the_members_that_its_type_declares(kind: Any) -> None:
    (schema,) = [
        each
        for each in DOCUMENT["components"]["schemas"].values()
        if each.get("properties", {}).get("type", {}).get("const") == f"/problems/{kind.name}"
    ]
    assert set(schema["properties"]) - set(schema["required"]) == set(kind.members)


def test_counts_of_a_queue_say_that_they_lag() -> None:
    schemas = openapi_document()["components"]["schemas"]
    for body in ("QueueBody", "AdmissionStateBody", "OpeningStateBody"):
        for count in ("joined", "arrived"):
            assert "seconds behind" in schemas[body]["properties"][count]["description"]


def test_if_match_says_when_a_stale_version_is_refused() -> None:
    descriptions = [
        parameter["description"]
        for methods in DOCUMENT["paths"].values()
        for operation in methods.values()
        for parameter in operation.get("parameters", ())
        if parameter.get("name") == "If-Match"
    ]
    assert len(descriptions) == 2
    assert all("412" in each and "200 if the requested state is already reached" in each for each in descriptions)
