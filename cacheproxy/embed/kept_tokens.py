"""Token embeddings of the latest texts, in bounded memory: a stored question was asked once, and is compared often."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cacheproxy.model import Tokens


class KeptTokens:
    """By text, the ones used least recently forgotten first. Holds at most ``limit_bytes`` of numbers."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, Tokens] = OrderedDict()

    def get(self, text: str) -> Tokens | None:
        """What is kept of a text."""
        tokens = self._kept.get(text)
        if tokens is not None:
            self._kept.move_to_end(text)
        return tokens

    def keep(self, text: str, tokens: Tokens) -> None:
        """Keep a text's tokens, in place of others where that is necessary."""
        if (known := self._kept.pop(text, None)) is not None:
            self._bytes -= known.nbytes
        self._kept[text] = tokens
        self._bytes += tokens.nbytes
        while self._bytes > self._limit_bytes:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= gone.nbytes
