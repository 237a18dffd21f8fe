"""Pages of other sites get nothing out of the admin plane and nothing done by it; programs and our own pages do."""

from __future__ import annotations

import pytest
from aiohttp import web

from cacheproxy.address import Address
from cacheproxy.server.api.gate import gate
from cacheproxy.server.listen import admin_listener
from cacheproxy.server.refusal import one_shape


async def fine(_request):
    return web.json_response({})


@pytest.fixture
async def ask(session):
    """``ask(method, headers, **gate)``: the status. ``{own}`` in a header stands for the plane's own address."""

    async def request(method, headers, path="/x", **rules):
        app = web.Application(middlewares=[one_shape, gate(**{"token": None, **rules})])
        app.router.add_route("*", "/{path:.*}", fine)
        async with admin_listener(app, Address("127.0.0.1", 0)) as address:
            own = {name: value.replace("{own}", str(address)) for name, value in headers.items()}
            async with session.request(method, f"http://{address}{path}", headers=own) as response:
                return response.status

    return request


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8091", "127.8.9.1:1", "localhost", "LOCALHOST:8091", "[::1]:8091", "dash.localhost:8091"],
)
async def test_loopback_is_known_by_each_of_its_names(ask, host):
    assert await ask("GET", {"Host": host}) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8091", "10.0.0.5", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::2]"],
)
async def test_a_host_name_that_was_made_to_lead_here_is_refused(ask, host):
    assert await ask("GET", {"Host": host}) == 403


async def test_a_name_that_the_operator_gave_is_known(ask):
    assert await ask("GET", {"Host": "Cache.internal:80"}, hosts=["cache.internal"]) == 200


PAGES = [
    pytest.param({"Origin": "https://evil.example"}, id="of another origin"),
    pytest.param({"Origin": "null"}, id="without an origin"),
    pytest.param({"Origin": "http://localhost:3000"}, id="of another server on this machine"),
    pytest.param({"Sec-Fetch-Site": "cross-site"}, id="of another site"),
    pytest.param({"Sec-Fetch-Site": "same-site"}, id="of another server on this site"),
    pytest.param({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, id="a form of another site"),
]


@pytest.mark.parametrize("headers", PAGES)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_foreign_page_changes_nothing(ask, method, headers):
    assert await ask(method, headers) == 403


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}])
async def test_a_foreign_page_cannot_hold_streams_open(ask, headers):
    assert await ask("GET", headers) == 403


async def test_a_link_from_elsewhere_leads_here(ask):
    assert await ask("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}) == 200


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://{own}", "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_programs_and_our_own_pages_do_everything(ask, method, headers):
    assert await ask(method, headers) == 200


async def test_whoever_has_the_token_is_asked_nothing_else(ask):
    headers = {"Authorization": "Bearer s3cret", "Host": "cache.example", "Origin": "https://ops.example"}
    assert await ask("POST", headers, token="s3cret") == 200


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Bearer s3cret\xff"}])
async def test_without_the_token_there_is_nothing(ask, given):
    assert await ask("GET", given, token="s3cret") == 401


async def test_paths_may_be_open_without_the_token(ask):
    assert await ask("GET", {}, token="s3cret", open_paths=["/x"]) == 200
    assert await ask("GET", {}, token="s3cret", open_paths=["/y"]) == 401
