"""Texts as a model reads them, tokenised once.

``SentenceTransformer`` tokenises within its own preprocessing, after which nobody knows how long a text was before it
was cut; so whoever must know tokenises twice. Here the tokens are counted and padded to a batch from one pass, which
also costs less Python: with a model that runs on a GPU, that was as much time as the model took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sentence_transformers import SentenceTransformer

_IDS: Final = "input_ids"
_MASK: Final = "attention_mask"
_SAMPLES: Final = ("a", "  Two sentences,  and more words.\nIs this one longer, with 12, é and 你好?  ", "THE THIRD")
"""Texts that tell a preprocessing of another kind: of blanks, of case, of what is padded and where."""


class Tokenizing:
    """A model's tokenizer. Keeps no state, so it is for any thread."""

    def __init__(self, model: SentenceTransformer, prompt: str) -> None:
        self._model = model
        self._prompt = prompt
        # A copy that cuts and pads nothing.
        self._tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pad: int = model.tokenizer.pad_token_id or 0
        self._constant: Mapping[str, Any] | None = None
        theirs = self._theirs(_SAMPLES)
        self._constant = {name: value for name, value in theirs.items() if name not in (_IDS, _MASK)}
        if not _same(self.features(_SAMPLES, self.ids(_SAMPLES)), theirs):
            self._constant = None  # this model's own preprocessing does more than tokenise and pad

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's tokens, the prompt's and special ones included, of any number."""
        # A lone surrogate has no place in UTF-8, which is what the tokenizer reads.
        written = [(self._prompt + text).encode("utf-8", "replace").decode() for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(written)]

    def features(self, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> dict[str, Any]:
        """What the model reads of texts that fit its window, given their tokens: tensors of shape (texts, longest)."""
        if self._constant is None:
            return self._theirs(texts)
        shape = (len(ids), max(map(len, ids)))
        padded, mask = np.full(shape, self._pad), np.zeros(shape, np.int64)
        for row, own in enumerate(ids):
            padded[row, : len(own)] = own
            mask[row, : len(own)] = 1
        constant = {
            name: value.flatten()[0].expand(shape) if isinstance(value, torch.Tensor) else value
            for name, value in self._constant.items()
        }
        return {_IDS: torch.from_numpy(padded), _MASK: torch.from_numpy(mask), **constant}

    def _theirs(self, texts: Sequence[str]) -> dict[str, Any]:
        texts = [text.encode("utf-8", "replace").decode() for text in texts]
        return dict(self._model.preprocess(texts, prompt=self._prompt or None))


def _same(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    if set(ours) != set(theirs):
        return False
    return all(
        torch.equal(ours[name], value) if isinstance(value, torch.Tensor) else ours[name] == value
        for name, value in theirs.items()
    )
