"""Entries go out and come in while the proxy runs."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from cacheproxy.server.api import transfers
from cacheproxy.server.refusal import Refused

ASKED = "Please tell me what a reverse proxy does"
LINES = {"Content-Type": "application/x-ndjson"}


async def exported(panel, query=""):
    async with panel.session.get(f"{panel.url}/api/v1/export{query}") as response:
        assert (response.status, response.content_type) == (200, "application/x-ndjson")
        return await response.read()


async def test_what_was_exported_is_served_again_after_an_import(panel):
    await panel.ask(ASKED)
    text = await exported(panel)
    await panel.post("/purge", {"everything": True, "dry_run": False})
    status, told = await panel.call("POST", "/import", data=text, headers=LINES)
    assert (status, told) == (200, {"entries": 1, "expired": 0, "embedded": 1, "to_embed": 0})
    assert (await panel.ask(ASKED))["X-CacheProxy-Layer"] == "exact"
    assert (await panel.ask(f"{ASKED} please"))["X-CacheProxy-Layer"] == "semantic"


async def test_many_entries_are_embedded_at_an_import(panel):
    for number in range(transfers._EMBEDDED_AT_ONCE + 3):
        await panel.ask(f"Question {number}")
    text = await exported(panel)
    await panel.post("/purge", {"everything": True, "dry_run": False})
    _, told = await panel.call("POST", "/import", data=text, headers=LINES)
    assert told["embedded"] == len(panel.index) == transfers._EMBEDDED_AT_ONCE + 3


async def test_without_a_model_an_import_says_what_is_still_to_be_embedded(panels):
    panel = await panels(embedder=False)
    await panel.ask(ASKED)
    _, told = await panel.call("POST", "/import", data=await exported(panel), headers=LINES)
    assert (told["embedded"], told["to_embed"]) == (0, 1)


async def test_an_export_takes_the_conditions_of_a_list(panel):
    await panel.ask(ASKED, headers={"X-CacheProxy-Tags": "docs"})
    await panel.ask("Something else")
    lines = (await exported(panel, "?tag=docs")).splitlines()
    assert [json.loads(line).get("prompt") for line in lines] == [None, ASKED]


@pytest.mark.parametrize("body", [b"", b"{}\n", b"no JSON"])
async def test_what_is_no_export_is_refused(panel, body):
    status, told = await panel.call("POST", "/import", data=body, headers=LINES)
    assert (status, told["error"]["code"]) == (400, "cacheproxy_bad_request")
    assert "line 1" in told["error"]["message"]


async def test_an_expired_entry_is_left_out(panel):
    await panel.ask(ASKED)
    text = await exported(panel)
    panel.clock.now += 100_000
    _, told = await panel.call("POST", "/import", data=text, headers=LINES)
    assert (told["entries"], told["expired"]) == (0, 1)


async def fed(*chunks):
    reader = StreamReader(BaseProtocol(asyncio.get_running_loop()), 1 << 16, loop=asyncio.get_running_loop())
    for chunk in chunks:
        reader.feed_data(chunk)
    reader.feed_eof()
    return [line async for line in transfers.lines_of(reader)]


async def test_lines_are_found_wherever_the_body_was_cut():
    assert await fed(b"ab", b"c\nd", b"\n", b"ef") == [b"abc", b"d", b"ef"]


async def test_a_line_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(transfers, "LONGEST_LINE", 10)
    with pytest.raises(Refused):
        await fed(b"x" * 11)
