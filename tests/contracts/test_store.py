"""What every ``Store`` promises, whichever adapter keeps it. An adapter joins by a ``World`` of its own."""

import asyncio
import hashlib
import math
from dataclasses import replace

import pytest
from support.stores import NOW, digest, direction, embedded, make_entry

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.model import Selection, Usage, Uses
from cacheproxy.store.sqlite import StoreLimits


async def everything(store):
    return [entry.id for entry in await store.browse(Selection(), limit=1000)]


# --- find, load, put


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as usual"),
        pytest.param({"prompt": "", "tags": (), "answer": b"{}"}, id="with nothing in it"),
        pytest.param({"prompt": "\ud800 lone", "model": "m\udfff"}, id="with lone surrogates"),
        pytest.param({"prompt": "¿你好? \x00 \u2028", "namespace": "naïve ns"}, id="in other scripts"),
        pytest.param({"answer": b'{"a":"' + b"x" * 100_000 + b'"}'}, id="large"),
        pytest.param({"answer": hashlib.shake_128(b"").digest(70_000)}, id="incompressible"),
        pytest.param({"usage": Usage(10**30, 0)}, id="with absurd usage"),
        pytest.param({"expires_at": math.inf}, id="pinned"),
        pytest.param({"created_at": 0.1 + 0.2, "cost_usd": 1e-9}, id="with awkward fractions"),
    ],
)
async def test_an_entry_comes_back_as_it_was(store, changes):
    entry = make_entry(**changes)
    await store.put(entry)
    assert list(await store.find(entry.key)) == [entry]
    assert list(await store.load([entry.id])) == [entry]


async def test_an_unknown_key_has_no_entries(store):
    assert list(await store.find(digest("never seen"))) == []


async def test_entries_load_in_the_order_asked_and_without_what_is_gone(store):
    a, b, c = make_entry("a"), make_entry("b"), make_entry("c")
    for entry in (a, b, c):
        await store.put(entry)
    assert list(await store.load(["id-c", "never", "id-a"])) == [c, a]
    assert list(await store.load([])) == []


async def test_the_newest_entry_of_a_key_replaces_the_one_before(store):
    older = make_entry("older", key=digest("same"))
    newer = make_entry("newer", key=digest("same"), created_at=NOW + 1)
    await store.put(older)
    await store.put(newer)
    assert list(await store.find(digest("same"))) == [newer]
    assert list(await store.load([older.id])) == []
    assert await store.count() == 1


async def test_the_newest_samples_of_a_key_stay_oldest_first(store):
    entries = [make_entry(str(n), key=digest("same"), created_at=NOW + n) for n in range(5)]
    for entry in entries:
        await store.put(entry, samples=3)
    assert list(await store.find(digest("same"))) == entries[2:]


async def test_putting_an_id_again_replaces_it(store):
    await store.put(make_entry("a"))
    again = make_entry("a", key=digest("elsewhere"), answer=b"{}")
    await store.put(again)
    assert list(await store.find(digest("key a"))) == []
    assert list(await store.find(digest("elsewhere"))) == [again]
    same_key = replace(again, answer=b'{"n":1}')
    await store.put(same_key)
    assert list(await store.find(digest("elsewhere"))) == [same_key]
    assert await store.count() == 1


async def test_concurrent_puts_of_one_key_leave_one_whole_entry(store):
    entries = [make_entry(str(n), key=digest("same"), answer=str(n).encode() * 1000) for n in range(50)]
    await asyncio.gather(*(store.put(entry) for entry in entries))
    (left,) = await store.find(digest("same"))
    assert left in entries
    assert await store.count() == 1


async def test_concurrent_puts_from_two_processes_leave_one_whole_entry(world):
    one, two = await world.open(), await world.open()
    entries = [make_entry(str(n), key=digest("same"), answer=str(n).encode() * 1000) for n in range(40)]
    await asyncio.gather(*((one, two)[n % 2].put(entry) for n, entry in enumerate(entries)))
    await asyncio.gather(one.changes(), two.changes())
    found = [list(await store.find(digest("same"))) for store in (one, two)]
    assert found[0] == found[1]
    assert len(found[0]) == 1
    assert found[0][0] in entries


# --- expiry, use, limits


async def test_an_expired_entry_is_found_until_it_is_swept(store):
    await store.put(make_entry("a", expires_at=NOW - 1))
    assert len(await store.find(digest("key a"))) == 1
    assert await store.sweep(NOW) == 1
    assert list(await store.find(digest("key a"))) == []
    assert await store.count() == 0


async def test_a_lifetime_of_zero_is_no_lifetime_and_not_an_endless_one(store):
    await store.put(make_entry("a", expires_at=NOW))
    await store.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    assert await embedded(store) == {}
    assert await store.sweep(NOW) == 1


async def test_an_entry_lives_up_to_its_expiry(store):
    await store.put(make_entry("a", expires_at=NOW + 0.001))
    assert await store.sweep(NOW) == 0


