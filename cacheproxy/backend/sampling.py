"""Choosing tokens for every ask of a batch in its own way: greedy beside sampled, each with its own seed.

transformers' continuous batching either samples for all or for nobody, from one random state. So it is told to take
the likeliest token, and the scores that it looks at are made such that the likeliest is the one drawn: Gumbel noise is
added to the logarithms of the probabilities (Gumbel-max). The noise is no state but a hash of (seed, position, token),
so a seed gives the same tokens whatever else is in the batch, on every device, also after an ask was evicted or taken
up again after a crash.

It stands where ``ContinuousBatchingLogitsProcessorList`` does and is called by the engine's thread alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

from cacheproxy.backend.engine import Ask

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROWS: Final = 4
_TEMPERATURE, _TOP_P, _TOP_K, _SEED = range(_ROWS)
_MASK: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000
ASK: Final = "ask"
"""The keyword under which an ask travels with its request."""
_NOBODY: Final = Ask((), max_tokens=1)
"""Stands for the library's own requests, with which it warms up: they come without one."""


class PerAskSampling:
    """Scores in, scores out whose maximum is the chosen token.

    ``captured`` says that calls are recorded once as a graph of the device and replayed: then nothing may depend on
    what is in the batch, and there are no logarithms of probabilities to take along.
    """

    tensors_required = _ROWS
    do_processing = True

    def __init__(self, *, captured: bool) -> None:
        self._captured = captured
        self._batch: list[tuple[str, Ask]] = []
        self.noted: dict[str, list[tuple[float, tuple[tuple[int, float], ...]]]] = {}
        """Logarithms of probabilities by request, for those that ask for them. Whoever adds a request adds its list."""

    def check_kwargs(self, kwargs: Mapping[str, Any]) -> None:
        """Called with what a request was added with."""
        if set(kwargs) != {ASK}:
            raise ValueError(f"a request must come with {ASK!r} alone, not {sorted(kwargs)}")

    def fill_defaults(self, rows: torch.Tensor) -> None:
        """Greedy, for the rows of a batch that hold no request."""
        rows.zero_()

    def prepare_tensor_args(self, requests_in_batch: list[Any], arg_storage: torch.Tensor) -> torch.Tensor:
        """Lay down how each request with a new token wants it chosen: shape (4, requests), as 32-bit integers."""
        self._batch = [
            (future.state.request_id, future.state.logit_processor_kwargs.get(ASK, _NOBODY))
            for future in requests_in_batch
            if future.has_new_token
        ]
        positions = [future.state.position_offset for future in requests_in_batch if future.has_new_token]
        chosen = [ask.sampling for _, ask in self._batch]
        floats = torch.tensor([[s.temperature for s in chosen], [s.top_p for s in chosen]], dtype=torch.float32)
        whole = torch.tensor(
            [
                [s.top_k for s in chosen],
                [_signed(_mixed(s.seed, position)) for s, position in zip(chosen, positions, strict=True)],
            ],
            dtype=torch.int32,
        )
        arg_storage[:, : len(chosen)] = torch.cat([floats.view(torch.int32), whole]).to(arg_storage.device)
        return arg_storage

    def __call__(self, _input_ids: torch.Tensor, scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """``scores`` has shape (rows, vocabulary), in float32."""
        rows = rows[:, : scores.size(0)]
        if self._captured:
            return drawn(scores, rows, cut=True)
        asks = [ask for _, ask in self._batch]
        final = scores
        if any(ask.sampling.temperature > 0 for ask in asks):
            final = drawn(scores, rows, cut=any(ask.sampling.top_p < 1 or ask.sampling.top_k for ask in asks))
        if any(ask.logprobs is not None for ask in asks):
            self._note(scores, final)
        return final

    def _note(self, scores: torch.Tensor, final: torch.Tensor) -> None:
        for row, (request_id, ask) in enumerate(self._batch):
            noted = self.noted.get(request_id)
            if ask.logprobs is None or noted is None:
                continue
            logprobs = torch.log_softmax(scores[row], dim=-1)
            top = logprobs.topk(min(ask.logprobs, logprobs.numel()))
            pairs = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
            noted.append((logprobs[final[row].argmax()].item(), pairs))


def drawn(scores: torch.Tensor, rows: torch.Tensor, *, cut: bool) -> torch.Tensor:
    """The scores with each sampled row's noise on it. ``cut`` False says that no row sets top-p or top-k."""
    temperature = rows[_TEMPERATURE].view(torch.float32).unsqueeze(1)
    sampled = temperature > 0
    warm = scores / torch.where(sampled, temperature, 1.0)
    if cut:
        warm = _cut(warm, rows[_TOP_K].unsqueeze(1), rows[_TOP_P].view(torch.float32).unsqueeze(1))
    return torch.where(sampled, warm + _gumbel(rows[_SEED], scores.size(1)), scores)


def _cut(scores: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Leave out what is not among the ``top_k`` likeliest, then what lies behind the first ``top_p`` of the rest."""
    ordered, places = scores.sort(dim=-1, descending=True)
    ranks = torch.arange(scores.size(1), device=scores.device)
    ordered = ordered.masked_fill((ranks >= top_k) & (top_k > 0), -torch.inf)
    shares = ordered.softmax(dim=-1)
    before = shares.cumsum(dim=-1) - shares
    ordered = ordered.masked_fill((before >= top_p) & (ranks > 0), -torch.inf)
    return torch.empty_like(scores).scatter_(1, places, ordered)


def _gumbel(seeds: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Noise of shape (seeds, vocabulary) that follows from the seeds and nothing else.

    An integer hash in 32 bits (lowbias32, by Chris Wellons), which wraps around as the device's integers do.
    """
    tokens = torch.arange(vocabulary, device=seeds.device, dtype=torch.int32)
    bits = seeds.unsqueeze(1) ^ (tokens * _signed(0x9E3779B1))
    bits = bits ^ ((bits >> 16) & 0xFFFF)
    bits = bits * 0x7FEB352D
    bits = bits ^ ((bits >> 15) & 0x1FFFF)
    bits = bits * _signed(0x846CA68B)
    bits = bits ^ ((bits >> 16) & 0xFFFF)
    uniform = (((bits >> 8) & 0xFFFFFF).float() + 0.5) / 2**24
    return -torch.log(-torch.log(uniform))


def _mixed(seed: int, position: int) -> int:
    """32 bits from a seed and a position (splitmix64's finaliser)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) & _MASK


def _signed(bits: int) -> int:
    """32 bits as the signed integer that they stand for in a tensor."""
    return bits - (1 << 32) if bits & _HALF else bits
