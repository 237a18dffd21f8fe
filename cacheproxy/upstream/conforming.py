"""A small value that conforms to a JSON schema, for the simulated model's structured answers and tool arguments.

Covers what the providers' strict modes allow: types and unions of them, ``properties``, ``items``, ``enum``,
``const``, ``anyOf``/``oneOf``/``allOf``, ``$ref`` inside the schema, and the bounds of numbers, lengths and lists.
``pattern`` is not solved. Recursive schemas end as early as they may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cacheproxy.jsontext import Json, JsonObject

_DEEP: Final = 4
"""From this depth on only what must be there is given, and ``null`` or an empty list wherever they may stand."""
_BOTTOM: Final = 24
"""A schema that requires itself without end is cut here."""

_FORMATS: Final[Mapping[str, str]] = {
    "date": "2024-02-29",
    "date-time": "2024-02-29T12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def conforming(schema: Json, text: str) -> Json:
    """A value for ``schema``; strings without a format of their own become ``text``."""
    return _value(schema, _Task(schema, text), 0)


@dataclass(frozen=True, slots=True)
class _Task:
    root: Json
    text: str


def _value(schema: Json, task: _Task, depth: int) -> Json:
    if not isinstance(schema, dict) or depth > _BOTTOM:
        return task.text if schema is True else None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    simpler = _simpler(schema, task.root, depth)
    if simpler is not None:
        return _value(simpler, task, depth + 1)
    write = _WRITERS.get(_type(schema, depth))
    return None if write is None else write(schema, task, depth)


def _simpler(schema: JsonObject, root: Json, depth: int) -> Json | None:
    """What a reference or a combination comes down to; None for a schema that is neither."""
    if isinstance(reference := schema.get("$ref"), str):
        return _resolved(reference, root)
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        return _branch(branches, depth)
    if parts := schema.get("allOf"):
        return _merged(schema, parts, root)
    return None


def _type(schema: JsonObject, depth: int) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = "null" if depth >= _DEEP and "null" in kind else next((name for name in kind if name != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind)


def _object(schema: JsonObject, task: _Task, depth: int) -> JsonObject:
    properties = schema.get("properties") or {}
    names = schema.get("required", []) if depth >= _DEEP else properties
    return {name: _value(properties[name], task, depth + 1) for name in names if name in properties}


def _array(schema: JsonObject, task: _Task, depth: int) -> list[Json]:
    least = schema.get("minItems", 0)
    count = least if depth >= _DEEP else max(1, least)
    return [_value(schema.get("items", True), task, depth + 1)] * min(count, schema.get("maxItems", count))


def _string(schema: JsonObject, task: _Task, _depth: int) -> str:
    if (value := _FORMATS.get(schema.get("format", ""))) is not None:
        return value
    return task.text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]


def _number(schema: JsonObject, _task: _Task, _depth: int) -> Json:
    step = schema.get("multipleOf", 1)
    low, high = schema.get("minimum"), schema.get("maximum")
    if (above := schema.get("exclusiveMinimum")) is not None:
        low = above + step
    if (below := schema.get("exclusiveMaximum")) is not None:
        high = below - step
    if low is not None:
        return -(-low // step) * step  # the first multiple that is not below
    return step if high is None or high >= step else high // step * step


def _true(_schema: JsonObject, _task: _Task, _depth: int) -> bool:
    return True


_WRITERS: Final[Mapping[str, Callable[[JsonObject, _Task, int], Json]]] = {
    "array": _array,
    "boolean": _true,
    "integer": _number,
    "number": _number,
    "object": _object,
    "string": _string,
}
"""How a value of each type is written; ``null`` needs no writing."""


def _branch(branches: list[Json], depth: int) -> Json:
    nulls = [branch for branch in branches if isinstance(branch, dict) and branch.get("type") == "null"]
    if depth >= _DEEP and nulls:
        return nulls[0]
    return next((branch for branch in branches if branch not in nulls), branches[0])


def _merged(schema: JsonObject, parts: list[Json], root: Json) -> JsonObject:
    whole = {key: value for key, value in schema.items() if key != "allOf"}
    for part in parts:
        resolved = _resolved(part["$ref"], root) if isinstance(part, dict) and "$ref" in part else part
        if not isinstance(resolved, dict):
            continue
        properties = {**whole.get("properties", {}), **resolved.get("properties", {})}
        required = [*whole.get("required", []), *resolved.get("required", [])]
        whole = {**whole, **resolved}
        if properties:
            whole |= {"properties": properties, "required": required}
    return whole


def _resolved(reference: str, root: Json) -> Json:
    """What a reference inside the schema points to (RFC 6901); anything goes where it points nowhere."""
    found = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            return True
        found = found[name]
    return found
