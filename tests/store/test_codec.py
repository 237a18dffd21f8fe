"""Encoded entries come back whole or not at all."""

import math
import string
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.model import Entry, Usage
from cacheproxy.store import codec

texts = st.text(st.characters(), max_size=60)  # lone surrogates among them
moments = st.floats(0, 4e9)
counts = st.integers(0, 2**70)
entries = st.builds(
    Entry,
    id=st.text(string.ascii_letters, min_size=1, max_size=30),
    key=st.binary(max_size=32),
    scope=st.binary(max_size=32),
    tenant=texts,
    dialect=texts,
    upstream=texts,
    model=texts,
    prompt=texts,
    answer=st.binary(max_size=3000),
    usage=st.builds(Usage, counts, counts, counts, counts, estimated=st.booleans()),
    cost_usd=st.none() | st.floats(0, 1e6),
    latency_ms=moments,
    created_at=moments,
    expires_at=moments,
    semantic=st.booleans(),
    namespace=texts,
    tags=st.lists(texts, max_size=3).map(tuple),
)
ENTRY = Entry(
    id="id",
    key=b"key",
    scope=b"scope",
    tenant="",
    dialect="openai-chat",
    upstream="openai",
    model="m",
    prompt="Hello?",
    answer=b'{"text":"' + b"Hello there. " * 200 + b'"}',
    usage=Usage(1, 2),
    cost_usd=0.1,
    latency_ms=1.0,
    created_at=1.0,
    expires_at=2.0,
    semantic=True,
)


@given(entries)
def test_an_entry_decodes_to_itself(entry):
    assert codec.decode(codec.encode(entry)) == entry


def test_the_encoding_is_the_same_every_time():
    assert codec.encode(ENTRY) == codec.encode(replace(ENTRY))


def test_long_texts_are_compressed_when_that_pays():
    assert len(codec.encode(ENTRY)) < len(ENTRY.answer) / 3
    noise = np.random.default_rng(0).bytes(5000)
    assert len(codec.encode(replace(ENTRY, answer=noise))) < len(noise) + 600


@given(st.data())
def test_damage_anywhere_is_noticed(data):
    text = bytearray(codec.encode(ENTRY))
    position = data.draw(st.integers(0, len(text) - 1))
    text[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises((codec.CorruptEntry, codec.NewerEntry)):
        codec.decode(bytes(text))


@given(st.integers(0, len(codec.encode(ENTRY)) - 1))
def test_an_entry_cut_short_is_noticed(length):
    with pytest.raises(codec.CorruptEntry):
        codec.decode(codec.encode(ENTRY)[:length])


@given(st.binary(max_size=200))
def test_what_is_no_entry_is_noticed(text):
    with pytest.raises((codec.CorruptEntry, codec.NewerEntry)):
        codec.decode(text)


def test_an_entry_of_a_later_release_is_told_from_damage():
    with pytest.raises(codec.NewerEntry, match="version 3"):
        codec.decode(b"\x03" + codec.encode(ENTRY)[1:])


def test_an_entry_of_the_release_before_is_read():
    head = (
        b'{"id":"id","key":"6b6579","scope":"73636f7065","tenant":"","dialect":"openai-chat","upstream":"openai",'
        b'"model":"m","prompt":"Hello?","usage":{"input_tokens":1,"output_tokens":2,"cache_read_tokens":0,'
        b'"cache_write_tokens":0,"estimated":false},"cost_usd":0.1,"latency_ms":1.0,"created_at":1.0,"expires_at":2.0,'
        b'"semantic":true,"namespace":"","tags":["faq"]}'
    )
    stored = b"\x01\x00\x48\xe7\xdd\xbf" + len(head).to_bytes(4, "big") + head + b'{"text":"Hello."}'
    assert codec.decode(stored) == replace(ENTRY, answer=b'{"text":"Hello."}', tags=("faq",))


@given(entries)
def test_what_the_release_before_wrote_decodes_to_the_same(entry):
    assert codec.decode(codec.encode(entry, version=codec.VERSION - 1)) == entry


def test_an_entry_that_never_expires_comes_back_as_it_was():
    for entry in (replace(ENTRY, expires_at=math.inf), replace(ENTRY, expires_at=math.inf, prompt="\ud800")):
        assert codec.decode(codec.encode(entry)) == entry


@given(st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4).filter(lambda x: np.linalg.norm(x) > 0.1))
def test_a_vector_keeps_its_direction(numbers):
    vector = np.array(numbers, dtype=np.float32)
    vector /= np.linalg.norm(vector)
    text = codec.encode_vector(vector)
    (decoded,) = codec.decode_vectors([text], 4)
    assert len(text) == 8
    assert decoded.dtype == np.float32
    assert float(vector @ decoded) == pytest.approx(1, abs=1e-3)


def test_vectors_are_little_endian_halves():
    assert codec.encode_vector(np.array([1, 0, -2], np.float32)) == b"\x00\x3c\x00\x00\x00\xc0"


def test_no_vectors_decode_to_none():
    assert codec.decode_vectors([], 3).shape == (0, 3)


def test_a_vector_too_large_for_a_half_is_refused():
    with pytest.raises(ValueError, match="finite"):
        codec.encode_vector(np.array([1e6, 0], np.float32))
