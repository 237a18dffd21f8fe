"""What is particular to the embedded store: crashes, damage, threads, memory. The port's promises are in contracts."""

import asyncio
import signal
import subprocess
import sys
import threading
import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest
from support.sqlite_entries import EMBEDDING, NOW, make_entry

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.model import Selection
from cacheproxy.store import codec, entries, vectors
from cacheproxy.store.sqlite import StoreLimits, open_sqlite
from cacheproxy.store.vectors import Placed

AXIS = np.array([1, 0, 0, 0], np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.db"


@pytest.fixture
async def store(path):
    async with open_sqlite(path, clock=lambda: NOW, embedding=EMBEDDING) as store:
        yield store


async def test_what_is_purged_while_it_is_read_is_not_found(store, monkeypatch):
    read = store.database.read

    async def purged_meanwhile(work, *, doing):
        found = await read(work, doing=doing)
        monkeypatch.undo()
        await store.remove(Selection())
        await store.changes()
        return found

    for reading in (lambda: store.find(b"key a"), lambda: store.load(["id-a"])):
        await store.put(make_entry("a"))
        monkeypatch.setattr(store.database, "read", purged_meanwhile)
        assert await reading() == []


# --- restarts and crashes


async def test_everything_is_there_after_a_restart(path):
    async with open_sqlite(path, clock=lambda: NOW, embedding=EMBEDDING) as store:
        await store.put(make_entry("a"))
        await store.set_vector("id-a", np.array([1, 0, 0, 0], np.float32), "id-a")
        await store.prove("credential", NOW)
    async with open_sqlite(path, clock=lambda: NOW, embedding=EMBEDDING) as store:
        assert list(await store.find(b"key a")) == [make_entry("a")]
        assert [row.entry_id async for block in store.vectors() for row in block] == ["id-a"]
        assert await store.proven_at("credential") == NOW


async def test_what_waits_at_closing_time_is_stored(path):
    async with open_sqlite(path, clock=lambda: NOW) as store:
        putting = [asyncio.ensure_future(store.put(make_entry(str(n)))) for n in range(50)]
        await asyncio.sleep(0)
    await asyncio.gather(*putting)
    async with open_sqlite(path, clock=lambda: NOW) as store:
        assert await store.count() == 50


WRITES_UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from cacheproxy.model import Entry, Usage
from cacheproxy.store.sqlite import open_sqlite

async def main():
    async with open_sqlite(Path(sys.argv[1]), clock=lambda: 0.0) as store:
        async def put(number):
            await store.put(Entry(
                id=f"id-{number}", key=f"key {number}".encode(), scope=b"scope", tenant="", dialect="openai-chat",
                upstream="openai", model="m", prompt="", answer=b'{"n":"' + str(number).encode() * 2000 + b'"}',
                usage=Usage(), cost_usd=0.0, latency_ms=0.0, created_at=0.0, expires_at=1.0, semantic=True,
            ))
            print(number, flush=True)
        for start in range(0, 10**9, 8):
            await asyncio.gather(*(put(number) for number in range(start, start + 8)))

asyncio.run(main())
"""


def acknowledged_until_killed(path):
    writing = subprocess.Popen([sys.executable, "-c", WRITES_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE)
    with writing:
        lines = [writing.stdout.readline() for _ in range(100)]
        writing.send_signal(signal.SIGKILL)
        lines += [line for line in writing.stdout.readlines() if line.endswith(b"\n")]
    return [int(line) for line in lines]


async def test_every_acknowledged_entry_survives_a_kill(path):
    acknowledged = await asyncio.to_thread(acknowledged_until_killed, path)
    async with open_sqlite(path, clock=lambda: NOW) as store:
        check = await store.database.read(lambda rows: rows.execute("PRAGMA integrity_check").fetchall(), doing="check")
        assert check == [("ok",)]
        for number in acknowledged:
            (entry,) = await store.find(f"key {number}".encode())
            assert entry.answer == b'{"n":"' + str(number).encode() * 2000 + b'"}'
        assert store.corrupt_rows == 0
        assert len(await store.browse(Selection(), limit=10**6)) == await store.count()
        await store.put(make_entry("after"))


# --- speed and memory, without clocks


async def test_an_unknown_key_is_answered_without_waiting(store):
    await store.put(make_entry("a"))
    finding = store.find(b"unknown")
    with pytest.raises(StopIteration) as answered:
        finding.send(None)
    assert list(answered.value.value) == []


async def test_a_put_whose_caller_gave_up_is_found_later(store):
    putting = asyncio.ensure_future(store.put(make_entry("a")))
    await asyncio.sleep(0)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    await store.changes()
    assert list(await store.find(b"key a")) == [make_entry("a")]


async def test_bookkeeping_takes_less_than_400_bytes_an_entry(path):
    count = 20_000

    def fill(rows):
        for number in range(count):
            name = f"{number:032x}"
            entry = make_entry("", id=name, key=bytes.fromhex(name) * 2, scope=bytes.fromhex(name) * 2)
            entries.insert(rows, [entry], samples=1, used_at=NOW, writer="filler")

    async with open_sqlite(path, clock=lambda: NOW) as store:
        await store.database.write(fill, doing="fill the store")
    tracemalloc.start()
    try:
        async with AsyncExitStack() as stack:
            before, _ = tracemalloc.get_traced_memory()
            store = await stack.enter_async_context(open_sqlite(path, clock=lambda: NOW))
            held = tracemalloc.get_traced_memory()[0] - before
            assert await store.count() == count
            assert held < 400 * count
            for number in range(1000):
                await store.put(make_entry(f"{number:032x}", key=bytes.fromhex(f"{number + count:032x}") * 2))
            assert tracemalloc.get_traced_memory()[0] - before < 400 * (count + 1000)
    finally:
        tracemalloc.stop()


async def test_vectors_come_in_blocks(path):
    count = 2500

    def fill(rows):
        for number in range(count):
            entry = make_entry(f"{number:05}")
            entries.insert(rows, [entry], samples=1, used_at=NOW, writer="filler")
            encoded = codec.encode_vector(np.ones(4, np.float32))
            vectors.place(rows, [Placed(entry.id, encoded, entry.id)], writer="filler")

    async with open_sqlite(path, clock=lambda: NOW, embedding=EMBEDDING) as store:
        await store.database.write(fill, doing="fill the store")
        sizes = [len(block) async for block in store.vectors()]
    assert sizes == [1000, 1000, 500]


async def test_thousands_are_removed_in_several_transactions(path):
    def fill(rows):
        for number in range(2500):
            entries.insert(rows, [make_entry(f"{number:05}")], samples=1, used_at=NOW, writer="filler")

    async with open_sqlite(path, clock=lambda: NOW) as store:
        await store.database.write(fill, doing="fill the store")
        assert await store.remove(Selection()) == 2500
        assert await store.count() == 0


# --- many at once


@asynccontextmanager
async def held_up(store):
    """The writer's thread waits until the block is left."""
    entered, leave = threading.Event(), threading.Event()

    def hold(rows):
        entered.set()
        leave.wait(10)

    holding = asyncio.ensure_future(store.database.follow(hold, doing="hold"))
    await asyncio.to_thread(entered.wait, 10)
    try:
        yield
    finally:
        leave.set()
        await holding


async def at_once(store, *asked):
    """What came of calls that waited for the writer together."""
    async with held_up(store):
        outcomes = asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0)
    return await outcomes


