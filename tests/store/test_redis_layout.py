from __future__ import annotations

import math

import pytest
from support.stores import NOW, make_entry

from cacheproxy.store.redis_layout import GRACE_S, Layout, decode_meta, encode_meta, life_ms, name_of, named, tags_text
from cacheproxy.store.vectors import EmbeddingName

LAYOUT = Layout("cache", 16)


def test_everything_of_a_shard_has_its_hash_tag():
    assert LAYOUT.key(3, "e", "id") == b"{cache:3}:e:id"
    assert LAYOUT.tag(3) == "{cache:3}"


@pytest.mark.parametrize("key", [b"\x00" * 32, b"\xff" * 32, b"\x12\x34" + b"\x00" * 30])
def test_an_id_of_ours_tells_the_shard_of_its_key(key):
    assert LAYOUT.shards_of_id(f"0123z{key[:2].hex()}") == (LAYOUT.shard_of(key),)


@pytest.mark.parametrize("entry_id", ["id-a", "", "0123456789ab", "0123z12", "0123z12345", "z12G4"])
def test_any_other_id_may_be_in_every_shard(entry_id):
    assert list(LAYOUT.shards_of_id(entry_id)) == list(range(16))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as usual"),
        pytest.param({"expires_at": math.inf}, id="pinned"),
        pytest.param({"namespace": "\ud800", "tags": ("\udfff", "a b"), "model": ""}, id="with lone surrogates"),
    ],
)
def test_what_selects_an_entry_comes_back(changes):
    entry = make_entry(**changes)
    meta = decode_meta(encode_meta(entry))
    assert {name: getattr(meta, name) for name in meta.__slots__} == {
        name: getattr(entry, name) for name in meta.__slots__
    }


@pytest.mark.parametrize("text", [None, b"", b"[]", b"{}", b'[2,"00"]', b"[1,2]", b"\xff"])
def test_what_does_not_select_an_entry_is_none(text):
    assert decode_meta(text) is None


def test_an_entry_outlives_its_expiry_by_a_grace_and_a_pinned_one_everything():
    assert life_ms(NOW + 10, NOW) == (10 + GRACE_S) * 1000
    assert life_ms(NOW - 10, NOW) == GRACE_S * 1000
    assert life_ms(math.inf, NOW) == 0


def test_tags_are_told_in_letters_without_meaning():
    assert tags_text(("a b", "a b", "", "\ud800")) == b"612062 eda080"


def test_the_name_of_embeddings_comes_back():
    name = EmbeddingName("a model/with spaces", 384)
    assert named(name_of(name)) == name
