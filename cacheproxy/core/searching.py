"""Models that look things up for every answer, whatever the request says: the cache must not hold what they tell.

Elsewhere a request shows by its tools that the provider goes and looks. Of these models only the name tells it.
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

SEARCHING: Final = (
    "*-search-preview*",  # OpenAI: gpt-4o-search-preview, gpt-4o-mini-search-preview
    "*-search-api*",  # OpenAI: gpt-5-search-api
    "*deep-research*",  # OpenAI: o3-deep-research; Perplexity: sonar-deep-research; Google: deep-research-pro-preview
    "sonar*",  # Perplexity
    "*-online",  # Perplexity, formerly
    "*:online",  # OpenRouter: its web plugin, for any model
    "compound*",  # Groq: agents with web search and code
)
"""Names and patterns (``*``, ``?``, ``[..]``), compared in lower case with a model's name, and with that name without
what providers put before a ``/``."""

_LONGEST_NAME: Final = 200
"""Callers choose names, and patterns with several stars take their time with long ones."""

_REMEMBERED: Final = 1024
"""Callers ask for few models, again and again."""


class SearchingModels:
    """The models above, and ``more`` that an operator knows."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        names = "|".join(translate(pattern.lower()) for pattern in (*SEARCHING, *more))
        self._pattern = re.compile(names)
        self._known = lru_cache(_REMEMBERED)(self._search)

    def __contains__(self, model: str) -> bool:
        return len(model) <= _LONGEST_NAME and self._known(model)

    def _search(self, model: str) -> bool:
        name = model.lower()
        return bool(self._pattern.match(name) or ("/" in name and self._pattern.match(name.rpartition("/")[2])))
