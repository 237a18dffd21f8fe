"""The rounds: what others wrote is followed, what was counted is written, what expired goes."""

import asyncio
import math

from support.promises import teach
from support.switch import Holder

from cacheproxy.errors import PortUnavailable
from cacheproxy.events import Audited, CheckKind, Served
from cacheproxy.flow import upkeep
from cacheproxy.flow.l1 import TRUST_S
from cacheproxy.flow.upkeep import HitCounts
from cacheproxy.model import MISSED, CacheStatus, Selection
from cacheproxy.tasks import TaskSet

ASKED = "Please tell me what a reverse proxy does"


def a_hit(entry_id):
    return Served(
        at=0.0,
        dialect="openai-chat",
        upstream="default",
        tenant="t",
        model="m",
        http_status=200,
        status=CacheStatus.HIT,
        duration_ms=1.0,
        entry_id=entry_id,
    )


def test_hits_are_counted_by_entry_and_past_so_many_entries_only_for_known_ones(monkeypatch):
    monkeypatch.setattr(upkeep, "MOST_COUNTED", 2)
    dropped = []
    hits = HitCounts(lambda: dropped.append(1))
    for entry_id in ("a", "b", "c", "a", ""):
        hits.served(a_hit(entry_id))
    hits.audited(Audited(at=0.0, model="m", tenant="t", upstream="u", kind=CheckKind.AUDIT))
    assert hits.unwritten.waiting == {"a": 2, "b": 1}
    assert len(dropped) == 1


async def test_what_another_process_learnt_is_found_here(open_world):
    one, other = await open_world(threshold=0.8), await open_world(threshold=0.8)
    await one.ask(ASKED)
    await other.upkeep.follow()
    assert (await other.ask(ASKED)).cache == ("Hit", "exact")
    assert (await other.ask(f"{ASKED}!")).cache == ("Hit", "semantic")


async def test_what_another_process_removed_is_gone_here(open_world):
    one, other = await open_world(threshold=0.8), await open_world(threshold=0.8)
    await one.ask(ASKED)
    await other.upkeep.follow()
    await other.ask(ASKED)
    await one.store.remove(Selection())
    await other.upkeep.follow()
    assert len(other.index) == 0
    assert (await other.ask(ASKED)).cache[0] == "Miss"


async def test_what_expired_is_swept_from_the_store_and_the_index(open_world):
    world = await open_world()
    await world.ask(ASKED)
    await world.upkeep.sweep()
    assert world.upkeep.entries == 1
    world.clock.now += 86_400
    await world.upkeep.sweep()
    await world.upkeep.follow()
    assert (world.upkeep.entries, await world.entries(), len(world.index)) == (0, 0, 0)


async def test_evicting_removes_everywhere_at_once(open_world):
    world = await open_world(threshold=0.8)
    await world.ask(ASKED, headers={"X-CacheProxy-Tags": "t"})
    await world.ask("Something else")
    await world.upkeep.evict(Selection(tag="t"))
    assert (await world.entries(), len(world.index)) == (1, 1)
    assert (await world.ask(ASKED)).cache[0] == "Miss"
    assert (await world.ask("Something else")).cache[0] == "Hit"


async def test_how_many_entries_went_is_told(open_world):
    world = await open_world()
    await world.ask(ASKED)
    await world.ask("Something else")
    assert await world.upkeep.purge(Selection(text="something")) == 1
    assert await world.upkeep.purge(Selection(text="something")) == 0


async def test_another_time_to_expire_holds_at_once(open_world):
    world = await open_world()
    await world.ask(ASKED)
    (entry,) = await world.store.browse(Selection(), limit=2)
    assert await world.upkeep.expire(entry.id, math.inf) is True
    reply = await world.ask(ASKED)
    assert reply.cache[0] == "Hit"
    await world.upkeep.expire(entry.id, world.clock.now)
    assert (await world.ask(ASKED)).cache[0] == "Miss"


async def test_an_index_that_drops_entries_by_itself_learns_of_another_time(open_world, monkeypatch):
    world = await open_world()
    await world.ask(ASKED)
    (entry,) = await world.store.browse(Selection(), limit=2)
    rows = []

    async def add(row):
        rows.append((row.entry_id, row.expires_at))

    monkeypatch.setattr(type(world.index), "shared", True)
    monkeypatch.setattr(world.index, "add", add)
    await world.upkeep.expire(entry.id, math.inf)
    assert rows == [(entry.id, math.inf)]


