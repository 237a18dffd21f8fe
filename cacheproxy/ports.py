"""The ports: what the flow needs from the world, as small protocols. Adapters do not inherit from them.

Every port may fail with ``PortUnavailable`` (an upstream with its own two errors). The flow shelters each call with a
short deadline and a breaker, and goes on without: a broken cache is a slow cache, never an outage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cacheproxy.model import EVERYTHING
from cacheproxy.values import value

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from cacheproxy.core.keys import VirtualKey
    from cacheproxy.core.labels import Label
    from cacheproxy.events import Audited, CallResult, Served, Tally
    from cacheproxy.model import Change, Entry, IndexRow, Neighbor, Selection, Tokens, Usage, Uses, Vector, Verdict


class Store(Protocol):
    """Keeps entries. Each write is committed when it returns, and is numbered in a log that other processes follow."""

    def may_hold(self, key: bytes) -> bool:
        """False when there is certainly nothing under a key, as far as can be told at once."""

    async def find(self, key: bytes) -> Sequence[Entry]:
        """The entries under an exact key, oldest first; expired ones may be among them."""

    async def load(self, ids: Sequence[str]) -> Sequence[Entry]:
        """These entries in this order, leaving out what is gone."""

    async def put(self, *given: Entry, samples: int = 1) -> None:
        """Store entries; under one key the newest ``samples`` stay. One that fails does not fail the others."""

    async def set_vector(self, entry_id: str, vector: Vector, root: str) -> None:
        """Keep an entry's vector and root (see ``IndexRow``) beside it; nothing happens when the entry is gone.

        Whatever becomes of the root, its aliases stay: they are entries with answers of their own.
        """

    async def roots(self, ids: Sequence[str]) -> Mapping[str, str]:
        """The roots of these entries, by id, leaving out those that have none because they were never placed."""

    async def touch(self, hits: Mapping[str, int], at: float, *, batch: int | None = None) -> bool:
        """Count hits and remember when entries were last used, for eviction.

        ``batch`` numbers it for being repeated: False, and nothing is done, where this object was told of that batch
        or a later one before.
        """

    async def uses(self, ids: Sequence[str]) -> Mapping[str, Uses]:
        """How these entries were used, by id, leaving out what is gone."""

    async def expire_at(self, entry_id: str, at: float) -> bool:
        """Give an entry another time to expire; False when it is gone. ``math.inf`` pins it (see ``Entry``).

        Every process that follows is told, this one too.
        """

    async def remove(self, selection: Selection) -> int:
        """Delete the selected entries; how many there were."""

    async def sweep(self, now: float) -> int:
        """Delete expired entries, then the least recently used past the limits; how many went. Never pinned ones."""

    async def browse(self, selection: Selection, *, limit: int, after: str = "") -> Sequence[Entry]:
        """Entries in the order of their ids, at most ``limit``, from behind the id ``after``."""

    async def count(self, selection: Selection = EVERYTHING) -> int:
        """How many entries are selected."""

    def vectors(self) -> AsyncIterator[Sequence[IndexRow]]:
        """Every unexpired entry that has a vector, in blocks, for filling an index."""

    async def changes(self) -> Sequence[Change]:
        """What changed since the last call.

        That is every entry that went or has another time to expire, by whatever hand, and every vector that came other
        than by this object's ``set_vector``. Nothing is lost when a caller leaves before the answer.
        """

    async def proven_at(self, credential: str) -> float | None:
        """When an upstream last accepted a credential (named by its hash)."""

    async def prove(self, credential: str, at: float) -> None:
        """An upstream accepted this credential."""

    async def revoke(self, credential: str) -> None:
        """An upstream refused this credential."""

    async def proofs(self) -> Mapping[str, float]:
        """When credentials were accepted, as other processes wrote since the last call; 0.0 for a refused one.

        As with ``Labels.news`` the first call tells nothing, and nothing is lost.
        """


@dataclass(frozen=True, slots=True)
class News:
    """What other processes wrote into ``Labels`` since they were last asked about."""

    broken: tuple[str, ...] = ()
    """Pools whose labels they forgot."""
    labels: tuple[tuple[str, Label], ...] = ()
    """Labels by pool, oldest first: of a pool that is among the broken ones, those that came after."""
    marks: bool = False
    """Whether ``suspended`` and ``blocked`` may say something else now."""


class Labels(Protocol):
    """Keeps what verdicts said, for the next start and for other processes: labels pool by pool, and what they forbid.

    Each write is committed when it returns. Everything is bounded: past so many the oldest go.
    """

    async def add(self, pool: str, labels: Sequence[Label], *, batch: int | None = None) -> bool:
        """Keep labels; of each pool the newest ``core.labels.LABELS_STORED`` stay, while they are not too old to count.

        ``batch`` numbers them within their pool for being repeated: False, and nothing is done, where this object was
        told of that batch or a later one before. It may come late, too: labels in it from before the pool was forgotten
        stay forgotten.
        """

    async def recent(self, pool: str, limit: int) -> Sequence[Label]:
        """A pool's newest labels, oldest first. Those whose features mean something else by now are left out."""

    async def total(self, pool: str) -> int:
        """How many labels a pool has had since they were last forgotten, those included that are not kept any more."""

    async def pools(self) -> Sequence[str]:
        """The pools that have labels."""

    async def forget(self, pool: str, at: float) -> None:
        """Delete a pool's labels: its promise was broken, and they speak for it no more. That it was is kept.

        Said again of the same time, or of an earlier one, it does nothing.
        """

    async def broken(self) -> Collection[str]:
        """The pools whose promise was broken, for as long as labels of that time would count."""

    async def suspend(self, entry_id: str, at: float, note: str) -> None:
        """Serve an entry to nobody until ``lift``. ``note`` says why. The suspension goes with the entry."""

    async def lift(self, entry_id: str) -> None:
        """Serve an entry again; one that is not suspended is no error."""

    async def suspended(self) -> Mapping[str, str]:
        """The suspended entries' ids, each with its note."""

    async def block(self, prompt_hash: bytes, root: str, at: float) -> None:
        """Answer a prompt (named by its hash) with no entry of this root again. Goes with the root's last entry."""

    async def blocked(self) -> Collection[tuple[bytes, str]]:
        """The pairs of prompt hash and root that are blocked."""

    async def news(self) -> News:
        """What other processes wrote since the last call. The first call tells nothing: it says where to begin.

        It is asked several times a second, and cheap when there is nothing. Nothing is lost when a caller leaves before
        the answer.
        """