async def test_use_does_not_prolong_an_answer_s_life(world, store):
    entry = make_entry("a", expires_at=NOW + 10)
    await store.put(entry)
    for second in range(10):
        await store.touch({"id-a": 5}, NOW + second)
    assert list(await store.find(entry.key)) == [entry]
    assert await store.sweep(NOW + 10) == 1


async def test_a_batch_of_hits_that_is_told_again_counts_once(world, store):
    other = await world.open()
    await store.put(make_entry("a"))
    assert await store.touch({"id-a": 2}, NOW, batch=1)
    assert not await store.touch({"id-a": 2}, NOW, batch=1)
    assert await store.touch({"id-a": 1}, NOW, batch=2)
    assert await other.touch({"id-a": 1}, NOW, batch=1)
    for _ in range(2):
        assert await store.touch({"id-a": 1}, NOW)
    assert (await store.uses(["id-a"]))["id-a"].hits == 6


async def test_past_the_limit_the_least_recently_used_entry_goes(world):
    store = await world.open(StoreLimits(max_entries=3))
    for name in "abc":
        world.now += 1
        await store.put(make_entry(name))
    await store.touch({"id-a": 1}, world.now + 1)
    world.now += 2
    await store.put(make_entry("d"))
    assert await everything(store) == ["id-a", "id-c", "id-d"]
    assert list(await store.find(digest("key b"))) == []


async def test_past_the_limit_expired_entries_go_first(world):
    store = await world.open(StoreLimits(max_entries=2))
    await store.put(make_entry("used-long-ago"))
    world.now += 1
    await store.put(make_entry("expired", expires_at=world.now))
    await store.put(make_entry("new"))
    assert await everything(store) == ["id-new", "id-used-long-ago"]


