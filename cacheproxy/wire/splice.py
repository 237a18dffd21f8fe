"""Edits members of a JSON object's text in place: what is not edited keeps every byte, its white space included.

Only the object's own members are meant, not those of objects inside it. A name counts however it is escaped, and a
name that occurs twice is edited twice, so that every reader of the text agrees. Anything but one JSON object raises
``ValueError``.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from cacheproxy.jsontext import dump, parse

# The standard library's scanner, in C, finds where a value ends. It reads Latin-1, in which each byte is one
# character and JSON's own punctuation is itself; what it makes of the numbers does not matter.
_SCANNER: Final = json.JSONDecoder(parse_int=str, parse_float=str, strict=False)
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class _Member(NamedTuple):
    """Where one member stands: ``start`` is its name's offset, ``value`` and ``end`` enclose its value."""

    name: str
    start: int
    value: int
    end: int


class _Scan(NamedTuple):
    """All members in their order; ``end`` is the offset right behind the last one or behind the opening brace."""

    members: list[_Member]
    end: int


def member(raw: bytes, name: str) -> bytes | None:
    """The text of a member's value (the last one's, as parsers take it); None when there is no such member."""
    return _value(raw, _scan(raw), name)


def remove_member(raw: bytes, name: str) -> bytes:
    """The text without the member, its comma and the white space behind that."""
    members, end = _scan(raw)
    kept = [place for place, found in enumerate(members) if found.name != name]
    if len(kept) == len(members):
        return raw
    left = [raw[: members[0].start]]
    if kept:
        left += [raw[members[place].start : members[place + 1].start] for place in kept[:-1]]
        left.append(raw[members[kept[-1]].start : members[kept[-1]].end])
    return b"".join(left) + raw[end:]


def set_member(raw: bytes, name: str, value_json: bytes) -> bytes:
    """The text with the member's value replaced, or with the member behind all others."""
    return _with_value(raw, _scan(raw), name, value_json)


def with_stream_usage(raw: bytes) -> bytes:
    """The request's text with ``stream_options.include_usage`` true and every other stream option as it was."""
    scan = _scan(raw)
    options = _value(raw, scan, "stream_options")
    asking = (
        b'{"include_usage":true}'
        if options is None or options == b"null"
        else set_member(options, "include_usage", b"true")
    )
    return _with_value(raw, scan, "stream_options", asking)


def _value(raw: bytes, scan: _Scan, name: str) -> bytes | None:
    for found in reversed(scan.members):
        if found.name == name:
            return raw[found.value : found.end]
    return None


def _with_value(raw: bytes, scan: _Scan, name: str, value_json: bytes) -> bytes:
    edited: list[bytes] = []
    copied = 0
    for found in scan.members:
        if found.name == name:
            edited += (raw[copied : found.value], value_json)
            copied = found.end
    if not edited:
        comma = b"," if scan.members else b""
        edited = [raw[: scan.end], comma, dump(name), b":", value_json]
        copied = scan.end
    return b"".join(edited) + raw[copied:]


def _scan(raw: bytes) -> _Scan:
    text = raw.decode("latin-1")
    position = _skip_space(text, 0)
    _expect(text, position, "{")
    end = position + 1
    members: list[_Member] = []
    position = _skip_space(text, end)
    if text[position : position + 1] != "}":
        while True:
            start = position
            _expect(text, position, '"')
            position = _value_end(text, start)
            name = parse(raw[start:position])
            position = _skip_space(text, position)
            _expect(text, position, ":")
            value = _skip_space(text, position + 1)
            end = _value_end(text, value)
            members.append(_Member(name, start, value, end))
            position = _skip_space(text, end)
            if text[position : position + 1] != ",":
                break
            position = _skip_space(text, position + 1)
    _expect(text, position, "}")
    if _skip_space(text, position + 1) != len(text):
        raise ValueError(f"more than one JSON object, at byte {position + 1}")
    return _Scan(members, end)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _expect(text: str, position: int, character: str) -> None:
    if text[position : position + 1] != character:
        raise ValueError(f"not a JSON object: {character} expected at byte {position}")


def _value_end(text: str, start: int) -> int:
    try:
        return _SCANNER.raw_decode(text, start)[1]
    except RecursionError:
        raise ValueError("nested too deeply") from None
