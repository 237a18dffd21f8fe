"""JSON text: parsing that loses nothing, and one canonical form to hash.

orjson does the work where it is exact. It turns integers past 64 bits into floats and refuses lone surrogates; texts
with either go through the standard library, so that two requests that differ never look the same. What neither can
keep is refused: numbers past a double's range, text that is not UTF-8, nesting too deep to be written again.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, TypeAlias

import orjson

Json: TypeAlias = Any
JsonObject: TypeAlias = dict[str, Any]

# Every digit becomes a zero and the rest a blank, so that a run of digits is found by comparing memory: over ten
# times as fast as a regular expression, and every request passes here.
_DIGITS: Final = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_LONG_NUMBER: Final = b"0" * 19


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:20]} is out of range")
    return number


def parse(text: bytes) -> Json:
    """The value of a JSON text in UTF-8. Raises ``ValueError`` (with a position in its message) for anything else."""
    if _LONG_NUMBER not in text.translate(_DIGITS):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass  # the standard library accepts lone surrogates, and words its refusals the same way
    try:
        return json.loads(text.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump(value: Json) -> bytes:
    """Compact JSON in UTF-8, members in the order that they have. Raises ``ValueError`` when nested too deeply."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return _dump_slowly(value, sort_keys=False)


def canonical(value: Json) -> bytes:
    """Compact JSON with sorted members: equal values give equal bytes, whatever the order of their members.

    Raises ``ValueError`` when nested too deeply.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return _dump_slowly(value, sort_keys=True)


def _dump_slowly(value: Json, *, sort_keys: bool) -> bytes:
    """What orjson refuses: long integers, lone surrogates (written as escapes), more than 254 levels."""
    try:
        return json.dumps(value, separators=(",", ":"), sort_keys=sort_keys).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
