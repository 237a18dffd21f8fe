"""The vocabulary: what a request, an answer and a cache entry are called everywhere in this project.

Frozen dataclasses and enums, no behaviour beyond arithmetic on themselves. An enum's value is at once the metric
label, the response header and the log field.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cacheproxy.values import value

if TYPE_CHECKING:
    from collections.abc import Sequence

Vector: TypeAlias = NDArray[np.float32]
"""An embedding: shape (dimension,), unit length."""
Tokens: TypeAlias = NDArray[np.float16]
"""Embeddings of a text's tokens: shape (tokens, dimension), rows of unit length."""


class Mode(StrEnum):
    """How much of the cache may answer. From the loosest to the tightest."""

    SEMANTIC = "semantic"
    SHADOW = "shadow"
    EXACT = "exact"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever showed a key of this proxy."""

    tenant: str = ""
    """Whose the key is; empty for a key that only opens the door."""


class CacheStatus(StrEnum):
    """``X-Cache-Status``."""

    HIT = "Hit"
    MISS = "Miss"
    BYPASS = "Bypass"
    REFRESH = "Refresh"


class Layer(StrEnum):
    """Which part of the cache answered."""

    EXACT = "exact"
    SEMANTIC = "semantic"
    COALESCED = "coalesced"


class Reason(StrEnum):
    """Why a request was not answered from the cache, or only from its exact layer."""

    # It went through the cache and found nothing that may be served.
    NO_ENTRY = "no-entry"
    NO_NEIGHBOR = "no-neighbor"
    BELOW_THRESHOLD = "below-threshold"
    EXPIRED = "expired"
    TOO_OLD = "too-old"
    SAMPLING = "sampling"
    SHADOW = "shadow"
    UNCERTIFIED = "uncertified"
    UNVERIFIED = "unverified"
    SUSPENDED = "suspended"
    TRIPPED = "tripped"
    # A lexical guard saw a difference that similarity does not.
    GUARD_NUMBERS = "guard-numbers"
    GUARD_UNITS = "guard-units"
    GUARD_DATES = "guard-dates"
    GUARD_IDS = "guard-ids"
    GUARD_NEGATION = "guard-negation"
    GUARD_ANTONYMS = "guard-antonyms"
    GUARD_ENTITIES = "guard-entities"
    GUARD_ROLES = "guard-roles"
    GUARD_CODE = "guard-code"
    GUARD_LANGUAGE = "guard-language"
    # The request may use the exact layer only.
    TURN_TOO_LONG = "turn-too-long"
    NOT_PLAIN_TEXT = "not-plain-text"
    TOOL_RESULT = "tool-result"
    SEVERAL_CHOICES = "several-choices"
    LOGPROBS = "logprobs"
    VOLATILE = "volatile"
    RETAINED_UPSTREAM = "retained-upstream"
    EMBEDDINGS = "embeddings"
    # A part of the cache could not be asked.
    NO_EMBEDDER = "no-embedder"
    EMBEDDER_UNAVAILABLE = "embedder-unavailable"
    STORE_UNAVAILABLE = "store-unavailable"
    INDEX_UNAVAILABLE = "index-unavailable"
    CREDENTIAL_UNPROVEN = "credential-unproven"
    # The cache was not asked.
    MODE_OFF = "mode-off"
    NO_CACHE = "no-cache"
    NO_STORE = "no-store"
    NOT_CACHEABLE = "not-cacheable"
    SERVER_TOOLS = "server-tools"
    CONVERSATION = "conversation"
    PREVIOUS_RESPONSE = "previous-response"
    BACKGROUND = "background"
    STORED_PROMPT = "stored-prompt"
    STORED_COMPLETION = "stored-completion"


@value(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, in the terms of the price tables.

    ``input_tokens`` counts all input, cached parts included; ``output_tokens`` all output, reasoning included.
    ``estimated`` is set when the upstream gave no usage and the numbers were derived from the texts' lengths.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    estimated: bool = False


NO_USAGE = Usage()


@value(frozen=True, slots=True)
class View:
    """What a dialect reads out of a request's body. The body itself is forwarded, never this.

    ``texts`` are the text parts of the last user turn, and ``skeleton`` is the body with each of them replaced by
    ``null``; a request without a user turn of plain text has no texts, and its skeleton is its body. Together they
    are the whole body.
    """

    model: str
    stream: bool
    texts: tuple[str, ...]
    skeleton: dict[str, Any]
    bypass: Reason | None = None
    """Set when the request must not touch the cache."""
    exact_only: Reason | None = None
    """Set when only an identical request may share its answer."""
    asks_usage: bool = True
    """False on a stream whose caller did not ask for the usage that the dialect can add (``include_usage``)."""
    wording: str = ""
    """What the user said last, where that is not all of a turn and so not in ``texts``: beside an image, say, or before
    a tool's result. It decides how long an answer keeps, never who shares it."""
    retained_upstream: bool = False
    """The upstream keeps the answer under its id (Responses API with ``store``): a hit keeps the id too."""