async def test_an_entry_that_is_gone_gets_no_other_time_to_expire(open_world):
    world = await open_world()
    assert await world.upkeep.expire("never", math.inf) is False


async def test_an_entry_evicted_while_it_is_being_asked_for_does_not_come_back(open_world, monkeypatch):
    world = await open_world()
    await world.ask(ASKED)
    remove = world.store.remove

    async def asked_meanwhile(selection):
        await world.send(world.chat(ASKED))
        return await remove(selection)

    monkeypatch.setattr(world.store, "remove", asked_meanwhile)
    await world.upkeep.evict(Selection())
    assert (await world.ask(ASKED)).cache[0] == "Miss"


async def test_an_index_that_fails_does_not_keep_the_others_from_following(open_world, monkeypatch):
    one, other = await open_world(), await open_world()
    await one.ask(ASKED)
    await one.ask("Something else")
    add, failed = other.index.add, []

    async def fails_once(row):
        if not failed:
            failed.append(row)
            raise PortUnavailable("full")
        await add(row)

    monkeypatch.setattr(other.index, "add", fails_once)
    await other.upkeep.follow()
    assert len(other.index) == 1


async def test_memory_forgets_all_that_went_before_a_slow_index_does(open_world, monkeypatch):
    world = await open_world()
    await world.ask(ASKED)
    await world.ask("Something else")
    slow, go_on = asyncio.Event(), asyncio.Event()

    async def remove(*_):
        slow.set()
        await go_on.wait()

    monkeypatch.setattr(world.index, "remove", remove)
    purging = asyncio.ensure_future(world.upkeep.purge(Selection()))
    await slow.wait()
    assert len(world.flow.l1) == 0
    go_on.set()
    assert await purging == 2


async def test_the_index_follows_in_the_order_in_which_things_happened(open_world, monkeypatch):
    one, other = await open_world(), await open_world()
    await one.ask(ASKED)
    add, adding, go_on = other.index.add, asyncio.Event(), asyncio.Event()

    async def slow(row):
        adding.set()
        await go_on.wait()
        await add(row)

    monkeypatch.setattr(other.index, "add", slow)
    coming = asyncio.ensure_future(other.upkeep.follow())
    await adding.wait()
    await one.store.remove(Selection())
    going = asyncio.ensure_future(other.upkeep.purge(Selection()))
    await asyncio.wait({going}, timeout=0.2)
    go_on.set()
    await asyncio.gather(coming, going)
    assert len(other.index) == 0


async def test_a_purge_that_cannot_be_followed_leaves_nothing_in_memory(open_world):
    store = Holder()
    world = await open_world(around_store=store.around)
    await world.ask(ASKED)
    store.adapter.failing["changes"] = PortUnavailable("gone")
    await world.upkeep.purge(Selection())
    assert len(world.flow.l1) == 0


async def test_hits_are_written_for_eviction(open_world):
    world = await open_world()
    await world.ask(ASKED)
    await world.ask(ASKED)
    counted = []
    touch = world.store.touch

    async def noting(hits, at, *, batch):
        counted.append((sum(hits.values()), at))
        return await touch(hits, at, batch=batch)

    world.store.touch = noting
    await world.upkeep.flush()
    await world.upkeep.flush()
    assert counted == [(1, world.clock.now)]


async def test_hits_are_counted_once_the_store_takes_them_again(open_world):
    """How often an entry was served was lost where the write of it failed."""
    store = Holder()
    world = await open_world(around_store=store.around)
    await world.ask(ASKED)
    (entry,) = await world.store.browse(Selection(), limit=1)
    for failing in ({"touch": PortUnavailable("gone")}, {}):
        store.adapter.failing = failing
        await world.ask(ASKED)
        await world.upkeep.flush()
    assert (await world.store.uses([entry.id]))[entry.id].hits == 2


async def test_hits_whose_write_was_given_up_and_arrived_all_the_same_count_once(open_world):
    world = await open_world()
    await world.ask(ASKED)
    (entry,) = await world.store.browse(Selection(), limit=1)
    touch, answers = world.store.touch, [PortUnavailable("no answer"), None]

    async def answering_late(hits, at, *, batch):
        done = await touch(hits, at, batch=batch)
        if (answer := answers.pop(0)) is not None:
            raise answer
        return done

    world.store.touch = answering_late
    await world.ask(ASKED)
    for _ in range(2):
        await world.upkeep.flush()
    assert answers == []
    assert (await world.store.uses([entry.id]))[entry.id].hits == 1


