"""What observers are told, each thing once, and what the ledger makes of it.

A request that is finished, a call to an upstream, a check of an answer of the cache; and the sums over them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from cacheproxy.model import NO_USAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cacheproxy.model import CacheStatus, CheckVerdict, Layer, Reason, Usage


class Served(NamedTuple):
    """One finished request, told once to every observer. A tuple, which is made in a third of the time."""

    at: float
    """When it finished, seconds since the epoch."""
    dialect: str
    upstream: str
    tenant: str
    model: str
    http_status: int
    status: CacheStatus
    duration_ms: float
    layer: Layer | None = None
    reason: Reason | None = None
    entry_id: str = ""
    similarity: float | None = None
    usage: Usage = NO_USAGE
    """Tokens that the upstream was paid for; zero on a hit."""
    cost_usd: float = 0.0
    saved_usage: Usage = NO_USAGE
    """Tokens that a hit did not buy; zero on a miss."""
    saved_usd: float = 0.0
    unpriced: bool = False
    """Whether no price is known for what was bought or saved; the amounts are then too low."""
    saved_ms: float = 0.0
    upstream_ms: float | None = None
    price_version: str = ""
    request_id: str = ""
    """The same as in the answer's header."""
    explained: bool = False
    """Whether the decision on it is explained under that id: the semantic layer was asked."""
    trace_id: str = ""
    """32 hexadecimal digits; empty where nothing is traced."""
    prompt: str = ""
    """The question; empty unless prompts may be told."""


class CallResult(StrEnum):
    """How a call to an upstream went."""

    OK = "ok"
    REFUSED = "refused"
    """A status of 400 to 499 but 429: the request or its credential was not accepted."""
    RATE_LIMITED = "rate-limited"
    FAILED = "failed"
    """A status of 500 or more."""
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    """As many calls as we allow were under way already."""
    GIVEN_UP = "given-up"
    """Nobody waited for it any more."""


class CheckKind(StrEnum):
    """What was paid for to find out whether an answer of the cache is right."""

    AUDIT = "audit"
    """An upstream's fresh answer to a question that the cache had answered."""
    JUDGE = "judge"
    """A model's comparison of two answers."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Whose answer a verdict is on, and how it came to be judged."""

    pool: str
    entry_id: str
    """The entry, or the root of its group where it is not known which one it was."""
    similarity: float
    hit: bool
    """A hit that was asked again, not a miss whose fresh answer was at hand."""
    request_id: str = ""
    """Under which the decision is explained."""
    by: str = ""
    """Which judge spoke."""
    why: str = ""
    """In few words, for people."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One amount that a check of the cache's answers cost, which may be nothing; told once to every observer.

    A check that asks an upstream and then a judge is two of these, of which one has the verdict.
    """

    at: float
    """When it finished, seconds since the epoch."""
    model: str
    """That of the request whose answer was checked."""
    tenant: str
    upstream: str
    kind: CheckKind
    verdict: CheckVerdict | None = None
    usage: Usage = NO_USAGE
    cost_usd: float = 0.0
    unpriced: bool = False
    """Whether no price is known for it; the amount is then too low."""
    price_version: str = ""
    checked: Checked | None = None
    """Set where a judge spoke."""


GROUPINGS = ("day", "hour", "model", "tenant", "upstream", "dialect", "status", "layer", "reason", "price_version")
"""What requests may be grouped by when they are summed up."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over a group of requests, as the ledger reports them. ``group`` holds the values it was grouped by.

    Checks are in the groups of their model, tenant, upstream and time; they have no dialect, status, layer or reason.
    """

    group: Mapping[str, str] = field(default_factory=dict)
    requests: int = 0
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    saved_ms: float = 0.0
    duration_ms: float = 0.0
    estimated: int = 0
    """How many of the requests had no usage from the upstream."""
    unpriced: int = 0
    """How many of the requests and checks no price is known for; they count as 0 USD."""
    upstream_ms: float = 0.0
    """The part of ``duration_ms`` that upstreams took for what the cache did not answer."""
    audit_usd: float = 0.0
    """What upstreams charged for fresh answers to compare with. Not part of ``cost_usd``."""
    judge_usd: float = 0.0
    """What judges charged. Likewise."""

    @property
    def net_saved_usd(self) -> float:
        """What hits saved, less what checking them cost."""
        return self.saved_usd - self.audit_usd - self.judge_usd