async def test_the_limit_on_bytes_holds(world):
    answer = b"x" * 10_000
    size = make_entry(answer=answer).size
    store = await world.open(StoreLimits(max_bytes=3 * size + size // 2))
    for name in "abcdef":
        world.now += 1
        await store.put(make_entry(name, answer=answer))
    assert await everything(store) == ["id-d", "id-e", "id-f"]


async def test_an_entry_larger_than_the_store_is_refused_and_evicts_nothing(world):
    store = await world.open(StoreLimits(max_bytes=5_000))
    await store.put(make_entry("small"))
    with pytest.raises(PortUnavailable):
        await store.put(make_entry("large", answer=b"x" * 5_000))
    assert await everything(store) == ["id-small"]


async def test_a_sweep_keeps_limits_that_were_lowered(world):
    before = await world.open()
    for name in "abcd":
        world.now += 1
        await before.put(make_entry(name))
    after = await world.open(StoreLimits(max_entries=2))
    assert await after.sweep(world.now) == 2
    assert await everything(after) == ["id-c", "id-d"]


@pytest.mark.parametrize("limits", [{"max_entries": 0}, {"max_bytes": 0}, {"max_entries": -1}])
def test_limits_that_allow_nothing_are_refused_and_not_taken_for_none(limits):
    with pytest.raises(ConfigError):
        StoreLimits(**limits)


# --- another time to expire


async def test_an_entry_may_live_longer_or_shorter(store):
    entry = make_entry("a", expires_at=NOW + 10)
    await store.put(entry)
    assert await store.expire_at("id-a", NOW + 20) is True
    assert list(await store.find(entry.key)) == [replace(entry, expires_at=NOW + 20)]
    assert await store.sweep(NOW + 15) == 0
    await store.expire_at("id-a", NOW)
    assert await store.sweep(NOW) == 1


async def test_an_entry_that_is_gone_cannot_be_given_another_time(store):
    assert await store.expire_at("id-never", NOW) is False


async def test_a_pinned_entry_neither_expires_nor_makes_room(world):
    store = await world.open(StoreLimits(max_entries=2))
    await store.put(make_entry("a"))
    await store.expire_at("id-a", math.inf)
    for name in "bcd":
        world.now += 1
        await store.put(make_entry(name))
    await store.sweep(NOW + 1e9)
    assert await everything(store) == ["id-a"]
    (entry,) = await store.load(["id-a"])
    assert entry.expires_at == math.inf


async def test_a_pinned_entry_has_its_place_in_the_index(store):
    await store.put(make_entry("a"))
    await store.set_vector("id-a", direction(1, 0, 0, 0), "id-root")
    await store.expire_at("id-a", math.inf)
    assert (await embedded(store))["id-a"].root == "id-root"


@pytest.mark.parametrize("placed", [True, False], ids=["placed in the index", "exact only"])
async def test_every_process_is_told_that_an_entry_has_another_time_to_expire(world, placed):
    here, there = await world.open(), await world.open()
    await here.put(make_entry("a"))
    if placed:
        await here.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    for store in (here, there):
        await store.changes()
    await here.expire_at("id-a", math.inf)
    for store in (here, there):
        (change,) = await store.changes()
        assert (change.entry_id, change.key, change.row is not None) == ("id-a", digest("key a"), placed)
        (entry,) = await store.find(digest("key a"))
        assert entry.expires_at == math.inf
        assert list(await store.changes()) == []


# --- uses


async def test_how_entries_were_used_is_told(store):
    await store.put(make_entry("a"), make_entry("b"))
    await store.touch({"id-a": 2}, NOW + 5)
    await store.touch({"id-a": 1}, NOW + 7)
    assert await store.uses(["id-a", "id-b", "never"]) == {"id-a": Uses(3, NOW + 7), "id-b": Uses(0, NOW)}


async def test_the_uses_of_nothing_are_none(store):
    assert await store.uses([]) == {}


# --- changes


async def test_a_quiet_store_has_no_changes(store):
    assert list(await store.changes()) == []


async def test_a_process_is_not_told_what_it_wrote_itself(store):
    await store.put(make_entry("a"))
    await store.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    assert list(await store.changes()) == []


async def test_a_process_learns_what_another_one_stored(world):
    here, there = await world.open(), await world.open()
    entry = make_entry("a")
    await there.put(entry)
    await there.set_vector("id-a", direction(0, 0, 1, 0), "id-a")
    (change,) = await here.changes()
    assert (change.entry_id, change.key, change.scope) == (entry.id, entry.key, entry.scope)
    assert change.row.vector.tolist() == [0, 0, 1, 0]
    assert list(await here.find(entry.key)) == [entry]
    assert list(await here.changes()) == []


async def test_a_process_learns_what_another_one_removed(world):
    here, there = await world.open(), await world.open()
    await here.put(make_entry("a"))
    await there.changes()
    await there.remove(Selection())
    (change,) = await here.changes()
    assert (change.entry_id, change.key, change.row) == ("id-a", digest("key a"), None)
    assert list(await here.find(digest("key a"))) == []


async def test_what_came_and_went_again_is_told_as_gone(world):
    here, there = await world.open(), await world.open()
    await there.put(make_entry("a"))
    await there.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    await there.remove(Selection())
    assert [change.row for change in await here.changes()] == [None]


async def test_changes_that_a_caller_did_not_wait_for_are_told_to_the_next(world):
    here, there = await world.open(), await world.open()
    await there.put(make_entry("a"))
    await there.set_vector("id-a", direction(1, 0, 0, 0), "id-a")
    asking = asyncio.ensure_future(here.changes())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert [change.entry_id for change in await here.changes()] == ["id-a"]


async def test_whatever_went_is_told_even_to_whom_removed_it(world):
    store = await world.open(StoreLimits(max_entries=2))
    for name in "abc":
        world.now += 1
        await store.put(make_entry(name))
    assert [change.entry_id for change in await store.changes()] == ["id-a"]
    await store.put(make_entry("newer-b", key=digest("key b"), created_at=NOW + 1))
    assert [change.entry_id for change in await store.changes()] == ["id-b"]
    await store.remove(Selection(ids=["id-c"]))
    assert [change.entry_id for change in await store.changes()] == ["id-c"]
    await store.sweep(NOW + 10_000)
    assert [(change.entry_id, change.row) for change in await store.changes()] == [("id-newer-b", None)]
    assert list(await store.changes()) == []


# --- credentials


async def test_a_credential_is_unproven_until_it_is_proven(store):
    assert await store.proven_at("hash") is None
    await store.prove("hash", NOW)
    assert await store.proven_at("hash") == NOW
    assert await store.proven_at("another") is None


async def test_a_proof_is_not_set_back_by_one_that_comes_late(store):
    await store.prove("hash", NOW)
    await store.prove("hash", NOW - 50)
    assert await store.proven_at("hash") == NOW


async def test_a_revoked_credential_is_unproven(store):
    await store.prove("hash", NOW)
    await store.revoke("hash")
    await store.revoke("hash")
    assert await store.proven_at("hash") is None


async def test_another_process_sees_proofs_and_revocations(world):
    here, there = await world.open(), await world.open()
    await here.prove("hash", 0.0)
    assert await there.proven_at("hash") == 0.0
    await there.revoke("hash")
    assert await here.proven_at("hash") is None


async def test_what_other_processes_learnt_of_credentials_is_told_once(world):
    here, there = await world.open(), await world.open()
    await there.prove("before", NOW)
    assert await here.proofs() == {}  # from here on
    await here.prove("own", NOW)
    await there.prove("kept", NOW)
    await there.prove("refused", NOW)
    await there.revoke("refused")
    await there.revoke("never proven")
    assert await here.proofs() == {"kept": NOW, "refused": 0.0}
    assert await here.proofs() == {}
    await there.prove("refused", NOW + 1)
    assert await here.proofs() == {"refused": NOW + 1}


async def test_a_credential_that_was_refused_may_be_proven_again_at_an_earlier_time(store):
    await store.prove("hash", NOW)
    await store.revoke("hash")
    await store.prove("hash", NOW - 1)
    assert await store.proven_at("hash") == NOW - 1
