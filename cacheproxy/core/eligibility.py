"""Which parts of the cache a request may use, and for how long its answer may be kept.

The operator's settings, the caller's controls and the dialect's view come together here, each only ever tightening.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cacheproxy.core.controls import tighter
from cacheproxy.core.searching import SearchingModels
from cacheproxy.core.volatile import is_volatile
from cacheproxy.model import Mode, Reason
from cacheproxy.values import value

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence

    from cacheproxy.core.controls import Controls
    from cacheproxy.model import View

SEARCHING_MODELS: Final = SearchingModels()
_TIGHTNESS: Final = {mode: rank for rank, mode in enumerate(Mode)}


@dataclass(frozen=True, slots=True)
class CacheRules:
    """What the operator allows."""

    mode: Mode = Mode.SEMANTIC
    ttl_s: float = 86_400.0
    volatile_ttl_s: float = 300.0
    retained_ttl_s: float = 29 * 86_400.0
    """For answers that the upstream keeps under their id; providers keep them for 30 days."""
    volatile_patterns: Sequence[re.Pattern[str]] = ()
    modes: Mapping[str, Mode] = field(default_factory=dict)
    """Of namespaces that have their own."""
    bypass: Reason | None = None
    """Why no request may touch the cache at the moment."""
    keeps_budgets: bool = False
    """Whether the policy knows what a caller's error budget means."""

    def mode_of(self, namespace: str) -> Mode:
        """What the operator allows in a namespace."""
        return self.modes.get(namespace, self.mode)

    searching_models: SearchingModels = SEARCHING_MODELS


@value(frozen=True, slots=True)
class Eligibility:
    """What one request may do. ``bypass`` set: nothing at all."""

    bypass: Reason | None
    exact_only: Reason | None
    """Why the semantic layer must not be asked; None when it may."""
    read: bool
    ttl_s: float
    """How long the answer may be kept; zero or less: not at all."""
    shadow: bool = False


def judge(view: View, controls: Controls, rules: CacheRules) -> Eligibility:
    """Decide what a request may use."""
    allowed = rules.mode_of(controls.namespace)
    mode = allowed if controls.mode is None else max(allowed, controls.mode, key=_TIGHTNESS.__getitem__)
    ttl_s = tighter(rules.ttl_s, controls.ttl_s) or 0.0
    if bypass := bypass_reason(view, controls, rules):
        return Eligibility(bypass, None, read=False, ttl_s=0.0)
    exact_only = view.exact_only
    if exact_only is None and mode is Mode.EXACT:
        exact_only = Reason.NO_ENTRY
    if exact_only is None and controls.max_wrong is not None and not rules.keeps_budgets:
        exact_only = Reason.UNCERTIFIED  # a plain threshold keeps no error budget, so it must not pretend to
    wording = "\n".join(view.texts) or view.wording
    if wording and is_volatile(wording, rules.volatile_patterns):
        ttl_s = min(ttl_s, rules.volatile_ttl_s)
        exact_only = exact_only or Reason.VOLATILE
    if view.retained_upstream:
        ttl_s = min(ttl_s, rules.retained_ttl_s)
    return Eligibility(None, exact_only, read=not controls.no_cache, ttl_s=ttl_s, shadow=mode is Mode.SHADOW)


def bypass_reason(view: View, controls: Controls, rules: CacheRules) -> Reason | None:
    """Why a request must not touch the cache at all; the part of the verdict that even an exact hit needs."""
    if Mode.OFF in {rules.mode_of(controls.namespace), controls.mode}:
        return Reason.MODE_OFF
    if rules.bypass is not None:
        return rules.bypass
    if controls.no_store:
        return Reason.NO_STORE
    if view.bypass is None and view.model in rules.searching_models:
        return Reason.SERVER_TOOLS
    return view.bypass
