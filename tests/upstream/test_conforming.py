from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from cacheproxy.upstream.conforming import conforming


class Person(BaseModel):
    name: str = Field(min_length=3, max_length=12)
    age: int = Field(ge=18, le=99)
    mood: Literal["calm", "wild"]
    score: float = Field(gt=0, lt=1, multiple_of=0.25)
    tags: list[str] = Field(min_length=2, max_length=3)
    friend: Person | None = None
    friends: list[Person] = []


def test_a_pydantic_model_reads_what_its_own_schema_gave():
    value = conforming(Person.model_json_schema(), "Ada Lovelace of London")
    person = Person.model_validate(value)
    assert person.name == "Ada Lovelace"
    assert person.friend is not None


CASES = {
    "const": ({"const": 7}, 7),
    "enum": ({"type": "string", "enum": ["b", "a"]}, "b"),
    "a format": ({"type": "string", "format": "date"}, "2024-02-29"),
    "padded to its least length": ({"type": "string", "minLength": 6}, "text.."),
    "boolean": ({"type": "boolean"}, True),
    "null": ({"type": "null"}, None),
    "nullable": ({"type": ["null", "string"]}, "text"),
    "anyOf": ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
    "oneOf": ({"oneOf": [{"const": "x"}]}, "x"),
    "allOf": (
        {
            "allOf": [{"properties": {"a": {"const": 1}}}, {"$ref": "#/$defs/b"}],
            "$defs": {"b": {"properties": {"b": {"const": 2}}}},
        },
        {"a": 1, "b": 2},
    ),
    "at most": ({"type": "integer", "maximum": -3}, -3),
    "above": ({"type": "integer", "exclusiveMinimum": 4}, 5),
    "below": ({"type": "integer", "exclusiveMaximum": 0}, -1),
    "a multiple": ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
    "an empty list at most": ({"type": "array", "maxItems": 0}, []),
    "properties without a type": ({"properties": {"a": {"type": "string"}}}, {"a": "text"}),
    "items without a type": ({"items": {"const": 1}}, [1]),
    "an object of any kind": ({"type": "object"}, {}),
    "anything": (True, "text"),
    "nothing known": ({}, "text"),
    "a reference to nowhere": ({"$ref": "#/$defs/none"}, "text"),
    "an escaped reference": ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 3}}}, 3),
}


@pytest.mark.parametrize(("schema", "value"), CASES.values(), ids=CASES)
def test_the_value_is_the_simplest_that_conforms(schema, value):
    assert conforming(schema, "text") == value


def test_a_recursive_schema_ends():
    schema = {
        "$ref": "#/$defs/tree",
        "$defs": {
            "tree": {
                "type": "object",
                "required": ["left", "kids"],
                "properties": {
                    "left": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
                    "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
                    "note": {"type": "string"},
                },
            }
        },
    }
    value = conforming(schema, "x")
    assert "'left': None" in str(value)


def test_a_schema_that_demands_itself_without_end_is_cut():
    assert conforming({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}}, "x")["a"]


@pytest.mark.parametrize(
    "kind", [int, float, bool, str, list[int], dict[str, int], tuple[int, str], int | str], ids=str
)
def test_schemas_of_python_types_are_met(kind):
    adapter = TypeAdapter(kind)
    schema = adapter.json_schema()
    schema.pop("prefixItems", None)
    value = conforming(schema, "text")
    if kind != tuple[int, str]:
        adapter.validate_python(value)
