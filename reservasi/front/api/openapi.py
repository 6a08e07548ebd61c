"""Builds the OpenAPI 3.1 document from the declared operations and bodies, without a running server."""

from contextlib import suppress
from typing import Any

import msgspec
from apispec import APISpec

import reservasi
from reservasi.front.api import bodies
from reservasi.front.api.declarations import ACCEPT_LANGUAGE, COMMON_PROBLEMS, Operation, Success
from reservasi.front.api.examples import NoExample, example_of, problem_example
from reservasi.front.api.operations import OPERATIONS
from reservasi.front.api.paths import problem_type_uri
from reservasi.front.api.problem_catalogue import PROBLEM_TYPES
from reservasi.front.api.problem_type import MEDIA_TYPE, ProblemType

_HEADERS = {
    "Allow": "The methods that the address accepts.",
    "Cache-Control": "How long the answer may be kept.",
    "Content-Language": "The language of the texts.",
    "ETag": "The tag of this version.",
    "Idempotent-Replayed": "`true` when the same request was answered before.",
    "Location": "Where the reservation is.",
    "Retry-After": "Whole seconds to wait before asking again.",
    "WWW-Authenticate": "How to authenticate.",
}
_TAGS = {
    "public": "What anybody may read: programs, offices, availability, openings.",
    "reservations": "Claiming, confirming and ending a reservation.",
    "staff": "What an office's staff may do, with an API key.",
    "about": "This document, and what problem types mean.",
}
_SCHEMES = {
    "manageToken": {"type": "http", "scheme": "bearer", "description": "The `manage_token` of the reservation."},
    "staffKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A staff API key."},
    "staffBearer": {"type": "http", "scheme": "bearer", "description": "A staff API key as bearer secret."},
}
_SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "none": [],
    "manageToken": [{"manageToken": []}],
    "staffKey": [{"staffKey": []}, {"staffBearer": []}],
}


def openapi_document() -> dict[str, Any]:
    spec = APISpec(
        title="reservasi",
        version=reservasi.__version__,
        openapi_version="3.1.0",
        info={
            "summary": "Places at public offices: fair, exact and verifiable.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        servers=[{"url": "/", "description": "The host that serves this document."}],
        tags=[{"name": name, "description": about} for name, about in _TAGS.items()],
    )
    for name, schema in _schemas().items():
        spec.components.schema(name, schema)
    for name, scheme in _SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    for path, operations in paths.items():
        spec.path(path=path, operations=operations)
    document: dict[str, Any] = spec.to_dict()
    _add_examples(document)
    return document


def _add_examples(document: dict[str, Any]) -> None:
    """Add an example to each JSON body, and one for each problem type to each refusal."""
    schemas = document["components"]["schemas"]
    for operation in (each for operations in document["paths"].values() for each in operations.values()):
        for answer in (operation.get("requestBody", {}), *operation["responses"].values()):
            content = answer.get("content", {}).get("application/json")
            if content is not None:
                with suppress(NoExample):  # a test reports it; the document is valid without
                    content["example"] = example_of(content["schema"], schemas)
            for name, example in answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).items():
                kind = PROBLEM_TYPES[name]
                example["value"] = problem_example(kind, schemas[_problem_name(kind)], schemas)


def _schemas() -> dict[str, Any]:
    types = [
        body
        for operation in OPERATIONS
        for body in (operation.body, *(success.body for success in operation.successes.values()))
        if body not in (None, dict)
    ]
    _, components = msgspec.json.schema_components(
        [*dict.fromkeys(types), bodies.ProblemBody], ref_template="#/components/schemas/{name}"
    )
    components["QuotaChangeBody"]["minProperties"] = 1
    general = components.pop("ProblemBody")
    for kind in PROBLEM_TYPES.values():
        components[_problem_name(kind)] = _problem_schema(kind, general)
    return components


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.place,
                "description": parameter.about,
                "required": parameter.required,
                "schema": dict(parameter.schema),
            }
            for parameter in (*operation.parameters, ACCEPT_LANGUAGE)
        ],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": _reference(operation.body)}},
        }
    described["security"] = _SECURITY[operation.security]
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    responses = {str(status): _success(success) for status, success in operation.successes.items()}
    by_status: dict[int, list[ProblemType]] = {}
    for kind in (*operation.problems, *COMMON_PROBLEMS):
        by_status.setdefault(kind.status, []).append(kind)
    for status in sorted(by_status):
        responses[str(status)] = _refusal(by_status[status])
    return responses


def _success(success: Success) -> dict[str, Any]:
    described: dict[str, Any] = {"description": success.about}
    if success.headers:
        described["headers"] = _headers(success.headers)
    if success.body is not None:
        described["content"] = {success.media: {"schema": _reference(success.body)}}
    elif success.media != "application/json":
        described["content"] = {success.media: {"schema": dict(success.schema or {"type": "string"})}}
    if success.links:
        described["links"] = {
            name: {"operationId": name, "parameters": {"id": "$response.body#/id"}} for name in success.links
        }
    return described


def _refusal(kinds: list[ProblemType]) -> dict[str, Any]:
    names = ["Content-Language"]
    if any(kind.retry for kind in kinds):
        names.append("Retry-After")
    names += {401: ["WWW-Authenticate"], 405: ["Allow"]}.get(kinds[0].status, [])
    return {
        "description": "; ".join(f"`{kind.name}`: {kind.title.en}" for kind in kinds),
        "headers": _headers(tuple(names)),
        "content": {
            MEDIA_TYPE: {
                "schema": _one_of(kinds),
                "examples": {kind.name: {} for kind in kinds},
            }
        },
    }


def _one_of(kinds: list[ProblemType]) -> dict[str, Any]:
    """One schema for each problem type; if several share a status, `type` distinguishes them."""
    references = {problem_type_uri(kind.name): f"#/components/schemas/{_problem_name(kind)}" for kind in kinds}
    if len(references) == 1:
        return {"$ref": next(iter(references.values()))}
    return {
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "type", "mapping": references},
    }


def _problem_name(kind: ProblemType) -> str:
    return "".join(part.capitalize() for part in kind.name.split("-")) + "Problem"


def _problem_schema(kind: ProblemType, general: dict[str, Any]) -> dict[str, Any]:
    """The general problem with the `type` and `status` of one kind, and the members that it may have."""
    declared = general["properties"]
    properties = {name: declared[name] for name in (*general["required"], *kind.members)} | {
        "type": {"type": "string", "const": problem_type_uri(kind.name)},
        "status": {"type": "integer", "const": kind.status},
    }
    return general | {"title": _problem_name(kind), "description": f"{kind.title.en}.", "properties": properties}


def _headers(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in names}


def _reference(body: type) -> dict[str, Any]:
    if body is dict:
        return {"type": "object"}
    return {"$ref": f"#/components/schemas/{body.__name__}"}
