"""What every ``Keys`` promises."""

import math
from dataclasses import replace

import pytest

from cacheproxy.core.keys import VirtualKey, digest_of

NOON = 1_800_000_000.0


@pytest.fixture
async def opened(world):
    """Opens the keys as several processes would."""

    async def open_keys():
        return (await world.kept()).keys

    return open_keys


@pytest.fixture
async def keys(opened):
    return await opened()


def key(name="alice", **changes):
    made = VirtualKey(name, f"tenant-of-{name}", digest_of(f"key of {name}"), "cpk_abcde", NOON, math.inf)
    return replace(made, **changes)


async def test_a_key_comes_back_as_it_was(keys):
    given = [key("alice"), key("bob", expires_at=NOON + 0.5)]
    assert [await keys.add(each) for each in given] == [True, True]
    assert list(await keys.every()) == given


async def test_keys_come_in_the_order_of_their_names(keys):
    for name in ("b", "c", "a"):
        await keys.add(key(name))
    assert [each.name for each in await keys.every()] == ["a", "b", "c"]


async def test_a_name_that_is_taken_stays_whose_it_is(keys):
    await keys.add(key())
    assert not await keys.add(key(digest=digest_of("another")))
    assert list(await keys.every()) == [key()]


async def test_a_tenant_may_have_several_keys(keys):
    await keys.add(key("old", tenant="research"))
    assert await keys.add(key("new", tenant="research"))


async def test_a_revoked_key_is_gone_and_its_name_is_free(keys):
    await keys.add(key("alice"))
    await keys.add(key("bob"))
    assert await keys.revoke("alice")
    assert [each.name for each in await keys.every()] == ["bob"]
    assert await keys.add(key("alice", digest=digest_of("another")))


async def test_revoking_what_is_not_there_does_nothing(keys):
    before = await keys.version()
    assert not await keys.revoke("nobody")
    assert await keys.version() == before


async def test_every_change_is_another_version(keys):
    seen = [await keys.version()]
    await keys.add(key("alice"))
    seen.append(await keys.version())
    await keys.add(key("bob"))
    seen.append(await keys.version())
    await keys.revoke("bob")
    seen.append(await keys.version())
    assert len(set(seen)) == 4
    assert await keys.version() == seen[-1]


async def test_other_processes_and_later_ones_see_the_keys(opened, keys):
    other = await opened()
    before = await other.version()
    await keys.add(key())
    assert await other.version() != before
    assert list(await other.every()) == [key()]
    assert list(await (await opened()).every()) == [key()]
