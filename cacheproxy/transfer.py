"""Entries out of a store, and into another. Over the ports alone.

The file is JSON lines: a head, then one entry a line with every field, hashes as hexadecimal digits and the answer
as text. Vectors stay behind: they belong to one embedding model, and are made anew from the prompts. Roots, which tell
whose answer an entry shares, come along: a line has its ``root`` where that is another entry. A pinned entry expires at
``null``.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from cacheproxy import jsontext, records
from cacheproxy.errors import BadRequest
from cacheproxy.model import EVERYTHING, Selection
from cacheproxy.ports import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from cacheproxy.model import Entry

FORMAT: Final = 1
_HEAD: Final = {"cacheproxy_entries": FORMAT}
_PAGE: Final = 256


class RootKeeper(Store, Protocol):
    """A store that can keep roots for vectors which are still to be made."""

    async def keep_roots(self, roots: Mapping[str, str]) -> None:
        """Keep these entries' roots, by id."""


class MovableStore(RootKeeper, Protocol):
    """A store whose vectors can be named, and taken in under that name."""

    async def stored_embedding(self) -> Any:
        """The model and the dimension of what it holds, as a pair of attributes; None without any."""

    async def claim_embedding(self, model: str, dimension: int) -> None:
        """Say which vectors come next. Raises ``ConfigError`` where there are those of another model."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. ``to_embed`` counts the entries that similar questions cannot find yet."""

    entries: int = 0
    expired: int = 0
    to_embed: int = 0


async def pages(store: Store, selection: Selection = EVERYTHING) -> AsyncIterator[Sequence[Entry]]:
    """Every selected entry, page by page, in the order of the ids."""
    after = ""
    while page := await store.browse(selection, limit=_PAGE, after=after):
        yield page
        after = page[-1].id


async def export_entries(store: Store, selection: Selection = EVERYTHING) -> AsyncIterator[bytes]:
    """The selected entries as the lines of a file, head first."""
    yield jsontext.dump(_HEAD) + b"\n"
    async for page in pages(store, selection):
        roots = await store.roots([entry.id for entry in page])
        for entry in page:
            root = roots.get(entry.id, entry.id)
            yield jsontext.dump(records.write(entry) | ({} if root == entry.id else {"root": root})) + b"\n"


async def import_entries(
    store: RootKeeper,
    lines: Iterable[bytes] | AsyncIterable[bytes],
    *,
    now: float,
    samples: int = 1,
    stored: Callable[[Entry, str], Awaitable[None]] | None = None,
) -> Imported:
    """Store the entries of a file that have not expired. ``stored`` is told of each, with its root.

    Raises ``BadRequest``, naming the line, for a file that is no export; the entries above that line are stored.
    """
    number = count = expired = to_embed = 0
    async for line in each_line(lines):
        number += 1
        if number == 1:
            if _object(line, 1) != _HEAD:
                raise BadRequest("line 1: this is no file that `cacheproxy cache export` of this version wrote")
            continue
        entry, root = _entry(line, number)
        if entry.expires_at <= now:
            expired += 1
            continue
        await store.put(entry, samples=samples)
        if root != entry.id:
            await store.keep_roots({entry.id: root})
        if stored is not None:
            await stored(entry, root)
        count += 1
        to_embed += entry.semantic
    if not number:
        raise BadRequest("line 1: there is nothing in it")
    return Imported(count, expired, to_embed)


async def each_line(lines: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The lines of a file that is here, or comes."""
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line


def _entry(line: bytes, number: int) -> tuple[Entry, str]:
    """The entry on a line, and its root."""
    values = _object(line, number)
    root = values.pop("root", values.get("id"))
    try:
        entry = records.read(values)
    except ValueError as error:
        raise BadRequest(f"line {number}: {error}") from None
    if not isinstance(root, str):
        raise BadRequest(f"line {number}: root: not a text")
    return entry, root


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        value = jsontext.parse(line)
    except ValueError as error:
        raise BadRequest(f"line {number} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"line {number} is no JSON object")
    return value
