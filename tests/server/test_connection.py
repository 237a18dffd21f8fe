"""What is not HTTP is answered as an error, and neither logged nor sent back: it may hold a key."""

import json
import logging

import pytest
from aiohttp import web

from cacheproxy.address import Address
from cacheproxy.flow.messages import Whole
from cacheproxy.server.listen import admin_listener

UNREADABLE = [
    pytest.param(b"Authorization: Bearer sk-se\x01cret\r\n\r\n", id="a control character in a header"),
    pytest.param(b"Authorization : Bearer sk-secret\r\n\r\n", id="a blank before a colon"),
    pytest.param(b"Authorization: Bearer " + b"sk-se" * 20_000 + b"\r\n\r\n", id="a header over the limit"),
    pytest.param(b"Transfer-Encoding: chunked\r\n\r\nsk-secret\r\n", id="no chunk"),
]


async def answer(_incoming):
    return Whole(200, [], b"ok")


@pytest.mark.parametrize("rest", UNREADABLE)
async def test_a_key_in_a_malformed_request_was_logged_and_echoed(serve, talk, caplog, rest):
    base, flow = await serve(answer)
    with caplog.at_level(logging.DEBUG):
        told = await talk(base, b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n" + rest)
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].endswith(b"400 Bad Request")
    assert json.loads(body)["error"]["code"] == "cacheproxy_bad_request"
    assert b"sk-se" not in told
    assert "sk-se" not in caplog.text
    assert "not readable as HTTP" in caplog.text
    assert not flow.incoming


async def test_the_admin_plane_does_not_log_it_either(talk, caplog):
    async with admin_listener(web.Application(), Address("127.0.0.1", 0)) as address:
        with caplog.at_level(logging.DEBUG):
            await talk(f"http://{address}", b"GET / HTTP/1.1\r\nAuthorization : Bearer sk-secret\r\n\r\n")
    assert "not readable as HTTP" in caplog.text
    assert "sk-secret" not in caplog.text


async def test_a_failure_while_a_reply_is_written_is_logged_in_full(serve, talk, caplog):
    async def bad_header(_incoming):
        return Whole(200, [("X-Bad", "a\nb")], b"")

    base, _ = await serve(bad_header)
    await talk(base, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "a header value with a line break: X-Bad" in caplog.text
