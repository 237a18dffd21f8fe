"""Why a request hit or missed, for the latest requests: kept in memory, told by request id or by entry."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cacheproxy.core.guards import objections
from cacheproxy.core.policy import Forward, Serve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cacheproxy.core.features import Key
    from cacheproxy.core.policy import Assessed, Decision
    from cacheproxy.flow.arrival import Arrival
    from cacheproxy.flow.asked import Asked
    from cacheproxy.flow.recall import Finding, Recalled
    from cacheproxy.jsontext import JsonObject

KEPT: Final = 2_000
LONGEST: Final = 4_000
"""Characters of a prompt that are remembered."""


@dataclass(slots=True)
class Explanation:
    """One request that the semantic layer decided on. Holds no answer and no vector: there are thousands of these."""

    arrival: Arrival
    at: float
    tenant: str
    pool: str
    key: bytes
    scope: bytes
    prompt: str
    entry_id: str
    """The entry that was served, or empty."""
    decision: Decision
    keys: Sequence[Key]
    audited: bool
    shadowed: bool
    finding: Finding

    @property
    def request_id(self) -> str:
        """The request's id, as its answer's header had it."""
        return self.arrival.id

    def told(self) -> JsonObject:
        """As JSON, for the admin API."""
        decision = self.decision
        told: JsonObject = {
            "request_id": self.request_id,
            "caller_request_id": self.arrival.given,
            "trace_id": self.arrival.trace.id,
            "at": self.at,
            "tenant": self.tenant,
            "pool": self.pool,
            "scope": self.scope.hex(),
            "prompt": self.prompt,
            "verdict": self.finding.verdict and self.finding.verdict.value,
            "audited": self.audited,
            "nearest": [
                {
                    "entry": key.entry_id,
                    "root": key.root,
                    "similarity": round(key.similarity, 4),
                    "prompt": key.profile.text,
                    "guards": [reason.value for reason in objections(self.prompt, key.profile.text)],
                }
                for key in self.keys
            ],
        }
        match decision:
            case Serve():
                told |= {"outcome": "hit", "entry": self.entry_id, "stage": decision.stage}
            case Forward():
                told |= {"outcome": "miss", "reason": decision.reason.value, "shadowed": self.shadowed}
        if decision.assessed is not None:
            told["candidate"] = _candidate(decision.assessed)
        return told


class Explanations:
    """The latest decisions, the oldest forgotten first."""

    def __init__(self) -> None:
        self._latest: deque[Explanation] = deque(maxlen=KEPT)

    def keep(self, at: float, asked: Asked, recalled: Recalled) -> None:
        """Remember a decision."""
        explanation = Explanation(
            asked.arrival,
            at,
            asked.tenant,
            asked.controls.namespace or "default",
            asked.keys.key,
            asked.keys.scope,
            asked.prompt[:LONGEST],
            recalled.entry.id if recalled.entry is not None else "",
            recalled.decision,
            recalled.keys,
            recalled.audit is not None,
            recalled.shadowed,
            recalled.finding,
        )
        self._latest.append(explanation)
        recalled.finding.arrival = asked.arrival
        asked.arrival.explained = True

    def request(self, request_id: str) -> Explanation | None:
        """The latest decision on a request, by the id that its answer had or by the one that its caller gave it."""
        names = ((each, each.arrival) for each in reversed(self._latest))
        return next((each for each, arrival in names if request_id in (arrival.id, arrival.given)), None)

    def entry(self, entry_id: str) -> Sequence[Explanation]:
        """Decisions that served an entry, or had it before them, the latest first."""
        return [
            explanation
            for explanation in reversed(self._latest)
            if explanation.entry_id == entry_id or any(key.entry_id == entry_id for key in explanation.keys)
        ]

    def latest(self, limit: int) -> Sequence[Explanation]:
        """The latest decisions, the newest first."""
        return [explanation for explanation, _ in zip(reversed(self._latest), range(limit), strict=False)]

    def pairs(self, entry_id: str, tenant: str | None) -> Iterator[tuple[bytes, str]]:
        """Requests (by exact key) that similarity answered with an entry, and the group that it belonged to."""
        for explanation in self._latest:
            decision = explanation.decision
            if (
                explanation.entry_id == entry_id
                and isinstance(decision, Serve)
                and (tenant is None or explanation.tenant == tenant)
            ):
                yield explanation.key, decision.key.root


def _candidate(assessed: Assessed) -> JsonObject:
    group = assessed.group
    return {
        "root": group.root,
        "similarity": round(group.similarity, 4),
        "p": round(assessed.chance, 6),
        "logit": round(assessed.logit, 4),
        "lambda": round(assessed.threshold, 4) if abs(assessed.threshold) < 1e9 else None,  # noqa: PLR2004 - infinite: none yet
        "guard": group.objection.value if group.objection else None,
        "features": {name: round(value, 4) for name, value in group.features._asdict().items()},
    }
