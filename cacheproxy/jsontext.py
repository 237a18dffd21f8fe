"""JSON text: parsing that loses nothing, and one canonical form to hash.

orjson does the work where it is exact. It turns integers past 64 bits into floats and refuses lone surrogates; texts
with either go through the standard library, so that two requests that differ never look the same.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, TypeAlias

import orjson

Json: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]

_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}")


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def parse(text: bytes) -> Json:
    """The value of a JSON text in UTF-8. Raises ``ValueError`` (with a position in its message) for anything else."""
    if _LONG_NUMBER.search(text) is None:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # the standard library accepts lone surrogates, and words its refusals the same way
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump(value: Json) -> bytes:
    """Compact JSON in UTF-8, members in the order that they have."""
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()


def canonical(value: Json) -> bytes:
    """Compact JSON with sorted members: equal values give equal bytes, whatever the order of their members."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError):
        return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=True).encode()
