"""Everything goes from a store to a file, into another kind of store, and back."""

import json
from contextlib import AsyncExitStack
from dataclasses import replace

import numpy as np
import pytest
from support.redis_stores import RedisWorld
from support.stores import EMBEDDING, NOW, SqliteWorld, direction, make_entry

from cacheproxy import moving
from cacheproxy.core.features import FEATURE_NAMES, Features
from cacheproxy.core.keys import VirtualKey
from cacheproxy.core.labels import Label, Source
from cacheproxy.errors import BadRequest
from cacheproxy.events import Served
from cacheproxy.model import CacheStatus, Layer, Usage

KEY = VirtualKey("alice", "alice", b"d" * 32, "cpk_", NOW, float("inf"))
HIT = Served(
    at=NOW,
    dialect="openai-chat",
    upstream="openai",
    tenant="t",
    model="m",
    http_status=200,
    status=CacheStatus.HIT,
    duration_ms=1 / 3,
    layer=Layer.EXACT,
    saved_usage=Usage(7, 3, 2, 1),
    saved_usd=0.1,
)


def label(number):
    features = Features(*(number / 7 for _ in FEATURE_NAMES))
    return Label(NOW - number, f"id-{number}", features, bool(number % 2), Source.AUDIT, 1 / 3, "somebody")


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def sqlite(tmp_path, stack):
    """``sqlite(name)``: everything that a process keeps in a database of this name."""
    return lambda name: SqliteWorld(tmp_path / name, stack).kept()


@pytest.fixture(params=["fakeredis", "redis"])
def redis(request, stack):
    """The same in a Redis of its own."""
    url = request.getfixturevalue("redis_server").url if request.param == "redis" else None
    return lambda: RedisWorld(stack, url).kept()


async def fill(kept):
    """Something of each kind."""
    await kept.store.claim_embedding(EMBEDDING.model, EMBEDDING.dimension)
    await kept.store.put(
        make_entry("a"),
        make_entry("b", prompt="half \ud83d a pair", cost_usd=None, expires_at=float("inf")),
        make_entry("gone", expires_at=NOW + 1),
        make_entry("exact", semantic=False, tags=()),
    )
    await kept.store.set_vector("id-a", direction(1, 2, 3, 4), "id-a")
    await kept.store.set_vector("id-b", direction(4, 3, 2, 1), "id-a")
    await kept.store.touch({"id-a": 3, "id-b": 1}, NOW + 5)
    await kept.labels.forget("broken", NOW)
    await kept.labels.add("broken", [label(1)])
    await kept.labels.add("pool", [label(2), label(3)])
    await kept.labels.suspend("id-a", NOW, "wrong")
    await kept.labels.block(b"h" * 32, "id-a", NOW)
    await kept.keys.add(KEY)
    kept.ledger.served(HIT)
    kept.ledger.served(HIT._replace(at=NOW + 3600, layer=None, status=CacheStatus.MISS, cost_usd=1 / 3))
    await kept.ledger.flush()


async def told(kept, *, now=NOW + 10):
    """Everything, in a form that two kinds of stores have alike."""
    lines = [json.loads(line) async for line in moving.written(kept)]
    said = {kind: [line[kind] for line in lines if kind in line] for line in lines for kind in line}
    said["entry"] = [entry for entry in said["entry"] if entry["expires_at"] is None or entry["expires_at"] > now]
    vectors = {row.entry_id: row.vector async for rows in kept.store.vectors() for row in rows}
    said.pop("vector")
    return {kind: sorted(things, key=str) for kind, things in said.items()}, vectors


async def moved(lines, kept, *, now=NOW + 10):
    return await moving.taken_in(kept, lines, now=now)


async def file_of(kept):
    return [line async for line in moving.written(kept)]


async def test_nothing_is_lost_from_sqlite_to_a_file_to_redis_and_back(sqlite, redis):
    one, two, three = await sqlite("one"), await redis(), await sqlite("three")
    await fill(one)
    first = await moved(await file_of(one), two)
    second = await moved(await file_of(two), three)
    assert (first.entries, first.expired, first.vectors, first.labels, first.keys, first.ledger_rows) == (
        3,
        1,
        2,
        3,
        1,
        2,
    )
    assert (second.entries, second.vectors, second.labels, second.keys, second.ledger_rows) == (3, 2, 3, 1, 2)
    (before, vectors), (there, copied), (after, returned) = [await told(kept) for kept in (one, two, three)]
    assert before == there == after
    assert vectors.keys() == copied.keys() == returned.keys() == {"id-a", "id-b"}
    for entry_id, vector in vectors.items():
        for other in (copied, returned):
            assert np.allclose(vector, other[entry_id], atol=1e-3)
    assert (await three.store.uses(["id-a"]))["id-a"].hits == 3
    assert await three.ledger.tallies(("hour", "layer")) == await one.ledger.tallies(("hour", "layer"))


async def test_taking_the_same_in_twice_changes_nothing(sqlite):
    one, two = await sqlite("one"), await sqlite("two")
    await fill(one)
    lines = await file_of(one)
    await moved(lines, two)
    before = await told(two)
    again = await moved(lines, two)
    assert (again.keys, again.ledger_rows, again.ledger_kept) == (0, 0, True)
    assert (await told(two))[0] == before[0]


async def test_what_goes_directly_goes_like_by_a_file(sqlite, redis):
    one, two = await sqlite("one"), await redis()
    await fill(one)
    await moved(moving.written(one), two)
    assert (await told(one))[0] == (await told(two))[0]


async def test_an_empty_store_leaves_an_empty_one(sqlite):
    one, two = await sqlite("one"), await sqlite("two")
    assert await moved(await file_of(one), two) == moving.Moved()


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "line 1: there is nothing"),
        ([b'{"cacheproxy_everything": 99}'], "line 1: this is no file"),
        ([b'{"cacheproxy_everything": 1}', b"[]"], "line 2"),
        ([b'{"cacheproxy_everything": 1}', b'{"colour": "red"}'], "line 2: what is 'colour'"),
        ([b'{"cacheproxy_everything": 1}', b'{"entry": {"root": null, "hits": 0}}'], "line 2: missing"),
        ([b'{"cacheproxy_everything": 1}', b'{"ledger": {"hour": 1}}'], "a row of the ledger lacks"),
    ],
    ids=["empty", "a later format", "no object", "an unknown kind", "no entry", "no row"],
)
async def test_what_is_no_such_file_is_refused_with_its_line(sqlite, lines, why):
    with pytest.raises((BadRequest, ValueError), match=why):
        await moved(lines, await sqlite("one"))


async def test_labels_that_are_there_are_not_added_again(sqlite):
    one, two = await sqlite("one"), await sqlite("two")
    await one.labels.add("pool", [label(1), label(2)])
    await two.labels.add("pool", [label(2)])
    assert (await moved(await file_of(one), two)).labels == 1
    assert len(await two.labels.recent("pool", 10)) == 2


def test_a_label_is_the_same_after_json():
    one = replace(label(1), features=Features(*(1 / 3 for _ in FEATURE_NAMES)))
    said = json.loads(json.dumps(moving._LABEL.dump_python(one, mode="json")))
    assert moving._LABEL.validate_python(said) == one
