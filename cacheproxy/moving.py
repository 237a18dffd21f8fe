"""Everything that a store keeps, out of it and into another: a file of JSON lines, or from one to the other at once.

A head, then one thing a line under its kind: entries with their roots and how often they were served, their vectors,
verdicts, virtual keys and the ledger. What Python and Redis write as doubles comes back as the same doubles; vectors
are as near as float16 keeps them. Two things stay behind: when entries were last used, which counts from the day they
came, and the proofs of credentials, which live for an hour.

The secret that keys are hashed with is no part of a file. Without it the entries are there and nobody finds them.
"""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from pydantic import TypeAdapter

from cacheproxy import jsontext, records
from cacheproxy.core.keys import VirtualKey
from cacheproxy.core.labels import LABELS_STORED, Label
from cacheproxy.errors import BadRequest, ConfigError
from cacheproxy.transfer import each_line, pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.ports import Keys, Labels, Ledger
    from cacheproxy.transfer import MovableStore

FORMAT: Final = 1
HEAD: Final = "cacheproxy_everything"
_ROWS_AT_ONCE: Final = 500
_EVERY_SAMPLE: Final = 1_000_000
"""However many answers a key has: the next one that is stored leaves as many as the settings say."""
_VECTOR: Final = np.dtype("<f4")
_LABEL: Final = TypeAdapter(Label)
_KEY: Final = TypeAdapter(VirtualKey)


class Everything(Protocol):
    """What a process keeps, all in one place."""

    @property
    def store(self) -> MovableStore:
        """The entries."""

    @property
    def ledger(self) -> Ledger:
        """The sums."""

    @property
    def labels(self) -> Labels:
        """The verdicts."""

    @property
    def keys(self) -> Keys:
        """The virtual keys."""


@dataclass(slots=True)
class Moved:
    """How much of each there was. ``ledger_kept`` says that the ledger there had sums of its own, and got none."""

    entries: int = 0
    expired: int = 0
    vectors: int = 0
    labels: int = 0
    keys: int = 0
    ledger_rows: int = 0
    ledger_kept: bool = False


async def written(kept: Everything) -> AsyncIterator[bytes]:
    """Everything, as the lines of a file."""
    yield _line(HEAD, FORMAT)
    for part in (_entries(kept.store), _vectors(kept.store), _verdicts(kept.labels)):
        async for kind, value in part:
            yield _line(kind, value)
    for key in await kept.keys.every():
        endless = {"expires_at": None} if key.expires_at == float("inf") else {}  # JSON has no infinity
        yield _line("key", asdict(key) | {"digest": key.digest.hex()} | endless)
    for row in await kept.ledger.rows():
        yield _line("ledger", row)


async def _entries(store: MovableStore) -> AsyncIterator[tuple[str, Any]]:
    async for page in pages(store):
        ids = [entry.id for entry in page]
        roots, uses = await store.roots(ids), await store.uses(ids)
        for entry in page:
            hits = uses[entry.id].hits if entry.id in uses else 0
            yield "entry", records.write(entry) | {"root": roots.get(entry.id), "hits": hits}


async def _vectors(store: MovableStore) -> AsyncIterator[tuple[str, Any]]:
    embedding = await store.stored_embedding()
    if embedding is None:
        return
    await store.claim_embedding(embedding.model, embedding.dimension)
    yield "embedding", {"model": embedding.model, "dimension": embedding.dimension}
    async for rows in store.vectors():
        for row in rows:
            numbers = base64.b64encode(row.vector.astype(_VECTOR).tobytes()).decode()
            yield "vector", {"entry": row.entry_id, "root": row.root, "numbers": numbers}


async def _verdicts(labels: Labels) -> AsyncIterator[tuple[str, Any]]:
    for pool in await labels.broken():
        yield "broken", pool
    for pool in await labels.pools():
        for label in await labels.recent(pool, LABELS_STORED):
            yield "label", {"pool": pool, **_LABEL.dump_python(label, mode="json")}
    for entry_id, note in (await labels.suspended()).items():
        yield "suspended", {"entry": entry_id, "note": note}
    for prompt_hash, root in sorted(await labels.blocked()):
        yield "blocked", {"prompt_hash": prompt_hash.hex(), "root": root}


