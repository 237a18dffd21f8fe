"""What every ``Labels`` promises."""

import asyncio
from dataclasses import replace

import pytest
from support.stores import NOW, direction, make_entry

from cacheproxy.core.features import Features
from cacheproxy.core.labels import LABELS_LIVE_S, LABELS_STORED, Label, Source
from cacheproxy.model import Selection
from cacheproxy.ports import News
from cacheproxy.store.batches import REMEMBERED_S
from cacheproxy.store.sqlite_labels import MARKS_KEPT

HOUR = 3600.0


@pytest.fixture
async def books(world):
    """Opens a store and the labels beside it, as several processes would."""

    async def open_books():
        kept = await world.kept()
        await kept.store.claim_embedding("test-model", 4)
        return kept.store, kept.labels

    return open_books


@pytest.fixture
async def opened(books):
    return await books()


@pytest.fixture
def store(opened):
    return opened[0]


@pytest.fixture
def labels(opened):
    return opened[1]


def label(number=0, **changes):
    features = Features(*(0.1 * place + number for place in range(len(Features._fields))))
    return replace(
        Label(NOW + number, f"root-{number}", features, right=number % 2 == 0, source=Source.MISS), **changes
    )


# --- labels


async def test_a_label_comes_back_as_it_was(labels):
    given = [label(1, source=Source.AUDIT, inclusion=0.05, principal="alice"), label(2)]
    await labels.add("pool", given)
    assert list(await labels.recent("pool", 9)) == given


async def test_the_newest_labels_come_oldest_first(labels):
    await labels.add("pool", [label(1), label(2)])
    await labels.add("pool", [label(3)])
    assert [each.root for each in await labels.recent("pool", 2)] == ["root-2", "root-3"]
    assert list(await labels.recent("pool", 0)) == []


async def test_labels_that_came_later_are_newer_whatever_their_clock_said(labels):
    await labels.add("pool", [label(2), label(1)])
    assert [each.root for each in await labels.recent("pool", 9)] == ["root-2", "root-1"]


async def test_pools_do_not_see_each_other_s_labels(labels):
    await labels.add("b", [label(1)])
    await labels.add("a", [label(2)])
    assert list(await labels.pools()) == ["a", "b"]
    assert [each.root for each in await labels.recent("a", 9)] == ["root-2"]
    await labels.forget("a", NOW)
    await labels.forget("never", NOW)
    assert list(await labels.pools()) == ["b"]
    assert list(await labels.recent("a", 9)) == []


async def test_a_broken_promise_is_remembered_as_long_as_its_labels_would_have_been(labels, store):
    assert list(await labels.broken()) == []
    for _ in range(2):
        await labels.forget("a", NOW)
    assert list(await labels.broken()) == ["a"]
    await store.sweep(NOW + LABELS_LIVE_S)
    assert list(await labels.broken()) == ["a"]
    await store.sweep(NOW + LABELS_LIVE_S + 1)
    assert list(await labels.broken()) == []


async def test_a_batch_that_is_added_again_counts_once(labels, books):
    """Whoever did not hear that a write worked writes again: what was written must not count twice."""
    _, other = await books()
    await other.news()
    assert await labels.add("pool", [label(1), label(2)], batch=1)
    assert await labels.add("another", [label(3)], batch=1)
    assert await labels.add("pool", [label(4)], batch=2)
    for batch, given in ((1, [label(1), label(2)]), (2, [label(4)])):
        assert not await labels.add("pool", given, batch=batch)
    assert [each.root for each in await labels.recent("pool", 9)] == ["root-1", "root-2", "root-4"]
    assert await labels.total("pool") == 3
    assert len((await other.news()).labels) == 4
    assert await other.add("pool", [label(1)], batch=1)  # another process's first batch is another one


async def test_a_batch_stays_known_however_long_its_labels_had_to_wait_for_the_store(labels, store):
    """What was a day old when it was written was forgotten with the next sweep, and counted again if sent again."""
    waited = label(0, at=NOW - 2 * REMEMBERED_S)
    assert await labels.add("pool", [waited], batch=1)
    await store.sweep(NOW + 30)
    assert not await labels.add("pool", [waited], batch=1)
    assert await labels.total("pool") == 1


async def test_a_batch_stays_known_when_its_labels_are_gone(labels):
    await labels.add("pool", [label(1)], batch=1)
    await labels.forget("pool", NOW)
    await labels.add("pool", [label(1)], batch=1)
    assert list(await labels.recent("pool", 9)) == []