async def test_the_end_waits_once_for_a_store_that_hangs_and_not_for_each_pool(open_world, caplog):
    """Each pool was waited for in turn, and then the ledger: with ten pools over a frozen Redis a minute and more."""
    labels, store = Holder(), Holder()
    world = await open_world(around_labels=labels.around, around_store=store.around, policy="certified")
    await world.ask(ASKED)
    await world.ask(ASKED)
    pools = [world.flow.pools.named(name) for name in "abc"]
    for pool in pools:
        teach(world, 1, pool=pool)
    asked = []

    def hanging(what):
        async def hang(*_, **__):
            asked.append(what)
            await asyncio.Event().wait()

        return hang

    labels.adapter.add, store.adapter.touch = hanging("labels"), hanging("hits")
    await world.upkeep.finish(0.05)
    assert sorted(asked) == ["hits", "labels"]  # at once, and none of them again
    assert [len(pool.unwritten) for pool in pools] == [1, 1, 1]
    assert "were not written" in caplog.text


async def test_a_round_that_breaks_is_followed_by_the_next(open_world, monkeypatch):
    monkeypatch.setattr(upkeep, "FOLLOW_S", 0)
    world = await open_world()
    rounds, enough = [], asyncio.Event()

    async def breaks():
        rounds.append(1)
        if len(rounds) == 3:
            enough.set()
        raise RuntimeError("bug")

    monkeypatch.setattr(world.upkeep, "follow", breaks)
    async with TaskSet("rounds") as tasks:
        world.upkeep.start(tasks)
        async with asyncio.timeout(5):
            await enough.wait()


async def test_an_answer_on_its_way_to_the_store_is_evicted_too(open_world, monkeypatch):
    """DELETE came before the answer was stored and found nothing to remove; the next call was a hit."""
    world = await open_world()
    put, slow = world.store.put, asyncio.Event()

    async def put_late(*entries, samples=1):
        await slow.wait()
        await put(*entries, samples=samples)

    monkeypatch.setattr(world.store, "put", put_late)
    await world.send(world.chat(ASKED))
    evicting = asyncio.create_task(world.upkeep.evict(Selection()))
    await asyncio.sleep(0)
    slow.set()
    await evicting
    assert (await world.ask(ASKED)).cache[0] == "Miss"


# --- memory is trusted only while the store is followed


async def test_what_was_purged_while_this_process_was_cut_off_is_not_served_from_memory(open_world):
    one, holder = await open_world(exact_only=True), Holder()
    cut_off = await open_world(exact_only=True, around_store=holder.around)
    await one.ask(ASKED)
    await cut_off.upkeep.follow()
    assert (await cut_off.ask(ASKED)).cache == ("Hit", "exact")
    holder.adapter.failing = {"changes": PortUnavailable("cut off")}
    await one.store.remove(Selection())
    cut_off.clock.now += TRUST_S + 1
    await cut_off.upkeep.follow()
    assert (await cut_off.send(cut_off.chat(ASKED))).cache[0] == "Miss"


async def test_memory_serves_again_once_the_store_is_followed(open_world):
    holder = Holder()
    world = await open_world(exact_only=True, around_store=holder.around)
    await world.ask(ASKED)
    await world.upkeep.follow()
    holder.adapter.failing = dict.fromkeys(("changes", "find"), PortUnavailable("cut off"))
    world.clock.now += TRUST_S - 1
    assert (await world.send(world.chat(ASKED))).cache == ("Hit", "exact")
    world.clock.now += 2
    assert (await world.send(world.chat(ASKED))).cache == ("Miss", "store-unavailable")
    holder.adapter.failing = {"find": PortUnavailable("cut off")}
    await world.upkeep.follow()
    assert (await world.send(world.chat(ASKED))).cache == ("Hit", "exact")


async def test_memory_is_emptied_when_changes_were_missed(open_world):
    class Lost:
        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            return getattr(self._store, name)

        async def changes(self):
            return [MISSED]

    world = await open_world(exact_only=True, around_store=Lost)
    await world.ask(ASKED)
    assert (await world.ask(ASKED)).cache == ("Hit", "exact")
    await world.store.remove(Selection())
    await world.upkeep.follow()
    assert (await world.send(world.chat(ASKED))).cache[0] == "Miss"