class Keys(Protocol):
    """Keeps virtual keys, by name. Each write is committed when it returns, and seen by every process."""

    async def add(self, key: VirtualKey) -> bool:
        """Keep a key; False, and nothing is done, when its name is taken."""

    async def revoke(self, name: str) -> bool:
        """Forget a key; False when there is none of this name."""

    async def every(self) -> Sequence[VirtualKey]:
        """All keys in the order of their names, expired ones too."""

    async def version(self) -> int:
        """A number that no two states of the keys have in common. Cheap: it is asked for twice a second."""


class VectorIndex(Protocol):
    """Nearest entries by cosine inside one scope. An entry keeps its scope for life."""

    @property
    def shared(self) -> bool:
        """Whether all processes have this one index, so that what one has added is there for the others."""

    async def add(self, row: IndexRow) -> None:
        """Add an entry, or replace its vector and its root."""

    async def remove(self, entry_id: str, scope: bytes) -> None:
        """Forget an entry; unknown ones are no error. ``scope`` is empty where nobody knows it any more."""

    async def is_empty(self, scope: bytes) -> bool:
        """Whether a scope has no entries."""

    async def nearest(self, scope: bytes, vector: Vector, k: int) -> Sequence[Neighbor]:
        """At most ``k`` entries of the scope, most similar first, equals in the order of their ids."""

    async def keys_of(self, scope: bytes, root: str) -> int:
        """How many entries of the scope have this root. Cheap, however many there are."""


class Embedder(Protocol):
    """Turns a text into a vector."""

    @property
    def model(self) -> str:
        """The model's name, for instance ``sentence-transformers/all-MiniLM-L6-v2``."""

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""

    async def embed(self, text: str) -> Vector:
        """The text's vector. Raises ``TurnTooLong``, ``Overloaded`` (the queue is full) or ``PortUnavailable``."""


class TokenEmbedder(Protocol):
    """Turns a text into a vector for each of its tokens."""

    async def tokens(self, text: str) -> Tokens:
        """The tokens' vectors, in the text's order. Raises what ``Embedder.embed`` does."""


class Verifier(Protocol):
    """Looks at two questions together, which says more than the angle between their vectors."""

    @property
    def name(self) -> str:
        """Which one it is. What was learnt from its scores means nothing to another one's."""

    async def compare(self, asked: str, stored: str) -> float:
        """How alike they are, 0 to 1. Raises ``TurnTooLong``, ``Overloaded`` or ``PortUnavailable``."""