async def test_a_batch_that_arrives_after_its_pool_was_forgotten_brings_nothing_back(labels, books):
    """One that was given up in flight may arrive all the same: what had been forgotten was there again, everywhere."""
    _, other = await books()
    await other.news()
    await labels.add("pool", [label(0)], batch=1)
    await labels.forget("pool", NOW + 5)
    assert await labels.add("pool", [label(1), label(4)], batch=2)
    assert (list(await labels.pools()), await labels.total("pool")) == ([], 0)
    await labels.add("pool", [label(4), label(5), label(6)], batch=3)
    assert [each.root for each in await labels.recent("pool", 9)] == ["root-5", "root-6"]
    assert await labels.total("pool") == 2
    assert [each.root for _, each in (await other.news()).labels] == ["root-5", "root-6"]


async def test_a_forgetting_that_arrives_twice_takes_nothing_along_that_came_meanwhile(labels, books):
    """One that was given up is said again; the first one may come last."""
    _, other = await books()
    await labels.forget("pool", NOW)
    await labels.add("pool", [label(1)], batch=1)
    await other.news()
    await labels.forget("pool", NOW)
    assert list(await labels.recent("pool", 9)) == [label(1)]
    assert await other.news() == News()


async def test_no_labels_are_no_pool(labels):
    await labels.add("pool", [])
    assert list(await labels.pools()) == []


async def test_a_pool_keeps_its_newest_labels_and_takes_none_of_another_s(labels):
    await labels.add("other", [label(0)])
    await labels.add("pool", [label(number) for number in range(LABELS_STORED)])
    await labels.add("pool", [label(-1), label(-2)])
    kept = await labels.recent("pool", 2 * LABELS_STORED)
    assert len(kept) == LABELS_STORED
    assert [kept[0].root, kept[-1].root] == ["root-2", "root--2"]
    assert len(await labels.recent("other", 9)) == 1


async def test_labels_survive_a_restart_and_others_see_them(books, labels):
    await labels.add("pool", [label(1)])
    _, again = await books()
    assert list(await again.recent("pool", 9)) == [label(1)]
    await again.add("pool", [label(2)])
    assert len(await labels.recent("pool", 9)) == 2


async def test_labels_that_are_too_old_to_count_are_swept(store, labels):
    await labels.add("pool", [label(0), label(10)])
    await store.sweep(NOW + LABELS_LIVE_S + 5)
    assert [each.root for each in await labels.recent("pool", 9)] == ["root-10"]


async def test_labels_are_counted_from_when_they_were_forgotten_last_kept_or_not(labels, monkeypatch):
    for adapter in ("sqlite_labels", "redis_labels"):
        monkeypatch.setattr(f"cacheproxy.store.{adapter}.LABELS_STORED", 2)
    assert await labels.total("pool") == 0
    for number in range(5):
        await labels.add("pool", [label(number)])
    await labels.add("other", [label(9)])
    assert (await labels.total("pool"), len(await labels.recent("pool", 9))) == (5, 2)
    await labels.forget("pool", NOW)
    assert (await labels.total("pool"), await labels.total("other")) == (0, 1)


async def test_the_count_goes_with_a_pool_s_last_label(labels, store):
    await labels.add("pool", [label(0), label(10)])
    await store.sweep(NOW + LABELS_LIVE_S + 5)
    assert await labels.total("pool") == 2
    await store.sweep(NOW + LABELS_LIVE_S + 15)
    assert await labels.total("pool") == 0


# --- what other processes said


@pytest.fixture
async def other(books):
    """The labels of another process."""
    return (await books())[1]


async def test_labels_of_other_processes_are_told_once_in_their_order(labels, other):
    await other.add("pool", [label(0)])
    assert await labels.news() == News()  # from here on
    await labels.add("pool", [label(1)])
    await other.add("pool", [label(3), label(2)])
    await other.add("another", [label(4)])
    assert list((await labels.news()).labels) == [("pool", label(3)), ("pool", label(2)), ("another", label(4))]
    assert await labels.news() == News()


async def test_a_promise_that_broke_elsewhere_is_told_with_the_labels_that_came_after(labels, other):
    await labels.news()
    await other.add("pool", [label(1)])
    await other.forget("pool", NOW)
    await other.add("pool", [label(2)])
    told = await labels.news()
    assert (list(told.broken), list(told.labels)) == (["pool"], [("pool", label(2))])
    await labels.forget("pool", NOW + 1)
    assert await labels.news() == News()
    await other.forget("pool", NOW + 2)
    assert list((await labels.news()).broken) == ["pool"]


