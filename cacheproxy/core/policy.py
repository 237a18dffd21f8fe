"""May one of the entries near a prompt answer it? Pure: what was found goes in, a decision comes out.

``Policy`` is the seat for every rule that decides this. ``ThresholdPolicy`` is the plain one: similar enough, and no
lexical guard objects. Similarity is cosine in 0..1, never a distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from cacheproxy.core.guards import first_objection, profile
from cacheproxy.model import Reason

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from cacheproxy.model import Candidate


_known_profile: Final = lru_cache(maxsize=4096)(profile)
"""The same entries are candidates again and again, and reading a prompt takes most of a guard's time."""


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer with this entry."""

    chosen: Candidate


@dataclass(frozen=True, slots=True)
class Forward:
    """Ask the upstream. ``nearest`` is the best similarity seen, None when nothing was near."""

    reason: Reason
    nearest: float | None = None


Decision: TypeAlias = Serve | Forward


class Policy(Protocol):
    """A rule that decides."""

    @property
    def floor(self) -> float:
        """The similarity under which no candidate can be served, so that none needs to be loaded."""

    def decide(self, prompt: str, found: Sequence[Candidate], *, draw: float) -> Decision:
        """Decide on candidates, most similar first. ``draw`` is uniform in 0..1, for rules that need chance."""


@dataclass(frozen=True, slots=True)
class ThresholdPolicy:
    """Serve the most similar entry at or above ``threshold`` to which no guard objects."""

    threshold: float
    disabled_guards: Container[Reason] = frozenset()

    @property
    def floor(self) -> float:
        """The threshold itself."""
        return self.threshold

    def decide(self, prompt: str, found: Sequence[Candidate], *, draw: float) -> Decision:  # noqa: ARG002 - no chance here
        """Walk the candidates down to the threshold; the reason of a miss is that of the nearest candidate."""
        if not found:
            return Forward(Reason.NO_NEIGHBOR)
        nearest = found[0].similarity
        asked = profile(prompt)
        reason: Reason | None = None
        for candidate in found:
            if candidate.similarity < self.threshold:
                break
            objection = first_objection(asked, _known_profile(candidate.entry.prompt), self.disabled_guards)
            if objection is None:
                return Serve(candidate)
            reason = reason or objection
        return Forward(reason or Reason.BELOW_THRESHOLD, nearest)
