"""Group commit: who shares a transaction shares nothing else."""

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager

import pytest

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.store.database import Done, Failed, open_database


@pytest.fixture
async def database(tmp_path):
    async with open_database(tmp_path / "cache.db", clock=lambda: 0.0) as database:
        yield database


def note(name, value="x"):
    return lambda rows: rows.execute("INSERT INTO meta VALUES (?, ?)", (name, value)).rowcount


def names(rows):
    return [name for (name,) in rows.execute("SELECT name FROM meta ORDER BY name")]


@asynccontextmanager
async def held_up(database):
    """The writer's thread waits until the block is left."""
    entered, leave = threading.Event(), threading.Event()

    def hold(rows):
        entered.set()
        leave.wait(10)

    holding = asyncio.ensure_future(database.follow(hold, doing="hold"))
    await asyncio.to_thread(entered.wait, 10)
    try:
        yield
    finally:
        leave.set()
        await holding


async def test_what_is_written_can_be_read(database):
    assert await database.write(note("a"), doing="write") == 1
    assert await database.read(names, doing="read") == ["a"]


async def test_everything_that_waits_is_committed_at_once(database):
    commits = []
    await database.follow(
        lambda rows: rows.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None),
        doing="watch",
    )
    async with held_up(database):
        writes = asyncio.gather(*(database.write(note(f"{n:03}"), doing="write") for n in range(100)))
        await asyncio.sleep(0)
    await writes
    assert commits == ["COMMIT"]
    assert len(await database.read(names, doing="read")) == 100


async def test_a_failing_write_takes_no_neighbour_with_it(database):
    async with held_up(database):
        writes = asyncio.gather(
            *(database.write(note(name), doing="note a name") for name in ["a", "b", "a", "c"]),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
    assert [type(outcome) for outcome in await writes] == [int, int, PortUnavailable, int]
    assert await database.read(names, doing="read") == ["a", "b", "c"]


async def test_a_write_that_fails_half_way_leaves_nothing(database):
    def two(rows):
        note("first")(rows)
        raise OSError("half way")

    with pytest.raises(PortUnavailable, match="note two: half way"):
        await database.write(two, doing="note two")
    assert await database.read(names, doing="read") == []


async def test_a_transaction_that_is_lost_takes_only_its_culprit(database):
    def lose(rows):
        rows.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
        raise sqlite3.OperationalError("database or disk is full")

    async with held_up(database):
        works = [note("a"), lose, note("b")]
        writes = asyncio.gather(*(database.write(work, doing="write") for work in works), return_exceptions=True)
        await asyncio.sleep(0)
    assert [type(outcome) for outcome in await writes] == [int, PortUnavailable, int]
    assert await database.read(names, doing="read") == ["a", "b"]


async def test_a_mistake_of_ours_reaches_its_waiter_and_the_thread_lives_on(database):
    with pytest.raises(ZeroDivisionError):
        await database.write(lambda rows: 1 // 0, doing="divide")
    with pytest.raises(ZeroDivisionError):
        await database.read(lambda rows: 1 // 0, doing="divide")
    await database.write(note("a"), doing="write")


async def test_a_full_disk_refuses_writes_and_serves_reads(database):
    await database.write(note("a"), doing="write")
    await database.follow(lambda rows: rows.execute("PRAGMA max_page_count = 1").fetchone(), doing="fill the disk")
    async with held_up(database):
        writes = asyncio.gather(
            *(database.write(note(name, "x" * 500_000), doing="note") for name in "bcd"), return_exceptions=True
        )
        await asyncio.sleep(0)
    outcomes = await writes
    assert [type(outcome) for outcome in outcomes] == [PortUnavailable] * 3
    assert "full" in str(outcomes[0])
    assert await database.read(names, doing="read") == ["a"]
    await database.follow(lambda rows: rows.execute("PRAGMA max_page_count = 100000").fetchone(), doing="make room")
    await database.write(note("e"), doing="write")


async def test_reads_do_not_wait_for_writes(database):
    async with held_up(database):
        assert await database.read(names, doing="read") == []


async def test_a_write_whose_waiter_left_is_done_and_settled(database):
    outcomes = []
    async with held_up(database):
        writing = asyncio.ensure_future(database.write(note("a"), doing="write", settled=outcomes.append))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    await database.follow(names, doing="wait for the writer")
    assert outcomes == [Done(1)]


async def test_every_waiter_is_answered_when_the_database_closes(tmp_path):
    async with open_database(tmp_path / "cache.db", clock=lambda: 0.0) as database:
        writes = [asyncio.ensure_future(database.write(note(f"{n:03}"), doing="write")) for n in range(700)]
        reads = [asyncio.ensure_future(database.read(names, doing="read")) for _ in range(50)]
        await asyncio.sleep(0)
    assert all(future.done() for future in (*writes, *reads))
    assert [write.result() for write in writes] == [1] * 700


async def test_a_closed_database_refuses_at_once(tmp_path):
    async with open_database(tmp_path / "cache.db", clock=lambda: 0.0) as database:
        pass
    outcomes = []
    with pytest.raises(PortUnavailable, match="closed"):
        await database.write(note("a"), doing="write", settled=outcomes.append)
    assert isinstance(outcomes[0], Failed)
    await database.aclose()


@pytest.mark.parametrize(("count", "weight"), [(5000, 0), (70, 1 << 20)], ids=["too many", "too large"])
async def test_what_waits_is_bounded(database, count, weight):
    async with held_up(database):
        writes = asyncio.gather(
            *(database.write(note(f"{n}"), doing="write", weight=weight) for n in range(count)), return_exceptions=True
        )
        await asyncio.sleep(0)
    refused = [outcome for outcome in await writes if isinstance(outcome, PortUnavailable)]
    assert refused
    assert len(await database.read(names, doing="read")) == count - len(refused)


async def test_the_loop_goes_on_while_the_disk_is_slow(database):
    async with held_up(database):
        writing = asyncio.ensure_future(database.write(note("a"), doing="write"))
        turns = 0
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1
        assert turns == 100
        assert not writing.done()
    await writing


async def test_a_place_that_cannot_be_opened_is_a_matter_of_settings(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot open the store"):
        async with open_database(tmp_path / "file" / "cache.db", clock=lambda: 0.0):
            pass


async def test_damage_met_while_running_has_the_next_start_check(tmp_path, database):
    def damaged(rows):
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    with pytest.raises(PortUnavailable):
        await database.read(damaged, doing="read")
    assert (tmp_path / "cache.db.suspect").exists()


async def test_two_processes_take_turns(tmp_path):
    async with (
        open_database(tmp_path / "cache.db", clock=lambda: 0.0) as one,
        open_database(tmp_path / "cache.db", clock=lambda: 0.0) as two,
    ):
        await asyncio.gather(*((one, two)[n % 2].write(note(f"{n}"), doing="write") for n in range(100)))
        assert len(await one.read(names, doing="read")) == 100