@pytest.mark.parametrize("how", ["suspend", "lift", "block"])
async def test_a_mark_made_elsewhere_is_told(labels, other, how):
    await labels.news()
    given = {"suspend": ("id-a", NOW, ""), "lift": ("id-a",), "block": (b"prompt", "id-a", NOW)}[how]
    await getattr(other, how)(*given)
    assert (await labels.news()).marks
    assert not (await labels.news()).marks


async def test_news_that_nobody_waited_for_is_told_to_the_next_one(labels, other):
    await labels.news()
    await other.add("pool", [label(1)])
    asking = asyncio.ensure_future(labels.news())
    await asyncio.sleep(0)
    asking.cancel()
    await other.add("pool", [label(2)])
    assert [each.root for _, each in (await labels.news()).labels] == ["root-1", "root-2"]


# --- suspended entries


async def test_a_suspension_lasts_until_it_is_lifted(books, labels):
    await labels.suspend("id-a", NOW, "said to be wrong")
    await labels.suspend("id-b", NOW, "")
    _, again = await books()
    assert await again.suspended() == {"id-a": "said to be wrong", "id-b": ""}
    await labels.lift("id-a")
    await labels.lift("id-never")
    assert await again.suspended() == {"id-b": ""}


async def test_suspending_again_keeps_the_later_note(labels):
    await labels.suspend("id-a", NOW, "first")
    await labels.suspend("id-a", NOW + 1, "second")
    assert await labels.suspended() == {"id-a": "second"}


async def test_a_suspension_goes_with_its_entry(store, labels):
    await store.put(make_entry("a", expires_at=NOW + 9 * HOUR))
    await store.put(make_entry("b", expires_at=NOW + 9 * HOUR))
    for entry_id in ("id-a", "id-b"):
        await labels.suspend(entry_id, NOW, "")
    await store.remove(Selection(ids=["id-a"]))
    await store.sweep(NOW + 2 * HOUR)
    assert await labels.suspended() == {"id-b": ""}


async def test_a_suspension_waits_for_an_entry_that_is_still_to_be_stored(store, labels):
    await labels.suspend("id-a", NOW, "")
    await store.sweep(NOW + 60)
    assert await labels.suspended() == {"id-a": ""}


@pytest.mark.parametrize("note", ["\ud800", "n" * 100_000], ids=["a lone surrogate", "an endless note"])
async def test_a_strange_note_does_not_keep_an_entry_from_being_suspended(labels, note):
    await labels.suspend("id-a", NOW, note)
    ((entry_id, kept),) = (await labels.suspended()).items()
    assert entry_id == "id-a"
    assert len(kept) <= 1000


# --- blocked pairs


async def test_a_blocked_pair_stays_blocked(books, labels):
    await labels.block(b"prompt", "id-a", NOW)
    await labels.block(b"prompt", "id-a", NOW + 1)
    await labels.block(b"prompt", "id-b", NOW)
    _, again = await books()
    assert set(await again.blocked()) == {(b"prompt", "id-a"), (b"prompt", "id-b")}


async def test_a_pair_stays_blocked_while_its_root_has_an_alias(store, labels):
    for name in "ab":
        await store.put(make_entry(name, expires_at=NOW + 9 * HOUR))
        await store.set_vector(f"id-{name}", direction(1, 0, 0, 0), "id-a")
    await labels.block(b"prompt", "id-a", NOW)
    await store.remove(Selection(ids=["id-a"]))
    await store.sweep(NOW + 2 * HOUR)
    assert set(await labels.blocked()) == {(b"prompt", "id-a")}
    await store.remove(Selection(ids=["id-b"]))
    await store.sweep(NOW + 2 * HOUR)
    assert set(await labels.blocked()) == set()


async def test_a_pair_stays_blocked_while_its_root_is_there_without_a_vector(store, labels):
    await store.put(make_entry("a", expires_at=NOW + 9 * HOUR))
    await labels.block(b"prompt", "id-a", NOW)
    await store.sweep(NOW + 2 * HOUR)
    assert set(await labels.blocked()) == {(b"prompt", "id-a")}


async def test_marks_are_bounded_and_the_oldest_go(labels, monkeypatch):
    assert MARKS_KEPT >= 1000
    for adapter in ("sqlite_labels", "redis_labels"):
        monkeypatch.setattr(f"cacheproxy.store.{adapter}.MARKS_KEPT", 3)
    for number in range(5):
        await labels.suspend(f"id-{number}", NOW + number, "")
        await labels.block(b"%d" % number, "id-a", NOW + number)
    assert set(await labels.suspended()) == {"id-2", "id-3", "id-4"}
    assert {prompt_hash for prompt_hash, _ in await labels.blocked()} == {b"2", b"3", b"4"}
