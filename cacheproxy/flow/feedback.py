"""What people say of answers: a wrong one is withdrawn at once, and the pair that led to it never serves again."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from cacheproxy import jsontext
from cacheproxy.core import scope
from cacheproxy.errors import BadRequest, PortUnavailable, UnknownEntry
from cacheproxy.flow.asked import tenant_of
from cacheproxy.flow.messages import Whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cacheproxy.flow.asked import Asked, Rules
    from cacheproxy.flow.audit import Auditor
    from cacheproxy.flow.explain import Explanations
    from cacheproxy.flow.l1 import L1
    from cacheproxy.flow.lately import Lately
    from cacheproxy.flow.messages import Incoming
    from cacheproxy.flow.recall import Recalled
    from cacheproxy.flow.shelter import Shelter
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import Entry
    from cacheproxy.ports import Labels, Store
    from cacheproxy.tasks import TaskSet

K = TypeVar("K")
V = TypeVar("V")
log = logging.getLogger(__name__)

PATH: Final = "/cacheproxy/feedback"
WRONG: Final = "wrong"
RIGHT: Final = "right"
_LONGEST_NOTE: Final = 1000
_LARGEST: Final = 16 * 1024
MARKS_KEPT: Final = 10_000
"""Of each kind, as in the store: past so many the oldest go."""


class Withdrawn:
    """Entries that are suspended, and pairs of a request and an answer that are blocked. The latest ones."""

    def __init__(self) -> None:
        self._suspended: dict[str, None] = {}
        self._blocked: dict[tuple[bytes, str], None] = {}
        self._unwritten: dict[str, str] = {}
        """Suspended here with a note, and not known to be in the store: that says nothing of them yet."""

    def holds(self, entry_id: str) -> bool:
        """Whether an entry must not be served."""
        return entry_id in self._suspended

    def parts(self, key: bytes, root: str) -> bool:
        """Whether the request with this exact key must not be answered with this group's answers."""
        return (key, root) in self._blocked

    @property
    def unwritten(self) -> Mapping[str, str]:
        """The notes on entries, by id, of which the store does not know yet that they are suspended."""
        return dict(self._unwritten)

    def suspend(self, entry_id: str, note: str) -> None:
        """Serve an entry no more."""
        _mark(self._suspended, entry_id, None)
        _mark(self._unwritten, entry_id, note)

    def written(self, entry_id: str) -> None:
        """The store knows that an entry is suspended, and from here on whether it still is."""
        self._unwritten.pop(entry_id, None)

    def lift(self, entry_id: str) -> None:
        """Serve it again."""
        self._suspended.pop(entry_id, None)
        self._unwritten.pop(entry_id, None)

    def block(self, key: bytes, root: str) -> None:
        """Never answer this request from that group."""
        _mark(self._blocked, (key, root), None)

    async def load(self, labels: Labels) -> Collection[str]:
        """Take over what was said before this process started, or in another one; what that suspended anew."""
        blocked = await labels.blocked()
        suspended = await labels.suspended()
        came = suspended.keys() - self._suspended.keys()
        self._suspended = dict.fromkeys([*suspended, *self._unwritten])
        for pair in blocked:  # a pair is never freed, but with its group
            _mark(self._blocked, pair, None)
        return came


def _mark(marks: dict[K, V], mark: K, value: V) -> None:
    marks[mark] = value
    if len(marks) > MARKS_KEPT:
        del marks[next(iter(marks))]


