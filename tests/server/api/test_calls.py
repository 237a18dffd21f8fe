"""What all operations have in common: how they are asked, and how they answer."""

from __future__ import annotations

import io

import pytest

from cacheproxy.server.api.calls import routes, written
from cacheproxy.server.api.operations import BASE, OPERATIONS
from cacheproxy.server.api.shapes import Failure, Problem

POSTS = [operation for operation in OPERATIONS if operation.method == "POST"]
PLAIN = [operation for operation in OPERATIONS if operation.method == "GET" and operation.query is None]


def test_an_operation_without_a_handler_is_a_mistake():
    with pytest.raises(KeyError):
        routes({})


def test_there_is_a_route_for_each_operation():
    found = routes({operation.name: None for operation in OPERATIONS})
    assert [(route.method, route.path) for route in found] == [(each.method, BASE + each.path) for each in OPERATIONS]


@pytest.mark.parametrize("operation", POSTS, ids=lambda operation: operation.name)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_what_a_form_of_another_site_can_send_is_refused(panel, operation, kind):
    path = operation.path.replace("{id}", "x")
    status, told = await panel.call("POST", path, data=b'{"entry": "x"}', headers={"Content-Type": kind})
    assert (status, told["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"5", b"\xff", b"[" * 50_000], ids=["cut", "list", "number", "latin", "deep"]
)
async def test_what_is_no_json_object_is_told(panel, body):
    status, told = await panel.call("POST", "/feedback", data=body, headers={"Content-Type": "application/json"})
    assert status == 400
    assert "JSON" in told["error"]["message"]


async def test_a_body_that_is_too_large_is_refused(panel):
    body, headers = io.BytesIO(b" " * 2_000_000), {"Content-Type": "application/json"}
    status, told = await panel.call("POST", "/feedback", data=body, headers=headers)
    assert (status, told["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize("operation", PLAIN, ids=lambda operation: operation.name)
async def test_a_parameter_where_none_is_taken_is_told(panel, operation):
    status, told = await panel.get(operation.path.replace("{id}", "x") + "?colour=red")
    assert status == 400
    assert "'colour'" in told["error"]["message"]


async def test_a_misspelt_member_is_told_with_those_that_there_are(panel):
    status, told = await panel.post("/purge", {"tags": "a"})
    assert status == 400
    assert "'tags'" in told["error"]["message"]
    assert "tag" in told["error"]["message"]


@pytest.mark.parametrize("path", ["/settings", "/openapi.json"])
async def test_what_has_not_changed_is_not_sent_again(panel, path):
    await panel.told(path)
    tag = panel.headers["ETag"]
    assert await panel.get(path, **{"If-None-Match": tag}) == (304, None)
    assert panel.headers["ETag"] == tag
    assert (await panel.get(path, **{"If-None-Match": '"other"'}))[0] == 200
    assert (await panel.get(path, **{"If-None-Match": f'"other", W/{tag}'}))[0] == 304


async def test_an_id_that_is_too_long_is_refused(panel):
    assert (await panel.get(f"/entries/{'x' * 201}"))[0] == 400


def test_lone_surrogates_are_written_as_escapes():
    text = written(Failure(error=Problem(code="x", message="\ud800")))
    assert text == b'{"error":{"code":"x","message":"\\ud800"}}'


@pytest.mark.parametrize("path", ["/nowhere", "/entries/a/b"])
async def test_what_is_not_there_is_a_404_in_the_shape(panel, path):
    status, told = await panel.get(path)
    assert (status, told["error"]["code"]) == (404, "not_found")
