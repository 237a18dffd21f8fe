"""How entries and vectors look as bytes, in every store: versioned, checked, compressed when that pays.

An encoded entry is whole: nothing outside it is needed to decode it. Layout, version 2::

    version u8 | packing u8 | crc32 u32 | body       (big endian; the checksum covers version, packing and body)
    body, unpacked: head length u32 | head, a JSON array of every field but the answer | answer

An infinite time to expire is null, since JSON has no infinity.

Version 1 had an object for its head, whose names were most of a short entry. A release reads its own version and
the one before, so that two releases can share a store while one takes the other's place. A damaged text is
``CorruptEntry``, one of a later version ``NewerEntry``: the first may be deleted, the second is somebody else's and
stays; whoever cannot read it goes on as if it were absent.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cacheproxy import jsontext
from cacheproxy.model import Entry, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacheproxy.model import Vector

VERSION: Final = 2
_NAMED: Final = 1
"""The version whose head named its fields."""
_FRAME: Final = struct.Struct(">BBI")
_HEAD_LENGTH: Final = struct.Struct(">I")
_PLAIN: Final = 0
_ZLIB: Final = 1
_WORTH_PACKING: Final = 2048
"""Bytes from which compression is tried. On less it saves a kilobyte at best, and takes longer than all the rest."""
_FASTEST: Final = 1

_HALF: Final = np.dtype("<f2")
BYTES_PER_NUMBER: Final = _HALF.itemsize
_IN_HEAD: Final = tuple(field.name for field in fields(Entry) if field.name != "answer")
_USAGE: Final = tuple(field.name for field in fields(Usage))
_all_in_head: Final = attrgetter(*_IN_HEAD)
_all_in_usage: Final = attrgetter(*_USAGE)


class CorruptEntry(ValueError):
    """Bytes that are no encoded entry, or no longer the one that they were."""


class NewerEntry(ValueError):
    """An entry that a later release encoded."""


def encode(entry: Entry, *, version: int = VERSION) -> bytes:
    """The entry as bytes. Compresses, so it belongs in a thread of its own when answers are large.

    ``version`` may be the one before: what a release wrote that this one takes the place of.
    """
    special = {
        "key": entry.key.hex(),
        "scope": entry.scope.hex(),
        "usage": _all_in_usage(entry.usage),
        "expires_at": None if math.isinf(entry.expires_at) else entry.expires_at,
    }
    values = {name: special.get(name, value) for name, value in zip(_IN_HEAD, _all_in_head(entry), strict=True)}
    if version == _NAMED:
        usage = dict(zip(_USAGE, _all_in_usage(entry.usage), strict=True))
        head = jsontext.dump({**values, "usage": usage})
    else:
        head = jsontext.dump(list(values.values()))
    body = b"".join((_HEAD_LENGTH.pack(len(head)), head, entry.answer))
    packing = _PLAIN
    if len(body) >= _WORTH_PACKING:
        packed = zlib.compress(body, _FASTEST)
        if len(packed) < len(body):
            packing, body = _ZLIB, packed
    return _FRAME.pack(version, packing, _checksum(version, packing, body)) + body


def decode(text: bytes) -> Entry:
    """The entry that ``encode`` was given. Raises ``CorruptEntry`` or ``NewerEntry``."""
    if len(text) < _FRAME.size:
        raise CorruptEntry("too short to be an entry")
    version, packing, checksum = _FRAME.unpack_from(text)
    if version > VERSION:
        raise NewerEntry(f"encoded in version {version}, this release reads up to {VERSION}")
    body = text[_FRAME.size :]
    if checksum != _checksum(version, packing, body):
        raise CorruptEntry("the checksum does not match")
    try:
        if packing == _ZLIB:
            body = zlib.decompress(body)
        (length,) = _HEAD_LENGTH.unpack_from(body)
        start = _HEAD_LENGTH.size
        head = jsontext.parse(body[start : start + length])
        return (_from_named if version == _NAMED else _from_head)(head, answer=body[start + length :])
    except (zlib.error, struct.error, KeyError, TypeError, ValueError) as error:
        raise CorruptEntry(f"not an entry: {error}") from error


def folded(text: str) -> bytes:
    """A text to be looked for, or in, whatever the case of its letters. Lone surrogates, which SQLite refuses, stay."""
    return text.casefold().encode("utf-8", "surrogatepass")


def named(text: str) -> str:
    """A name as a text column takes it."""
    return text.encode("utf-8", "backslashreplace").decode()


def encode_vector(vector: Vector) -> bytes:
    """A vector as little-endian float16: half the bytes, and a cosine that moves by less than 0.001.

    Raises ``ValueError`` for a vector that points nowhere: with no length, or with infinities.
    """
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
        half = np.asarray(vector, dtype=_HALF)
    if not np.isfinite(half).all() or not half.any():
        raise ValueError("a vector must be finite and not zero")
    return half.tobytes()


def decode_vectors(texts: Sequence[bytes], dimension: int) -> Vector:
    """Encoded vectors of one dimension as rows of unit length, shape (len(texts), dimension)."""
    rows = np.frombuffer(b"".join(texts), dtype=_HALF).reshape(len(texts), dimension).astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return rows


def _checksum(version: int, packing: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(bytes((version, packing))))


def _from_head(head: Any, *, answer: bytes) -> Entry:
    values = dict(zip(_IN_HEAD, head, strict=True))
    return _entry(values, Usage(**dict(zip(_USAGE, values["usage"], strict=True))), answer)


def _from_named(head: Any, *, answer: bytes) -> Entry:
    values = {name: head[name] for name in _IN_HEAD}
    return _entry(values, Usage(**{name: values["usage"][name] for name in _USAGE}), answer)


def _entry(values: dict[str, Any], usage: Usage, answer: bytes) -> Entry:
    decoded: dict[str, Any] = {"key": bytes.fromhex(values["key"]), "scope": bytes.fromhex(values["scope"])}
    if values["expires_at"] is None:
        decoded["expires_at"] = math.inf
    return Entry(**{**values, **decoded, "usage": usage, "tags": tuple(values["tags"]), "answer": answer})
