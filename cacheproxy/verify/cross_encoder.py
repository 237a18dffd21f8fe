"""A cross-encoder: a model that reads both questions at once. Tens of milliseconds on a CPU: for close decisions only.

Knows torch, by way of sentence-transformers, and is imported when a model is opened.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cacheproxy.batching.batcher import Batcher
from cacheproxy.errors import ConfigError, PortUnavailable, translating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cacheproxy.errors import ProxyError

    Pair = tuple[str, str]

log = logging.getLogger(__name__)


class CrossEncoderVerifier:
    """A cross-encoder behind a micro-batcher. Made by ``open_cross_encoder``; ``aclose`` answers who still waits."""

    def __init__(self, name: str, batcher: Batcher[Pair, float]) -> None:
        self.name = name
        self._batcher = batcher

    async def compare(self, asked: str, stored: str) -> float:
        """See ``Verifier``."""
        return await self._batcher.submit((asked, stored))

    async def aclose(self) -> None:
        """Answer every caller with ``PortUnavailable`` and take no more."""
        await self._batcher.aclose()


async def open_cross_encoder(model: str, *, device: str = "auto", max_items: int = 32) -> CrossEncoderVerifier:
    """Load a model by its hub name or folder, and warm it up. Raises ``ConfigError`` where that cannot be."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="verifier")
    try:
        score = await asyncio.get_running_loop().run_in_executor(thread, _load, model, device)
    except BaseException:
        thread.shutdown(wait=False, cancel_futures=True)
        raise

    def compute(pairs: Sequence[Pair]) -> Iterator[list[tuple[int, float | ProxyError]]]:
        scores = score(pairs)
        yield [(place, _in_range(each)) for place, each in enumerate(scores)]

    batcher = Batcher["Pair", float](compute, name="verifier", max_items=max_items, thread=thread)
    return CrossEncoderVerifier(model, batcher)


def _load(model: str, device: str) -> Callable[[Sequence[Pair]], list[float]]:
    with translating({Exception: ConfigError}, f"decision.verifier: the cross-encoder {model} cannot be loaded"):
        import torch  # noqa: PLC0415 - see the module's docstring
        from sentence_transformers import CrossEncoder  # noqa: PLC0415

        encoder = CrossEncoder(model, device=None if device == "auto" else device)
        if encoder.config.num_labels != 1:
            raise ConfigError(f"decision.verifier: {model} gives {encoder.config.num_labels} scores a pair, not one")
        activation = torch.nn.Sigmoid()

    def score(pairs: Sequence[Pair]) -> list[float]:
        # A lone surrogate has no place in UTF-8, which is what the tokenizer reads.
        plain = [tuple(text.encode("utf-8", "replace").decode() for text in pair) for pair in pairs]
        scores = encoder.predict(plain, activation_fn=activation, show_progress_bar=False, batch_size=len(plain))
        return [float(each) for each in scores]

    with translating({Exception: ConfigError}, f"decision.verifier: the cross-encoder {model} does not work"):
        score([("warm", "up")])
    log.info("verifier %s", model)
    return score


def _in_range(score: float) -> float | ProxyError:
    return score if 0 <= score <= 1 else PortUnavailable("the cross-encoder gave a score that is none")