async def statements_of(store, *asked):
    """Which statements ran; a set, because one that has triggers is traced again for each row."""
    statements = set()
    await store.database.follow(lambda rows: rows.set_trace_callback(statements.add), doing="watch")
    assert await at_once(store, *asked) == [None] * len(asked)
    await store.database.follow(lambda rows: rows.set_trace_callback(None), doing="look away")
    return statements


async def test_a_hundred_entries_take_hardly_more_statements_than_one(store):
    alone = await statements_of(store, store.put(make_entry("alone")))
    many = await statements_of(store, *(store.put(make_entry(str(number))) for number in range(100)))
    assert len(many) == len(alone) < 10
    one = await statements_of(store, store.set_vector("id-0", np.ones(4, np.float32), "id-0"))
    every = (store.set_vector(f"id-{number}", np.ones(4, np.float32), f"id-{number}") for number in range(100))
    assert len(await statements_of(store, *every)) == len(one) < 7
    assert [len(block) async for block in store.vectors()] == [100]


async def test_puts_at_once_come_to_the_same_as_puts_in_turn(tmp_path):
    chance = np.random.default_rng(7)
    drawn = [
        (make_entry(str(entry_id), key=b"key %d" % key, created_at=NOW + created), int(samples))
        for entry_id, key, created, samples in chance.integers([0, 0, 0, 1], [40, 12, 5, 4], (120, 4))
    ]
    async with (
        open_sqlite(tmp_path / "one.db", clock=lambda: NOW) as in_turn,
        open_sqlite(tmp_path / "two.db", clock=lambda: NOW) as together,
    ):
        for entry, samples in drawn:
            await in_turn.put(entry, samples=samples)
        await at_once(together, *(together.put(entry, samples=samples) for entry, samples in drawn))
        for number in range(12):
            key = b"key %d" % number
            assert list(await together.find(key)) == list(await in_turn.find(key))
        assert await together.browse(Selection(), limit=99) == await in_turn.browse(Selection(), limit=99)
        assert set(await together.changes()) == set(await in_turn.changes())