async def taken_in(kept: Everything, lines: Iterable[bytes] | AsyncIterable[bytes], *, now: float) -> Moved:
    """Keep what the lines say. What is there already under the same name is replaced; again, and it is the same.

    A ledger that has sums gets none, since they would count twice. Raises ``BadRequest``, naming the line, for what
    ``written`` does not write: what stood above it is kept.
    """
    taking = _Taking(kept, now, Moved(ledger_kept=bool(await kept.ledger.rows())))
    number = 0
    async for line in each_line(lines):
        number += 1
        try:
            [(kind, value)] = jsontext.parse(line).items()
            if number == 1:
                if (kind, value) != (HEAD, FORMAT):
                    raise BadRequest("this is no file that `cacheproxy cache export` of this version wrote")  # noqa: TRY301 - told with its line below
                continue
            await taking.take(kind, value)
        except ConfigError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, BadRequest) as error:
            raise BadRequest(f"line {number}: {error}") from None
    if not number:
        raise BadRequest("line 1: there is nothing in it")
    await taking.finish()
    return taking.moved


class _Taking:
    """One taking in. Labels and the ledger go in many at a time."""

    def __init__(self, kept: Everything, now: float, moved: Moved) -> None:
        self._kept = kept
        self._now = now
        self.moved = moved
        self._labels: dict[str, list[Label]] = {}
        self._rows: list[Mapping[str, Any]] = []
        self._expired: set[str] = set()

    async def take(self, kind: str, value: Any) -> None:
        """Keep one thing."""
        match kind:
            case "entry":
                await self._take_entry(value)
            case "embedding":
                await self._kept.store.claim_embedding(value["model"], value["dimension"])
            case "vector":
                await self._take_vector(value)
            case "broken" | "label" | "suspended" | "blocked":
                await self._take_verdict(kind, value)
            case "key":
                await self._take_key(value)
            case "ledger":
                self._rows.append(value)
                if len(self._rows) >= _ROWS_AT_ONCE:
                    await self._book()
            case _:
                raise ValueError(f"what is {kind!r}?")

    async def _take_vector(self, value: JsonObject) -> None:
        if value["entry"] not in self._expired:
            vector = np.frombuffer(base64.b64decode(value["numbers"]), _VECTOR).astype(np.float32)
            await self._kept.store.set_vector(value["entry"], vector, value["root"])
            self.moved.vectors += 1

    async def _take_verdict(self, kind: str, value: Any) -> None:
        labels = self._kept.labels
        match kind:
            case "broken":
                await labels.forget(value, self._now)
            case "label":
                self._labels.setdefault(value.pop("pool"), []).append(_LABEL.validate_python(value))
            case "suspended":
                await labels.suspend(value["entry"], self._now, value["note"])
            case _:
                await labels.block(bytes.fromhex(value["prompt_hash"]), value["root"], self._now)

    async def _take_key(self, value: JsonObject) -> None:
        expires_at = float("inf") if value["expires_at"] is None else value["expires_at"]
        key = _KEY.validate_python(value | {"digest": bytes.fromhex(value["digest"]), "expires_at": expires_at})
        self.moved.keys += await self._kept.keys.add(key)

    async def finish(self) -> None:
        """Write what waits."""
        for pool, given in self._labels.items():
            known = set(await self._kept.labels.recent(pool, LABELS_STORED))
            new = [label for label in given if label not in known]
            await self._kept.labels.add(pool, new)
            self.moved.labels += len(new)
        await self._book()

    async def _take_entry(self, value: JsonObject) -> None:
        root, hits = value.pop("root"), value.pop("hits")
        entry = records.read(value)
        if entry.expires_at <= self._now:
            self._expired.add(entry.id)
            self.moved.expired += 1
            return
        store = self._kept.store
        await store.put(entry, samples=_EVERY_SAMPLE)
        if root is not None and root != entry.id:
            await store.keep_roots({entry.id: root})
        if hits:
            await store.touch({entry.id: hits}, self._now)
        self.moved.entries += 1

    async def _book(self) -> None:
        rows, self._rows = self._rows, []
        if rows and not self.moved.ledger_kept:
            await self._kept.ledger.book(rows)
            self.moved.ledger_rows += len(rows)


def _line(kind: str, value: Any) -> bytes:
    return jsontext.dump({kind: value}) + b"\n"
