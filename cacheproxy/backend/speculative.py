"""Speculative decoding for whoever is alone: a draft of several tokens is checked in one pass, greedy asks only.

transformers does assisted decoding for one sequence at a time and outside continuous batching. That is also where it
helps: alone, a pass is bound by memory and several tokens cost what one does; in a full batch they do not. So a greedy
ask that finds the engine idle is decoded with drafts, and all others (sampled ones, those that want logprobs, those
that come while somebody is there) go to the batch. What is decided by the draft is only the speed: a drafted token is
kept if the model would have chosen it.

Drafts come from a smaller model with the same tokenizer, or from the prompt itself (prompt look-up), which is right
where answers repeat what they were given.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from copy import deepcopy
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.backend.engine import Counts, Finish, Load, Step, Token
from cacheproxy.backend.loading import ModelOptions, load
from cacheproxy.errors import ConfigError, PortUnavailable, ProxyError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from cacheproxy.backend.batched import BatchedEngine
    from cacheproxy.backend.engine import Ask
    from cacheproxy.backend.loading import Loaded

log = logging.getLogger(__name__)

_RETRY_AFTER_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Drafting:
    """Where drafts come from: a model, or the prompt (``prompt_lookup`` tokens at a time)."""

    assistant: str = ""
    prompt_lookup: int = 0


class SpeculativeEngine:
    """See ``Engine``. ``inner`` does what is not speculated; it is closed with this."""

    def __init__(self, inner: BatchedEngine, loaded: Loaded, more: dict[str, Any]) -> None:
        self._inner = inner
        self._loaded = loaded
        self._model = _twin(loaded.model)
        self._more = more
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="speculative")
        self._alone = False
        self._cancel: Event | None = None
        self.context = inner.context
        self.gives_logprobs = inner.gives_logprobs

    @property
    def load(self) -> Load:
        """How busy it is now."""
        load = self._inner.load
        load.running += self._alone
        return load

    @property
    def counts(self) -> Counts:
        """What it has done."""
        return self._inner.counts

    async def generate(self, ask: Ask) -> AsyncGenerator[Step, None]:
        """See ``Engine``."""
        self._inner.check(ask)
        busy = self._alone or self._inner.load.running or self._inner.load.waiting
        if busy or ask.sampling.temperature > 0 or ask.logprobs is not None:
            async with aclosing(self._inner.generate(ask)) as batched:
                async for step in batched:
                    yield step
            return
        self._alone = True
        cancel = self._cancel = Event()
        steps: asyncio.Queue[Step | ProxyError] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self.counts.admitted += 1
        self.counts.prompt_tokens += len(ask.prompt)

        def tell(step: Step | ProxyError) -> None:
            loop.call_soon_threadsafe(steps.put_nowait, step)

        work = loop.run_in_executor(self._thread, self._decode, ask, cancel, tell)
        try:
            finish = None
            while finish is None:
                told = await steps.get()
                if isinstance(told, ProxyError):
                    raise told
                step = told
                self.counts.output_tokens += len(step.tokens)
                self.counts.drafted += max(len(step.tokens) - 1, 0)
                finish = step.finish
                yield step
        finally:
            if not work.done():
                self.counts.cancelled += not cancel.is_set()
                cancel.set()
            self._alone = False

    def _decode(self, ask: Ask, cancel: Event, tell: Callable[[Step | ProxyError], None]) -> None:
        """Generate in this thread; what is told last has a finish or is an error."""
        import torch  # noqa: PLC0415 - loaded with the model long since
        import transformers  # noqa: PLC0415

        config: Any = transformers.GenerationConfig
        last = -1

        class Streamer:
            """What ``generate`` calls: with the prompt first, then with the tokens of each pass."""

            begun = False

            def put(self, value: torch.Tensor) -> None:
                nonlocal last
                if not self.begun:
                    self.begun = True
                    return
                numbers = value.reshape(-1).tolist()
                last = numbers[-1] if numbers else last
                tell(Step(tuple(map(Token, numbers))))

            def end(self) -> None:
                """Told by the finish."""

        def stopping(ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
            return torch.full((ids.shape[0],), cancel.is_set(), dtype=torch.bool, device=ids.device)

        try:
            self._model.generate(
                torch.tensor([ask.prompt], device=self._model.device),
                attention_mask=torch.ones((1, len(ask.prompt)), dtype=torch.long, device=self._model.device),
                generation_config=config(
                    do_sample=False,
                    max_new_tokens=ask.max_tokens,
                    eos_token_id=sorted(self._loaded.end_tokens) or None,
                    pad_token_id=0,
                ),
                stopping_criteria=[stopping],
                streamer=Streamer(),
                **self._more,
            )
        except Exception as error:
            log.exception("speculative decoding failed")
            told = " ".join(str(error).split())[:200]
            tell(PortUnavailable(f"the engine could not do it: {told}", retry_after_s=_RETRY_AFTER_S))
        else:
            tell(Step((), Finish.STOP if last in self._loaded.end_tokens else Finish.LENGTH))

    async def aclose(self) -> None:
        """Answer whoever still waits and free the device."""
        if self._cancel is not None:
            self._cancel.set()
        await asyncio.to_thread(self._thread.shutdown)
        await self._inner.aclose()


def _twin(model: Any) -> Any:
    """The model once more, over the same weights: what its modules keep while they run is not for two threads."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return deepcopy(model, shared)


def draft_arguments(loaded: Loaded, drafting: Drafting, options: ModelOptions) -> dict[str, Any]:
    """What ``generate`` is told to draft with. Blocks. Raises ``ConfigError``."""
    if not drafting.assistant:
        return {"prompt_lookup_num_tokens": drafting.prompt_lookup}
    assistant = load(ModelOptions(drafting.assistant, device=options.device, dtype=options.dtype))
    if assistant.tokenizer.get_vocab() != loaded.tokenizer.get_vocab():
        raise ConfigError(
            f"assistant {drafting.assistant} has another tokenizer than {loaded.name}: name one of the same family"
        )
    return {"assistant_model": assistant.model}