async def test_an_entry_that_cannot_be_stored_takes_no_neighbour_with_it(store):
    bad = make_entry("bad", namespace="\ud800")
    outcomes = await at_once(store, *(store.put(entry) for entry in (make_entry("a"), bad, make_entry("b"))))
    assert [type(outcome) for outcome in outcomes] == [type(None), PortUnavailable, type(None)]
    assert [entry.id for entry in await store.browse(Selection(), limit=9)] == ["id-a", "id-b"]
    assert [len(await store.find(key)) for key in (b"key a", b"key bad", b"key b")] == [1, 0, 1]


async def test_more_at_once_than_the_store_may_hold_leaves_the_newest(path):
    async with open_sqlite(path, clock=lambda: NOW, limits=StoreLimits(max_entries=3)) as store:
        await at_once(store, *(store.put(make_entry(str(number))) for number in range(10)))
        assert [entry.id for entry in await store.browse(Selection(), limit=99)] == ["id-7", "id-8", "id-9"]
        assert [len(await store.find(f"key {number}".encode())) for number in range(10)] == [0] * 7 + [1] * 3


async def test_a_vector_asked_for_right_behind_its_entry_is_kept(store):
    entries = [make_entry(name) for name in "abc"]
    asked = (step for new in entries for step in (store.put(new), store.set_vector(new.id, AXIS, new.id)))
    assert await at_once(store, *asked) == [None] * 6
    assert [len(block) async for block in store.vectors()] == [3]


# --- housekeeping


async def test_a_sweep_trims_the_log_and_forgets_old_credentials(path):
    async with open_sqlite(path, clock=lambda: NOW, log_rows=5) as store:
        for number in range(20):
            await store.put(make_entry(str(number)))
        await store.prove("old", NOW - 90 * 86_400)
        await store.prove("recent", NOW - 3600)
        await store.sweep(NOW)
        rows = await store.database.read(
            lambda rows: rows.execute("SELECT count(*) FROM log").fetchone()[0], doing="count the log"
        )
        assert rows == 5
        assert await store.proven_at("old") is None
        assert await store.proven_at("recent") == NOW - 3600


async def test_vectors_can_be_dropped_for_another_model(store, path):
    await store.put(make_entry("a"))
    await store.set_vector("id-a", np.array([1, 0, 0, 0], np.float32), "id-a")
    await store.drop_vectors()
    assert [block async for block in store.vectors()] == []
    await store.claim_embedding("other-model", 8)
    await store.set_vector("id-a", np.ones(8, np.float32), "id-a")
    assert [row.vector.shape async for block in store.vectors() for row in block] == [(8,)]
    with pytest.raises(ConfigError, match=r"holds embeddings of other-model \(8\)"):
        await store.claim_embedding("test-model", 4)


async def test_the_default_limits_are_the_documented_ones():
    assert StoreLimits() == StoreLimits(max_entries=100_000, max_bytes=2 * 1024**3)