@value(frozen=True, slots=True)
class AnswerView:
    """What a dialect reads out of a complete answer."""

    model: str
    usage: Usage | None
    storable: bool
    """Complete, with a natural finish: no refusal, no content filter, no pause, no error."""
    exact_only: bool
    """It holds tool calls or was cut by a token limit: served to identical requests only."""
    text: str
    """The plain text of the answer, for comparing and estimating; may be empty."""


@value(frozen=True, slots=True)
class Entry:
    """One stored answer, under the exact key and in the scope of the request that produced it."""

    id: str
    key: bytes
    scope: bytes
    tenant: str
    dialect: str
    upstream: str
    model: str
    prompt: str
    """The last user turn's text, empty when there was none."""
    answer: bytes
    """The dialect's whole JSON answer (never a stream), as UTF-8 text."""
    usage: Usage
    cost_usd: float | None
    """What the upstream charged for it: what one hit saves. None: no price is known."""
    latency_ms: float
    """How long the upstream took for it."""
    created_at: float
    expires_at: float
    """Infinite: pinned, so that it neither expires nor makes room."""
    semantic: bool
    """Whether similar requests may be answered with it."""
    namespace: str = ""
    tags: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that this entry holds, near enough for limits."""
        return len(self.answer) + len(self.prompt.encode("utf-8", "surrogatepass")) + 512


@dataclass(frozen=True, slots=True)
class IndexRow:
    """An entry as a vector index knows it.

    ``root`` names the group of entries that were judged to have one answer: it is the id of the entry that began the
    group, which may be gone by now. An entry whose root is another's id is an alias; one that is alone is its own root.
    """

    entry_id: str
    scope: bytes
    vector: Vector
    root: str
    expires_at: float = float("inf")
    """For an index that lets go of entries by itself; others are told what went."""


@dataclass(frozen=True, slots=True)
class Neighbor:
    """An entry near a prompt. ``similarity`` is the cosine, clipped to 0..1; ``root`` as in ``IndexRow``."""

    entry_id: str
    similarity: float
    root: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neighbour with its entry loaded, ready to be decided on."""

    entry: Entry
    similarity: float


class CheckVerdict(StrEnum):
    """What a check came to."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """No judge could tell, or the upstream did not answer."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a cached answer says the same as a fresh one."""

    same: bool | None
    """None where it could not be told. Who bounds wrong hits counts that as wrong: it cannot be confirmed."""
    cost_usd: float = 0.0
    by: str = ""
    """Which judge spoke: ``equality``, ``semantic`` or ``llm``."""
    why: str = ""
    """In few words, for people."""

    @property
    def check(self) -> CheckVerdict:
        """The same as it is counted."""
        if self.same is None:
            return CheckVerdict.UNKNOWN
        return CheckVerdict.RIGHT if self.same else CheckVerdict.WRONG


@dataclass(frozen=True, slots=True)
class Change:
    """What became of an entry in a shared store; what memory holds of it is out of date.

    ``row`` is its place in the index, None for an entry that went or has none.
    """

    entry_id: str
    key: bytes
    scope: bytes
    row: IndexRow | None


MISSED = Change("", b"", b"", None)
"""Some changes can be told no more: whatever memory holds of any entry may be out of date. The index is told apart."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries are meant: all conditions together; an empty selection means every entry."""

    ids: Sequence[str] = ()
    scope_prefix: str = ""
    """Hexadecimal digits at the start of the scope."""
    tag: str = ""
    namespace: str | None = None
    older_than: float | None = None
    """Created before this time (seconds since the epoch)."""
    min_hits: int = 0
    """Served at least so often."""
    text: str = ""
    """The prompt contains it, whatever the case of its letters."""
    model: str = ""
    tenant: str = ""
    root: str = ""
    """Its root is this one (see ``IndexRow``); the entry of this id too."""


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class Uses:
    """How often an entry was served, as far as that is written down, and when last."""

    hits: int
    last_used: float
    """When it was stored, if it was never served. Seconds since the epoch."""
