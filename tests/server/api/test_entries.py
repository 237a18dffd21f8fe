"""Entries are found, shown whole, pinned, ended and removed, everywhere at once."""

from __future__ import annotations

import asyncio
import math

import pytest
from support.judging import ScriptedJudge, same
from support.waiting import until

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.errors import TurnTooLong
from cacheproxy.server.api import entries as page

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED} please"
OTHER = "How tall is the Eiffel Tower?"


@pytest.fixture
async def filled(panel):
    await panel.ask(ASKED, headers={"X-CacheProxy-Tags": "docs"})
    await panel.ask(OTHER, model="gpt-4o", headers={"X-CacheProxy-Namespace": "towers"})
    return panel


async def prompts(panel, **query):
    return [entry["prompt"] for entry in await panel.entries(**query)]


async def id_of(panel, prompt):
    (entry,) = [entry for entry in await panel.entries() if entry["prompt"] == prompt]
    return entry["id"]


async def test_an_entry_is_listed_with_what_it_is_and_how_it_was_used(filled):
    await filled.ask(ASKED)
    (entry,) = await filled.entries(tag="docs")
    assert (entry["prompt"], entry["model"], entry["tags"]) == (ASKED, "gpt-4o-mini-2024-07-18", ["docs"])
    assert (entry["hits"], entry["last_used"]) == (1, filled.clock.now)
    assert entry["saved_usd"] == entry["cost_usd"] > 0
    assert (entry["pinned"], entry["expired"], entry["suspended"], entry["semantic"]) == (False, False, False, True)
    assert entry["similarity"] is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [ASKED, OTHER]),
        ({"text": "EIFFEL"}, [OTHER]),
        ({"text": "eiffel", "tag": "docs"}, []),
        ({"tag": "docs"}, [ASKED]),
        ({"namespace": "towers"}, [OTHER]),
        ({"namespace": ""}, [ASKED]),
        ({"model": "gpt-4o-mini-2024-07-18", "namespace": "towers"}, [OTHER]),
        ({"tenant": "nobody"}, []),
        ({"scope": "0" * 64}, []),
        ({"older_than": "5"}, []),
    ],
)
async def test_entries_are_found_by_conditions(filled, query, found):
    assert await prompts(filled, **query) == found


async def test_a_long_list_comes_page_by_page(panel):
    for number in range(5):
        await panel.ask(f"Question {number}")
    first = await panel.told("/entries?limit=2")
    second = await panel.told(f"/entries?limit=2&after={first['next']}")
    third = await panel.told(f"/entries?limit=2&after={second['next']}")
    listed = [entry["prompt"] for told in (first, second, third) for entry in told["entries"]]
    assert listed == [f"Question {number}" for number in range(5)]
    assert (third["next"], third["stored"]) == (None, 5)


async def test_entries_are_found_by_meaning_the_nearest_first(filled):
    await filled.ask(SIMILAR, model="gpt-4")
    found = await filled.entries(meaning=ASKED, limit=2)
    assert [entry["prompt"] for entry in found] == [ASKED, SIMILAR]
    assert [entry["similarity"] for entry in found] == [pytest.approx(1, abs=1e-3), pytest.approx(0.9, abs=0.1)]


async def test_meaning_and_conditions_hold_together(filled):
    assert await prompts(filled, meaning=ASKED, namespace="towers") == [OTHER]
    assert await prompts(filled, meaning=ASKED, tag="nothing") == []


async def test_a_search_by_meaning_keeps_the_best_of_many(panel):
    for number in range(40):
        await panel.ask(f"Question number {number}")
    vector = await HashedEmbedder().embed("Question number 7")
    found = await page.nearest(panel.store, vector, 3)
    everything = await page.nearest(panel.store, vector, 100)
    assert len(everything) == 40
    assert list(found) == list(everything)[:3]
    assert list(found.values()) == sorted(everything.values(), reverse=True)[:3]


async def test_a_meaning_that_the_model_cannot_read_whole_is_told(panels):
    class Short(HashedEmbedder):
        async def embed(self, text):
            raise TurnTooLong("over 256 tokens")

    panel = await panels(embedder=Short())
    status, told = await panel.get("/entries?meaning=x")
    assert (status, told["error"]["code"]) == (400, "cacheproxy_turn_too_long")


async def test_without_a_model_nothing_is_found_by_meaning(panels):
    panel = await panels(embedder=False)
    assert (await panel.get("/entries?meaning=x"))[0] == 503
    assert (await panel.get("/entries?text=x"))[0] == 200


async def test_a_search_that_takes_too_long_ends(panel, monkeypatch):
    monkeypatch.setattr(page, "SEARCH_S", 0.0)
    assert (await panel.get("/entries?meaning=x"))[0] == 503


class Held(HashedEmbedder):
    """An embedder that keeps whoever asks until it is let go."""

    def __init__(self):
        super().__init__()
        self.asked = 0
        self.go = asyncio.Event()

    async def embed(self, text):
        self.asked += 1
        await self.go.wait()
        return await super().embed(text)


async def test_a_second_search_at_the_same_moment_waits_its_turn(panels):
    """It was refused, to whoever typed on in the dashboard."""
    held = Held()
    panel = await panels(embedder=held)
    first = asyncio.ensure_future(panel.get("/entries?meaning=x"))
    await until(lambda: held.asked)
    second = asyncio.ensure_future(panel.get("/entries?meaning=y"))
    await panel.get("/entries?text=x")
    assert held.asked == 1
    held.go.set()
    assert [(await each)[0] for each in (first, second)] == [200, 200]


