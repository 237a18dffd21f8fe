"""The dashboard's files: served as what they are, kept for good, without a token, under a strict policy."""

from __future__ import annotations

import gzip
import posixpath
import re
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from cacheproxy.address import Address
from cacheproxy.server.dashboard import serving
from cacheproxy.server.dashboard.serving import Charts, Dashboard
from cacheproxy.server.listen import admin_listener


@asynccontextmanager
async def opened():
    app = web.Application()
    app.add_routes(Dashboard().routes())
    async with (
        admin_listener(app, Address("127.0.0.1", 0)) as address,
        aiohttp.ClientSession(f"http://{address}", auto_decompress=False) as session,
    ):
        yield session


@pytest.fixture
async def served():
    """``served(path, headers)``: the response to a GET, with its body."""
    async with opened() as session:

        async def get(path, **headers):
            async with session.get(path, headers=headers) as response:
                return response, await response.read()

        yield get


def addresses(page):
    """Everything of ours that the first page loads."""
    return re.findall(r'(?:href|src)="(/dashboard/[^"]+)"', page.decode())


def script_of(page):
    (path,) = re.findall(r'name="cacheproxy-charts" content="([^"]*)"', page.decode())
    return path


async def test_everything_that_the_first_page_names_is_there(served):
    response, page = await served("/")
    assert response.content_type == "text/html"
    assert b"{{" not in page
    named = addresses(page)
    assert len(named) > 4
    for path in named:
        assert (await served(path))[0].status == 200, path


async def test_every_module_that_a_module_imports_is_there(served):
    _, page = await served("/")
    waiting = [path for path in addresses(page) if path.endswith("app.js")]
    waiting += [waiting[0].replace("app.js", f"pages/{name}.js") for name in ("overview", "economics", "decision")]
    waiting += [waiting[0].replace("app.js", f"pages/{name}.js") for name in ("entries", "entry", "live", "health")]
    seen = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        response, source = await served(path)
        assert (response.status, response.content_type) == (200, "text/javascript"), path
        waiting += [
            posixpath.normpath(f"{path}/../{name}") for name in re.findall(r'from "(\.[^"]+)"', source.decode())
        ]
    assert len(seen) > 15


async def test_files_are_kept_for_good_and_the_first_page_is_asked_for_again(served):
    response, page = await served("/")
    assert response.headers["Cache-Control"] == "no-cache"
    for path in [*addresses(page), script_of(page)]:
        assert "immutable" in (await served(path))[0].headers["Cache-Control"], path


async def test_a_page_of_an_earlier_release_gets_files_that_it_does_not_keep(served):
    response, _ = await served("/dashboard/0123456789abcdef/app.js")
    assert response.status == 200
    assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ["nothing.js", "../serving.py", "..%2Fserving.py", "lib/", "__init__.py"])
async def test_nothing_else_is_served(served, name):
    assert (await served(f"/dashboard/0123456789abcdef/{name}"))[0].status == 404


@pytest.mark.parametrize("what", ["page", "file", "charts"])
async def test_what_is_served_runs_only_what_the_proxy_serves(served, what):
    _, page = await served("/")
    path = {"page": "/", "file": addresses(page)[0], "charts": script_of(page)}[what]
    headers = (await served(path))[0].headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


async def test_no_script_and_no_style_stands_in_the_page(served):
    _, page = await served("/")
    assert not re.search(rb"<script(?![^>]* src=)|<style|\son\w+=|style=|javascript:", page)


def test_no_module_parses_a_string_as_html():
    folder = Path(serving.__file__).parent / "static"
    for file in folder.rglob("*.js"):
        text = file.read_text(encoding="utf-8")
        found = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\b", text)
        assert not found, f"{file.name}: {found}"


async def test_the_charts_come_packed_from_the_installed_package(served):
    _, page = await served("/")
    installed = (Path(find_spec("plotly").origin).parent / "package_data" / "plotly.min.js").read_bytes()

    packed, body = await served(script_of(page), **{"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.content_type == "text/javascript"
    assert gzip.decompress(body) == installed
    assert len(body) < len(installed) / 2

    plain, body = await served(script_of(page), **{"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert body == installed


async def test_styles_that_the_charts_would_add_are_kept_out(served):
    _, page = await served("/")
    assert re.search(rb'<link [^>]*id="plotly.js-style-global" class="no-inline-styles"', page)
    assert len(Charts().style_ids) == page.count(b'name="kept-out"') == 1


async def test_without_plotly_the_page_names_no_script_for_charts(monkeypatch, served):
    monkeypatch.setattr(serving, "_plotly_file", lambda: None)
    async with opened() as session, session.get("/") as response:
        assert script_of(await response.read()) == ""
