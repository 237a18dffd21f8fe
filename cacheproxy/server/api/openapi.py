"""The OpenAPI 3.1 document, made from the table of operations and their models."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import models_json_schema

from cacheproxy import __version__
from cacheproxy.server.api.operations import BASE, EVENTS, JSON, OPERATIONS
from cacheproxy.server.api.shapes import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel

    from cacheproxy.server.api.operations import Operation

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_ALWAYS: Final = {
    400: "The question is not understood: the message says what is wrong with it.",
    401: "A token is set, and this is not it.",
    403: "Sent by another site's page, or under a host name that is not allowed.",
    503: "The store or another part does not answer at the moment.",
}
_WITH_BODY: Final = {
    413: "The body is too large.",
    415: "The body is of another content type.",
}
_ABOUT: Final = (
    "What operators see and do: everything on the dashboard. A bearer token is asked wherever one is set. Times are "
    "seconds since the epoch, amounts of money US dollars. Every error has one shape."
)


def document(operations: Sequence[Operation] = OPERATIONS) -> dict[str, Any]:
    """The whole document, in an order that does not change."""
    schemas = _schemas(operations)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(BASE + operation.path, {})[operation.method.lower()] = _described(operation, schemas)
    asked = {each.query.__name__ for each in operations if each.query}
    return {
        "openapi": "3.1.0",
        "info": {"title": "cacheproxy admin API", "version": __version__, "description": _ABOUT},
        "servers": [{"url": "http://127.0.0.1:8091"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in sorted(schemas.items()) if name not in asked},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    models: dict[type[BaseModel], Any] = {Failure: "serialization"}
    for operation in operations:
        models |= {model: "serialization" for model in (operation.answer,) if model is not None}
        models |= {model: "validation" for model in (operation.query, operation.body) if model is not None}
    _, definitions = models_json_schema(list(models.items()), ref_template="#/components/schemas/{model}")
    return dict(definitions["$defs"])


def _described(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if parameters := [*_in_path(operation), *_in_query(operation, schemas), *_of_caching(operation)]:
        described["parameters"] = parameters
    if operation.method == "POST":
        content = {"schema": _reference(operation.body)} if operation.body else {}
        described["requestBody"] = {"required": True, "content": {operation.takes: content}}
    described["responses"] = _responses(operation)
    return described


def _in_path(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 200}}
        for name in _PARAMETER.findall(operation.path)
    ]


def _in_query(operation: Operation, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = schemas[operation.query.__name__]
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), **_parameter(member)}
        for name, member in schema.get("properties", {}).items()
    ]


def _parameter(member: dict[str, Any]) -> dict[str, Any]:
    """A member of a model as a parameter: one that may be null is one that may be left out."""
    described = {key: value for key, value in member.items() if key not in ("description", "title")}
    if choices := [choice for choice in described.pop("anyOf", ()) if choice != {"type": "null"}]:
        described |= choices[0]
        if described.get("default", ...) is None:
            del described["default"]
    told = {"schema": described}
    return {"description": member["description"], **told} if "description" in member else told


def _of_caching(operation: Operation) -> list[dict[str, Any]]:
    if not operation.cached:
        return []
    return [{"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}]


def _responses(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {operation.answers_in: {}}
    if operation.answer is not None and operation.answers_in == JSON:
        content = {JSON: {"schema": _reference(operation.answer)}}
    elif operation.answers_in == EVENTS and operation.answer is not None:
        about = "Events. The data of each is JSON: the member of this shape that is named like the event."
        told = {"type": "string", "description": about, "contentSchema": _reference(operation.answer)}
        content = {EVENTS: {"schema": told}}
    good: dict[str, Any] = {"description": "Done.", "content": content}
    responses: dict[str, Any] = {"200": good}
    if operation.cached:
        good["headers"] = {"ETag": {"schema": {"type": "string"}}}
        responses["304"] = {"description": "As it was."}
    failures = _ALWAYS | (_WITH_BODY if operation.method == "POST" else {}) | dict(operation.errors or {})
    for status, why in sorted(failures.items()):
        responses[str(status)] = {"description": why, "content": {JSON: {"schema": _reference(Failure)}}}
    return responses


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
