"""Entries as JSON objects, for files and for other processes: hashes as hexadecimal digits, the answer as text."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from cacheproxy.model import Entry

if TYPE_CHECKING:
    from cacheproxy.jsontext import JsonObject

FIELDS: Final = frozenset(field.name for field in fields(Entry))
_ENTRY: Final = TypeAdapter(Entry)


def write(entry: Entry) -> JsonObject:
    """An entry with every field."""
    return asdict(entry) | {
        "key": entry.key.hex(),
        "scope": entry.scope.hex(),
        "answer": entry.answer.decode("utf-8", "surrogatepass"),
        "expires_at": None if math.isinf(entry.expires_at) else entry.expires_at,  # JSON has no infinity
    }


def read(values: JsonObject) -> Entry:
    """The entry that was written so. Raises ``ValueError``, naming the field."""
    if values.keys() != FIELDS:
        raise ValueError(f"missing or unknown: {', '.join(sorted(values.keys() ^ FIELDS))}")
    try:
        decoded: dict[str, Any] = values | {
            "key": bytes.fromhex(values["key"]),
            "scope": bytes.fromhex(values["scope"]),
            "answer": values["answer"].encode("utf-8", "surrogatepass"),
            "expires_at": math.inf if values["expires_at"] is None else values["expires_at"],
        }
        return _ENTRY.validate_python(decoded)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