class Feedback:
    """Takes verdicts of callers on entries. They never enter a certificate: whoever complains chooses what of.

    What a similar question was answered with is asked for again after a complaint, where that can be afforded.
    """

    def __init__(
        self,
        *,
        store: Store,
        l1: L1,
        labels: Labels,
        reads: Shelter,
        writes: Shelter,
        withdrawn: Withdrawn,
        explanations: Explanations,
        lately: Lately,
        auditor: Auditor,
        affords: Callable[[Entry], bool],
        tasks: TaskSet,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._l1 = l1
        self._labels = labels
        self._reads = reads
        self._writes = writes
        self._withdrawn = withdrawn
        self._explanations = explanations
        self._lately = lately
        self._auditor = auditor
        self._affords = affords
        self._tasks = tasks
        self._rechecked: set[str] = set()
        self._now = now

    async def take(self, said: JsonObject, *, tenant: str | None) -> JsonObject:
        """A verdict: ``{"entry": ID, "verdict": "wrong" | "right", "note"?}``. What was done is the answer.

        ``tenant`` is the caller's; None for an operator, who may judge every entry. Raises ``BadRequest``,
        ``UnknownEntry`` (a caller learns nothing of others' entries) or ``PortUnavailable``.
        """
        entry_id, verdict, note = _read(said)
        entry = await self._entry(entry_id)
        if entry is None or (tenant is not None and entry.tenant != tenant):
            raise UnknownEntry(f"there is no entry {entry_id!r}, or it is not yours; X-CacheProxy-Entry names it")
        if verdict == RIGHT:
            await self._lift(entry_id)
            return {"entry": entry_id, "suspended": False}
        self._withdrawn.suspend(entry_id, note)
        if await self._writes.call("suspend", partial(self._suspend, entry_id, note)):
            self._withdrawn.written(entry_id)
        blocked = await self._block(entry_id, tenant)
        if (hit := self._lately.of(entry_id, tenant)) and entry_id not in self._rechecked and self._affords(entry):
            self._rechecked.add(entry_id)
            self._tasks.start(self._recheck(entry_id, *hit), name="recheck")
        return {"entry": entry_id, "suspended": True, "blocked_pairs": blocked}

    async def follow(self) -> bool:
        """Take over what was said in other processes. The pairs that led to an answer are known where it was served."""
        for entry_id in await self._withdrawn.load(self._labels):
            await self._block(entry_id, None)
        return True

    async def tell(self) -> None:
        """Have the store know, and so every process, of what was suspended while it did not answer."""
        for entry_id, note in self._withdrawn.unwritten.items():
            if await self._writes.call("suspend", partial(self._suspend, entry_id, note)):
                self._withdrawn.written(entry_id)
                if not self._withdrawn.holds(entry_id):  # somebody said meanwhile that it is right
                    await self._lift(entry_id)

    async def _suspend(self, entry_id: str, note: str) -> bool:
        await self._labels.suspend(entry_id, self._now(), note)
        return True

    async def _block(self, entry_id: str, tenant: str | None) -> int:
        pairs = list(self._explanations.pairs(entry_id, tenant))
        for key, root in pairs:
            self._withdrawn.block(key, root)
            await self._writes.call("block", partial(self._labels.block, key, root, self._now()))
        return len(pairs)

    async def _recheck(self, entry_id: str, asked: Asked, recalled: Recalled) -> None:
        """Ask the upstream what it would have answered; the suspension ends where that is what the cache answered."""
        try:
            if await self._auditor.recheck(asked, recalled):
                log.info("a complaint of entry %s was not confirmed: it is served again", entry_id)
                await self._lift(entry_id)
        finally:
            self._rechecked.discard(entry_id)

    async def _lift(self, entry_id: str) -> None:
        self._withdrawn.lift(entry_id)
        await self._writes.call("lift", partial(self._labels.lift, entry_id))

    async def _entry(self, entry_id: str) -> Entry | None:
        """From memory first: an entry is served, and so may be judged, before it is stored."""
        entry = self._l1.get(entry_id)
        if entry is not None:
            return entry
        loaded = await self._reads.call("load", partial(self._store.load, [entry_id]))
        if loaded is None:
            raise PortUnavailable("the store does not answer, so nothing was done: say it again")
        return loaded[0] if loaded else None


class FeedbackDoor:
    """``POST /cacheproxy/feedback``, for callers: each may judge what its own tenant may read."""

    def __init__(self, feedback: Feedback, rules: Rules) -> None:
        self._feedback = feedback
        self._rules = rules

    async def answer(self, incoming: Incoming) -> Whole:
        """Take a verdict. Raises what ``Feedback.take`` does."""
        if incoming.method != "POST":
            raise BadRequest(f"{PATH} takes POST")
        try:
            said = jsontext.parse(await incoming.read(_LARGEST))
        except ValueError as error:
            raise BadRequest(f"the body is not valid JSON: {error}") from error
        if not isinstance(said, dict):
            raise BadRequest("the body must be a JSON object")
        _, _, query = incoming.target.partition("?")
        tenant = tenant_of(incoming, scope.credential(incoming.headers, query), self._rules)
        done = await self._feedback.take(said, tenant=tenant)
        return Whole(200, [("Content-Type", "application/json")], jsontext.dump(done))


def _read(said: JsonObject) -> tuple[str, str, str]:
    entry_id, verdict, note = said.get("entry"), said.get("verdict"), said.get("note", "")
    if not isinstance(entry_id, str) or not entry_id:
        raise BadRequest('feedback needs "entry": the id that X-CacheProxy-Entry gave')
    if verdict not in (WRONG, RIGHT):
        raise BadRequest('feedback needs "verdict": "wrong" or "right"')
    if not isinstance(note, str) or len(note) > _LONGEST_NOTE:
        raise BadRequest(f'"note" must be a text of at most {_LONGEST_NOTE} characters')
    return entry_id, str(verdict), note