async def test_a_search_waits_for_others_only_so_long(panels, monkeypatch):
    monkeypatch.setattr(page, "TURN_S", 0.01)
    held = Held()
    panel = await panels(embedder=held)
    first = asyncio.ensure_future(panel.get("/entries?meaning=x"))
    await until(lambda: held.asked)
    assert (await panel.get("/entries?meaning=y"))[0] == 503
    held.go.set()
    assert (await first)[0] == 200
    assert (await panel.get("/entries?meaning=y"))[0] == 200


async def test_an_entry_is_shown_whole(filled):
    told = await filled.told(f"/entries/{await id_of(filled, ASKED)}")
    assert told["answer_text"] == f"Answer to {ASKED}"
    assert told["answer"]["choices"][0]["message"]["content"] == f"Answer to {ASKED}"
    assert told["usage"] == {
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "estimated": False,
    }
    assert (told["root"], told["aliases"]) == (told["id"], [])
    assert told["verdicts"] == {"suspended": False, "note": "", "right": 0, "wrong": 0, "blocked_pairs": 0}


async def test_an_entry_tells_the_questions_that_share_its_answer(panels):
    panel = await panels(policy="certified", judge=ScriptedJudge(same))
    await panel.ask(ASKED)
    await panel.ask("Pray tell what reverse proxies do")
    told = await panel.told(f"/entries/{await id_of(panel, ASKED)}")
    assert [alias["prompt"] for alias in told["aliases"]] == ["Pray tell what reverse proxies do"]
    assert (told["verdicts"]["right"], told["verdicts"]["wrong"]) == (1, 0)
    alias = await panel.told(f"/entries/{told['aliases'][0]['id']}")
    assert (alias["root"], alias["aliases"][0]["prompt"]) == (told["id"], ASKED)


async def test_an_entry_tells_why_it_was_withdrawn(filled):
    entry = await id_of(filled, ASKED)
    await filled.post("/feedback", {"entry": entry, "verdict": "wrong", "note": "outdated"})
    verdicts = (await filled.told(f"/entries/{entry}"))["verdicts"]
    assert (verdicts["suspended"], verdicts["note"]) == (True, "outdated")
    assert [each["suspended"] for each in await filled.entries(tag="docs")] == [True]


async def test_an_entry_that_has_not_changed_is_not_sent_again(filled):
    path = f"/entries/{await id_of(filled, ASKED)}"
    await filled.told(path)
    assert (await filled.get(path, **{"If-None-Match": filled.headers["ETag"]}))[0] == 304


async def test_a_removed_entry_is_gone_everywhere(filled):
    entry = await id_of(filled, ASKED)
    assert await filled.delete(f"/entries/{entry}") == (200, {"removed": 1})
    assert (len(filled.index), await filled.store.count()) == (1, 1)
    assert (await filled.ask(ASKED))["X-Cache-Status"] == "Miss"
    assert (await filled.delete(f"/entries/{entry}"))[0] == 404


async def test_a_pinned_entry_does_not_expire(filled):
    entry = await id_of(filled, ASKED)
    pinned = {"entry": entry, "expires_at": None, "pinned": True}
    assert await filled.post(f"/entries/{entry}/expiry", {"at": None}) == (200, pinned)
    assert (await filled.store.load([entry]))[0].expires_at == math.inf
    (told,) = await filled.entries(tag="docs")
    assert (told["pinned"], told["expires_at"]) == (True, None)
    assert (await filled.ask(ASKED))["X-Cache-Status"] == "Hit"


async def test_an_entry_that_is_ended_is_served_no_more(filled):
    entry = await id_of(filled, ASKED)
    await filled.post(f"/entries/{entry}/expiry", {"at": 0})
    assert [each["expired"] for each in await filled.entries(tag="docs")] == [True]
    assert (await filled.ask(ASKED))["X-Cache-Status"] == "Miss"


@pytest.mark.parametrize("body", [{}, {"at": "soon"}, {"at": -1}, {"at": 1e300}, {"at": None, "pin": True}])
async def test_a_time_that_is_none_is_told(filled, body):
    assert (await filled.post(f"/entries/{await id_of(filled, ASKED)}/expiry", body))[0] == 400


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/expiry")])
async def test_an_entry_that_there_is_not_is_a_404(panel, method, path):
    body = {"json": {"at": None}} if method == "POST" else {}
    status, told = await panel.call(method, f"/entries/unknown{path}", **body)
    assert (status, told["error"]["code"]) == (404, "cacheproxy_unknown_entry")


async def test_a_purge_tells_first_what_would_go(filled):
    status, told = await filled.post("/purge", {"text": "eiffel"})
    assert (status, told["dry_run"], told["selected"], told["removed"]) == (200, True, 1, 0)
    assert [entry["prompt"] for entry in told["sample"]] == [OTHER]
    assert await filled.store.count() == 2


async def test_a_purge_removes_what_is_selected_and_nothing_else(filled):
    _, told = await filled.post("/purge", {"namespace": "towers", "dry_run": False})
    assert (told["selected"], told["removed"]) == (1, 1)
    assert await prompts(filled) == [ASKED]
    assert len(filled.index) == 1


async def test_entries_are_purged_by_id(filled):
    entry = await id_of(filled, OTHER)
    _, told = await filled.post("/purge", {"ids": [entry], "dry_run": False})
    assert told["removed"] == 1
    assert await prompts(filled) == [ASKED]


async def test_everything_goes_only_when_that_is_said(filled):
    assert (await filled.post("/purge", {}))[1]["selected"] == 2
    status, told = await filled.post("/purge", {"dry_run": False})
    assert (status, told["error"]["code"]) == (409, "conflict")
    assert await filled.store.count() == 2
    assert (await filled.post("/purge", {"everything": True, "dry_run": False}))[1]["removed"] == 2
    assert await filled.store.count() == 0
