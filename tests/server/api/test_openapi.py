"""The OpenAPI document says what there is, and docs/openapi.json is what it says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from cacheproxy.server.api.openapi import document
from cacheproxy.server.api.operations import BASE, OPERATIONS

DOCS = Path(__file__).parents[3] / "docs"
FILE = DOCS / "openapi.json"
GUIDE = (DOCS / "api.md").read_text(encoding="utf-8")


def test_the_file_in_the_docs_is_up_to_date():
    fresh = json.dumps(document(), indent=2, ensure_ascii=False) + "\n"
    if "CACHEPROXY_TEST_WRITE_DOCS" in os.environ:
        FILE.write_text(fresh, encoding="utf-8")
    assert FILE.read_text(encoding="utf-8") == fresh, "run it again with CACHEPROXY_TEST_WRITE_DOCS=1"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_is_described(operation):
    described = document()["paths"][BASE + operation.path][operation.method.lower()]
    assert described["operationId"] == operation.name
    assert {"200", "400", "401", "403", "503"} <= described["responses"].keys()
    assert ("304" in described["responses"]) == operation.cached
    assert ("requestBody" in described) == (operation.method == "POST")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_is_shown_with_curl(operation):
    place = re.escape(BASE + operation.path).replace(r"\{id\}", r"[0-9a-f]{23}")
    shown = [block for block in re.findall(r"curl (?:\\\n|[^\n])+", GUIDE) if re.search(rf"{place}(?![\w/-])", block)]
    assert shown or operation.name == "openapi"


def test_whatever_is_referred_to_is_there():
    told = document()
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(told)))
    assert references == told["components"]["schemas"].keys()


def test_what_may_be_null_in_a_query_is_what_may_be_left_out():
    (since, *_) = document()["paths"]["/api/v1/overview"]["get"]["parameters"]
    assert since["name"] == "since"
    assert since["schema"] == {"type": "number", "minimum": 0, "maximum": 253_402_300_799}


def test_every_error_has_the_one_shape():
    for path in document()["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Failure"}