class Judge(Protocol):
    """Says whether two answers to one question say the same. Off the request path: it may take seconds."""

    async def judge(self, question: str, cached: str, fresh: str, *, trace: Any = None) -> Verdict:
        """The verdict; a failure is one that could not be told, with its reason, and never an exception.

        ``trace``, a ``tracing.Trace``, is of the request that the answers are judged for: a judge's calls belong to it.
        """


class Budget(Protocol):
    """What a judge may still spend. A sum is reserved before it is spent, so that judges at work together keep it."""

    def reserve(self, usd: float) -> bool:
        """Whether so much may be spent; if so, it counts as spent until it is settled."""

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Book what a reservation came to."""


@value(frozen=True, slots=True)
class UpstreamRequest:
    """A request to forward. ``url`` is complete and already encoded; headers keep their order and spelling."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes | AsyncIterable[bytes] | None = None


class UpstreamResponse(Protocol):
    """An answer whose head has arrived."""

    status: int
    reason: str
    headers: Sequence[tuple[str, str]]

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, still in its content coding. Raises ``UpstreamUnreachable`` or ``UpstreamTimeout``."""


class Upstream(Protocol):
    """Sends requests to LLM APIs."""

    def send(self, request: UpstreamRequest) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Forward a request; leaving the block ends it.

        Raises ``UpstreamUnreachable``, ``UpstreamTimeout``, or ``Overloaded`` when too many are under way.
        """


class CallWatch(Protocol):
    """Is told how calls to upstreams went. Must not block and must not raise."""

    def called(self, upstream: str, result: CallResult) -> None:
        """A call to the upstream of this name has ended."""

    def fell_back(self, why: str) -> None:
        """The local server was to answer and did not, so the upstream is asked. ``why``: a result, or ``resting``."""

    def refused(self, code: str) -> None:
        """A caller got an error of ours."""


class Lease(Protocol):
    """The right to ask an upstream for all processes. It is renewed until it is released, and soon ends without."""

    async def release(self, *, kept: bool) -> None:
        """Give it back. ``kept`` says that the answer is in the store, which is remembered for a moment."""


class Follower(Protocol):
    """Another process that wants what a flight here brings, from its start."""

    def when_left(self, callback: Callable[[], object]) -> None:
        """Call back once when it wants no more."""

    async def send(self, *records: bytes) -> None:
        """Hand it records in their order."""


class Leader(Protocol):
    """Another process that holds the lease, and tells what its flight brings."""

    def records(self) -> AsyncGenerator[bytes, None]:
        """What it sends, from the start. Ends only by being left: who reads knows the last record.

        Raises ``PortUnavailable`` when the lease is lost, when a record is missing, and when there is none to be had.
        """


class Taken(NamedTuple):
    """What came of asking for a lease: it, or who holds it; neither when its holder has just kept the answer."""

    lease: Lease | None = None
    leader: Leader | None = None


class SharedFlights(Protocol):
    """Lets one process ask an upstream what several want to ask it at the moment."""

    async def take(self, key: bytes, joined: Callable[[Follower], None]) -> Taken:
        """Take the lease on a key; ``joined`` is then called for each process that follows."""


class Prices(Protocol):
    """What tokens cost."""

    @property
    def version(self) -> str:
        """Names the price table, kept with each amount."""

    def usd(self, *, model: str, upstream: str, usage: Usage) -> float | None:
        """The price of one answer in USD; None when no price is known for the model."""


class Observer(Protocol):
    """Is told about each finished request and each check. Must not block and must not raise."""

    def served(self, event: Served) -> None:
        """Take note of a finished request."""

    def audited(self, event: Audited) -> None:
        """Take note of what a check of the cache's answers cost and came to."""


class Ledger(Observer, Protocol):
    """Books each request's cost, each hit's saving, and what checks cost."""

    async def flush(self) -> None:
        """Write what was booked since the last flush."""

    async def tallies(self, by: Sequence[str], *, since: float = 0.0, until: float | None = None) -> Sequence[Tally]:
        """Sums by any of ``events.GROUPINGS``."""

    async def rows(self) -> Sequence[Mapping[str, Any]]:
        """Everything that was flushed, as sums under their names: by hour, or by day where the hours are gone."""

    async def book(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add such sums, of another ledger. A name that is not known is left out, one that is missing is nothing."""
