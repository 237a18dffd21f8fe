"""Which entries a selection means, in every ``Store``."""

import pytest
from support.stores import NOW, digest, direction, make_entry

from cacheproxy.errors import BadRequest
from cacheproxy.model import Selection


async def everything(store):
    return [entry.id for entry in await store.browse(Selection(), limit=1000)]


@pytest.fixture
async def varied(store):
    first, second = bytes.fromhex("ab" * 32), bytes.fromhex("ac" * 32)
    await store.put(make_entry("a", scope=first, tags=("red",), namespace="", created_at=NOW, prompt="Straße 100%"))
    await store.put(make_entry("b", scope=first, tags=("red", "blue"), namespace="team", created_at=NOW + 10))
    await store.put(make_entry("c", scope=second, tags=(), namespace="team", created_at=NOW + 20, model="m\udfff"))
    await store.put(
        make_entry("d", scope=b"\xff" * 32, tags=("blue",), created_at=NOW + 30, tenant="t2", prompt="\ud800")
    )
    await store.set_vector("id-a", direction(1, 0, 0, 0), "id-d")
    await store.set_vector("id-b", direction(1, 0, 0, 0), "id-b")
    return store


SELECTIONS = [
    pytest.param(Selection(), "abcd", id="everything"),
    pytest.param(Selection(ids=["id-c", "id-a", "id-never"]), "ac", id="by id"),
    pytest.param(Selection(scope_prefix="ab"), "ab", id="by scope"),
    pytest.param(Selection(scope_prefix="a"), "abc", id="by half a byte of a scope"),
    pytest.param(Selection(scope_prefix="AB" * 32), "ab", id="by a whole scope in capitals"),
    pytest.param(Selection(scope_prefix="ff"), "d", id="by the last scope there can be"),
    pytest.param(Selection(scope_prefix="f"), "d", id="by half a byte of the last scope"),
    pytest.param(Selection(scope_prefix="00"), "", id="by a scope that is not there"),
    pytest.param(Selection(tag="red"), "ab", id="by tag"),
    pytest.param(Selection(tag="re"), "", id="by part of a tag"),
    pytest.param(Selection(namespace="team"), "bc", id="by namespace"),
    pytest.param(Selection(namespace=""), "ad", id="by the default namespace"),
    pytest.param(Selection(older_than=NOW + 20), "ab", id="by age"),
    pytest.param(Selection(older_than=0.0), "", id="older than the epoch"),
    pytest.param(Selection(text="WHAT is"), "bc", id="by text, whatever the case"),
    pytest.param(Selection(text="STRASSE"), "a", id="by text that folds"),
    pytest.param(Selection(text="100%"), "a", id="by text that is no pattern"),
    pytest.param(Selection(text="_hat"), "", id="by text that is no wildcard"),
    pytest.param(Selection(text="\ud800"), "d", id="by a lone surrogate"),
    pytest.param(Selection(model="gpt-4o-mini"), "abd", id="by model"),
    pytest.param(Selection(model="m\udfff"), "c", id="by a model with a lone surrogate"),
    pytest.param(Selection(model="gpt-4o"), "", id="by part of a model"),
    pytest.param(Selection(tenant="t2"), "d", id="by tenant"),
    pytest.param(Selection(root="id-d"), "ad", id="by root"),
    pytest.param(Selection(root="id-b"), "b", id="by a root of its own"),
    pytest.param(Selection(tag="blue", namespace="team"), "b", id="by several conditions"),
    pytest.param(Selection(text="what", tag="red", model="gpt-4o-mini"), "b", id="by new and old conditions"),
]


@pytest.mark.parametrize(("selection", "names"), SELECTIONS)
async def test_what_is_selected_is_listed(varied, selection, names):
    listed = await varied.browse(selection, limit=10)
    assert [entry.id for entry in listed] == [f"id-{name}" for name in names]


@pytest.mark.parametrize(("selection", "names"), SELECTIONS)
async def test_what_is_selected_is_counted(varied, selection, names):
    assert await varied.count(selection) == len(names)


@pytest.mark.parametrize(("selection", "names"), SELECTIONS)
async def test_what_is_selected_is_removed_and_nothing_else(varied, selection, names):
    assert await varied.remove(selection) == len(names)
    assert await everything(varied) == [f"id-{name}" for name in "abcd" if name not in names]
    assert await varied.count() == 4 - len(names)
    for name in "abcd":
        assert len(await varied.find(digest(f"key {name}"))) == (name not in names)


async def test_a_scope_that_is_not_hexadecimal_is_refused(store):
    with pytest.raises(BadRequest):
        await store.remove(Selection(scope_prefix="xyz"))


async def test_entries_are_listed_page_by_page(varied):
    first = await varied.browse(Selection(), limit=3)
    second = await varied.browse(Selection(), limit=3, after=first[-1].id)
    assert [entry.id for entry in (*first, *second)] == ["id-a", "id-b", "id-c", "id-d"]
    assert list(await varied.browse(Selection(), limit=0)) == []
