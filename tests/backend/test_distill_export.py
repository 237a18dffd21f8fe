from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cacheproxy.backend.distill_export import LessonRules, export
from cacheproxy.model import Entry, Selection, Usage
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_labels import SqliteLabels

NOW = 1_700_000_000.0


def entry_of(name, **changes):
    answer = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "big",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": changes.pop("answer", f"It is {name}.")},
                "finish_reason": changes.pop("finish", "stop"),
            }
        ],
    }
    entry = Entry(
        id=f"id-{name}",
        key=f"key-{name}".encode(),
        scope=b"s" * 32,
        tenant="acme",
        dialect="openai-chat",
        upstream="openai",
        model="big",
        prompt=f"What is {name}?",
        answer=json.dumps(answer).encode(),
        usage=Usage(1, 1),
        cost_usd=0.1,
        latency_ms=1.0,
        created_at=NOW - 1000,
        expires_at=NOW + 1000,
        semantic=True,
    )
    return replace(entry, **changes)


@pytest.fixture
def exported(tmp_path):
    async def exported(*entries, hits=(), suspended=(), **rules):
        async with open_sqlite(tmp_path / "store.sqlite3", clock=lambda: NOW) as store:
            await store.put(*entries)
            await store.touch(dict(hits), NOW)
            labels = SqliteLabels(store.database)
            for entry_id in suspended:
                await labels.suspend(entry_id, NOW, "no")
            lines = []
            wanted = LessonRules(**{"tenants": frozenset({"acme"}), "selection": Selection(), **rules})
            done = await export(store, labels, wanted, lines.append, now=NOW)
        return [json.loads(line)["messages"] for line in lines], done

    return exported


def questions(lessons):
    return [messages[-2]["content"] for messages in lessons]


async def test_entries_become_chats(exported):
    lessons, done = await exported(entry_of("a"), entry_of("b"), system="Be brief.")
    assert lessons[0] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is a?"},
        {"role": "assistant", "content": "It is a."},
    ]
    assert (done.lessons, done.left_out) == (2, {})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tenant": "other"}, "no-consent"),
        ({"expires_at": NOW}, "expired"),
        ({"created_at": NOW - 5000}, "too-old"),
        ({"semantic": False}, "no-plain-question"),
        ({"prompt": " "}, "no-plain-question"),
        ({"answer": ""}, "no-text"),
        ({"finish": "length"}, "no-text"),
        ({"finish": "content_filter"}, "no-text"),
        ({"dialect": "openai-embeddings"}, "no-text"),
        ({"answer": "Write to jane@mail.example."}, "personal-data"),
        ({"prompt": "Is 4111 1111 1111 1111 valid?"}, "personal-data"),
        ({"scope": b"t" * 32}, "lone-scope"),
    ],
)
async def test_what_may_not_or_cannot_be_a_lesson_is_left_out_and_counted(exported, changes, why):
    lessons, done = await exported(entry_of("a"), entry_of("b"), entry_of("c", **changes), newer_than=NOW - 2000)
    assert questions(lessons) == ["What is a?", "What is b?"]
    assert done.left_out == {why: 1}


async def test_everybody_may_agree(exported):
    lessons, _ = await exported(entry_of("a"), entry_of("b", tenant="other"), tenants=frozenset({"*"}))
    assert len(lessons) == 2


async def test_of_equal_questions_the_newest_answer_is_taken(exported):
    older = entry_of("a1", prompt="What is a?", answer="Old.", created_at=NOW - 900)
    newer = entry_of("a0", prompt="What is a?", answer="New.", created_at=NOW - 100)
    lessons, done = await exported(older, newer, entry_of("b"))
    assert [messages[-1]["content"] for messages in lessons] == ["New.", "It is b."]
    assert done.left_out == {"asked-twice": 1}


async def test_answers_that_were_served_often_can_be_asked_for(exported):
    entries = [entry_of(name) for name in "abc"]
    lessons, _ = await exported(*entries, hits=[("id-a", 3), ("id-c", 2)], selection=Selection(min_hits=2))
    assert questions(lessons) == ["What is a?", "What is c?"]


async def test_an_answer_that_was_called_wrong_is_no_lesson(exported):
    lessons, done = await exported(*[entry_of(name) for name in "abc"], suspended=["id-b"])
    assert questions(lessons) == ["What is a?", "What is c?"]
    assert done.left_out == {"called-wrong": 1}
