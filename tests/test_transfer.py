from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy import jsontext, records, transfer
from cacheproxy.errors import BadRequest
from cacheproxy.model import Entry, Selection, Usage
from cacheproxy.store.sqlite import SqliteStore, open_sqlite

if TYPE_CHECKING:
    from pathlib import Path


NOW = 1_000_000.0


def entry(name: str, **changes: object) -> Entry:
    plain = Entry(
        id=name,
        key=name.encode().ljust(16, b"k")[:16],
        scope=b"s" * 16,
        tenant="t",
        dialect="openai-chat",
        upstream="default",
        model="m",
        prompt=f"question {name}",
        answer=b'{"id": "x", "text": "\xc3\xa4"}',
        usage=Usage(input_tokens=3, output_tokens=4, estimated=True),
        cost_usd=0.25,
        latency_ms=12.5,
        created_at=NOW - 60,
        expires_at=NOW + 60,
        semantic=True,
        tags=("a", "b"),
    )
    return replace(plain, **changes)


def opened(path: Path):
    return open_sqlite(path, clock=lambda: NOW)


async def exported(store: SqliteStore) -> list[bytes]:
    return [line async for line in transfer.export_entries(store)]


async def test_what_was_exported_is_imported_the_same(tmp_path):
    entries = [entry(f"e{number:04}", expires_at=math.inf if number == 7 else NOW + 60) for number in range(300)]
    async with opened(tmp_path / "a.db") as source, opened(tmp_path / "b.db") as target:
        for one in entries:
            await source.put(one)
        lines = await exported(source)

        imported = await transfer.import_entries(target, lines, now=NOW)

        assert imported == transfer.Imported(entries=300, to_embed=300)
        assert len(lines) == 301
        assert await exported(target) == lines
        assert list(await target.load(["e0007"])) == [entries[7]]


async def test_an_alias_is_moved_with_its_root_and_embedded_under_it(tmp_path):
    async with opened(tmp_path / "a.db") as source, opened(tmp_path / "b.db") as target:
        await source.claim_embedding("old", 2)
        for name in "abc":
            await source.put(entry(name))
        for name, root in {"a": "a", "b": "a", "c": "gone"}.items():
            await source.set_vector(name, np.array([1, 0], dtype=np.float32), root)
        lines = await exported(source)
        assert ["root" in jsontext.parse(line) for line in lines[1:]] == [False, True, True]

        await transfer.import_entries(target, lines, now=NOW)
        assert await exported(target) == lines
        assert await target.roots(["a", "b", "c"]) == {"b": "a", "c": "gone"}


async def test_importing_twice_changes_nothing(tmp_path):
    async with opened(tmp_path / "a.db") as store:
        await store.put(entry("e"))
        lines = await exported(store)
        await transfer.import_entries(store, lines, now=NOW)
        assert await exported(store) == lines


async def test_expired_entries_stay_out(tmp_path):
    async with opened(tmp_path / "a.db") as store:
        lines = [jsontext.dump({"cacheproxy_entries": 1})]
        lines += [jsontext.dump(records.write(entry("old", expires_at=NOW)))]
        lines += [jsontext.dump(records.write(entry("new", semantic=False)))]

        assert await transfer.import_entries(store, lines, now=NOW) == transfer.Imported(entries=1, expired=1)
        assert [one.id for one in await store.browse(Selection(), limit=9)] == ["new"]


@given(prompt=st.text(), answer=st.text(st.characters(exclude_categories=())))
def test_any_text_survives_its_line(prompt, answer):
    one = entry("e", prompt=prompt, answer=answer.encode("utf-8", "surrogatepass"))
    assert transfer._entry(jsontext.dump(records.write(one)), 2) == (one, "e")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(b"{", "line 2 is not JSON", id="no-json"),
        pytest.param(b"[]", "line 2 is no JSON object", id="no-object"),
        pytest.param(b"{}", "line 2: missing or unknown: answer", id="nothing-there"),
        pytest.param(jsontext.dump(records.write(entry("e")) | {"more": 1}), "unknown: more", id="unknown-field"),
        pytest.param(jsontext.dump(records.write(entry("e")) | {"key": "xy"}), "line 2: non-hex", id="no-hash"),
        pytest.param(jsontext.dump(records.write(entry("e")) | {"expires_at": "soon"}), "expires_at", id="no-number"),
        pytest.param(jsontext.dump(records.write(entry("e")) | {"answer": None}), "line 2", id="no-answer"),
        pytest.param(jsontext.dump(records.write(entry("e")) | {"root": 7}), "line 2", id="no-root"),
    ],
)
async def test_a_damaged_line_is_named(tmp_path, line, said):
    async with opened(tmp_path / "a.db") as store:
        with pytest.raises(BadRequest, match=said):
            await transfer.import_entries(store, [b'{"cacheproxy_entries": 1}\n', line], now=NOW)


@pytest.mark.parametrize("lines", [[], [b"{}"], [b'{"cacheproxy_entries": 2}']], ids=["empty", "other", "later"])
async def test_a_file_of_another_kind_is_refused(tmp_path, lines):
    async with opened(tmp_path / "a.db") as store:
        with pytest.raises(BadRequest, match="line 1"):
            await transfer.import_entries(store, lines, now=NOW)
