"""Keys of our own, which callers show to this proxy and never to an upstream. Pure.

A key is 256 random bits and is kept as its SHA-256 alone: a slow hash is for what people make up, not for what nobody
can guess. A tenant is a name, so that a key can be replaced by another of the same tenant and the cache is kept.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

KEY_BYTES: Final = 32
SHORTEST: Final = 16
"""Characters of a key that an operator made up."""
_PREFIX: Final = "cpk_"
_HINT: Final = 9
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HASH: Final = re.compile(r"[0-9a-f]{16}")
_RESERVED: Final = frozenset({"anonymous", "shared"})


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """A key as it is kept: everything but the key."""

    name: str
    tenant: str
    digest: bytes
    """SHA-256 of the key, 32 bytes."""
    hint: str
    """How the key begins, so that its holder can be told which one it is."""
    created_at: float
    expires_at: float
    """Seconds since the epoch; infinite for one that never expires."""


def new_key(chance: bytes) -> str:
    """A key made of ``KEY_BYTES`` random bytes, in letters, digits, - and _."""
    return _PREFIX + base64.urlsafe_b64encode(chance).rstrip(b"=").decode()


def digest_of(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def hint_of(key: str) -> str:
    """The part of a key that may be shown."""
    return key[:_HINT]


def named_key(text: str) -> tuple[str, str]:
    """``[TENANT:]KEY`` as (tenant, key), the tenant maybe empty. Raises ``ValueError``, which never quotes a key."""
    tenant, mark, key = text.rpartition(":")
    if mark:
        tenant_name(tenant)
    if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"must be KEY or TENANT:KEY, a key having at least {SHORTEST} letters, digits or signs")
    return tenant, key


def tenant_name(text: str) -> str:
    """A tenant's name, or a key's. Raises ``ValueError`` for what is none, or is what other callers are called."""
    if not _NAME.fullmatch(text) or text in _RESERVED or _HASH.fullmatch(text):
        raise ValueError(
            "a name has lower-case letters, digits, '.', '-' and '_', at most 63, begins with a letter or digit, "
            "and is not anonymous, shared or 16 hexadecimal digits"
        )
    return text
