"""Errors of the admin plane have one shape, whoever raises them."""

from __future__ import annotations

import json
import logging

import pytest
from aiohttp import web

from cacheproxy.address import Address
from cacheproxy.errors import PortUnavailable
from cacheproxy.server.listen import admin_listener
from cacheproxy.server.refusal import Refused, one_shape, refused


def test_an_error_has_a_code_and_a_message():
    response = refused(404, "not_found", "there is none")
    assert response.status == 404
    assert json.loads(response.text) == {"error": {"code": "not_found", "message": "there is none"}}


def raising(error):
    async def handle(_request):
        raise error

    return handle


async def body_of(request):
    return web.Response(body=await request.read())


@pytest.fixture
async def base():
    app = web.Application(middlewares=[one_shape], client_max_size=10)
    app.add_routes(
        [
            web.get("/refused", raising(Refused(403, "not you"))),
            web.get("/ours", raising(PortUnavailable("the disk is full"))),
            web.get("/bug", raising(RuntimeError("sk-secret"))),
            web.get("/elsewhere", raising(web.HTTPFound("/other"))),
            web.post("/body", body_of),
        ]
    )
    async with admin_listener(app, Address("127.0.0.1", 0)) as address:
        yield f"http://{address}"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/refused", 403, "forbidden"),
        ("GET", "/ours", 503, "cacheproxy_port_unavailable"),
        ("GET", "/bug", 500, "internal_error"),
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/refused", 405, "method_not_allowed"),
        ("POST", "/body", 413, "too_large"),
    ],
)
async def test_every_error_has_the_shape(session, base, method, path, status, code):
    async with session.request(method, base + path, data=b"x" * 100 if method == "POST" else None) as response:
        told = await response.json()
    assert response.status == status
    assert told["error"].keys() == {"code", "message"}
    assert told["error"]["code"] == code


async def test_a_fault_of_ours_is_logged_and_its_text_stays_here(session, base, caplog):
    with caplog.at_level(logging.ERROR):
        async with session.get(f"{base}/bug") as response:
            assert "sk-secret" not in await response.text()
    assert "GET /bug failed" in caplog.text


async def test_what_may_be_done_is_told_with_a_405(session, base):
    async with session.delete(f"{base}/refused") as response:
        assert response.headers["Allow"] == "GET,HEAD".replace(",", ", ")


async def test_a_redirection_is_no_error(session, base):
    async with session.get(f"{base}/elsewhere", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "/other")


@pytest.mark.parametrize(
    "request_head",
    [b"GET / HTTP/1.1\r\nAuthorization : Bearer sk-secret\r\n\r\n", b"\x16\x03\x01 sk-secret\r\n\r\n"],
    ids=["a blank before a colon", "no HTTP"],
)
async def test_what_is_not_http_is_refused_in_the_shape_too(talk, base, request_head):
    head, _, body = (await talk(base, request_head)).partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].endswith(b"400 Bad Request")
    assert json.loads(body)["error"]["code"] == "bad_request"
    assert b"sk-secret" not in body
