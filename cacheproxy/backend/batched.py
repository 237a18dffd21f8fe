"""Continuous batching: many answers at once, each token of each one computed in a batch with the others' next tokens.

The work is done by transformers' ``ContinuousBatchingManager`` (paged attention, chunked prefill within a budget of
tokens, shared prefixes) in a thread of its own. What this adds:

- a bounded fair queue in front of it, so that what waits is ordered and refused here and not in the library;
- sampling, seed and logprobs of each ask (see ``sampling``);
- cancelling: whoever closes its generator has freed its slot, and its cache before the next batch;
- living on: an error in the library's loop ends that loop with everything in it. Here it is built anew and the asks
  are taken up again where they were, one by one; the one that brings it down again is the one that fails.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.backend.engine import Ask, Counts, Finish, Load, Step, Token
from cacheproxy.backend.fair_queue import FairQueue
from cacheproxy.errors import BadRequest, ConfigError, Overloaded, PortUnavailable, ProxyError
from cacheproxy.tasks import TaskSet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from cacheproxy.backend.loading import Loaded

log = logging.getLogger(__name__)

_RETRY_AFTER_S: Final = 1.0
_MOST_ATTEMPTS: Final = 4
"""How often an ask is taken up again after a crash that was not its own."""
_MASKED_KV_TOKENS: Final = 65_536
"""Without FlashAttention a mask over the whole cache is kept, of this many tokens at most unless told otherwise."""
_PAGE: Final = 32
_FLASH_PAGE: Final = 256
_MASKED_GRAPH_TOKENS: Final = (32, 2_048)
"""Without FlashAttention a recorded graph is for a multiple of so many tokens of a step, and of the cache: what is not
there is masked. On an H200 recorded graphs gave a model of 1B 1.7 times the tokens per second at 64 callers."""
_STOP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Limits of the batches. ``None`` leaves the choice to the device at hand."""

    max_batch_tokens: int | None = None
    """Tokens computed in one step: each running answer's next one, and parts of prompts for the rest."""
    max_running: int = 32
    """Answers that are generated at a time."""
    max_waiting: int = 256
    """Asks that may wait for their turn; beyond it ``Overloaded``."""
    kv_tokens: int | None = None
    """Tokens that the key-value cache holds."""
    graphs: bool = True
    """Record a GPU's work once and replay it: faster, and without logprobs. Quantised weights do without."""


@dataclass(slots=True, eq=False)
class _Flight:
    """One ask on its way."""

    ask: Ask
    steps: asyncio.Queue[Step | ProxyError] = field(default_factory=asyncio.Queue)
    tokens: list[int] = field(default_factory=list)
    """All that were generated, whatever happened in between."""
    request_id: str = ""
    behind: int = 0
    """Tokens that were there when the present request began."""
    attempts: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it got a token, fell, or is over."""
    over: bool = False

    @property
    def cost(self) -> int:
        return len(self.ask.prompt) + self.ask.max_tokens


class BatchedEngine:
    """See ``Engine``. Made by ``open_batched``; ``aclose`` ends it."""

    def __init__(self, loaded: Loaded, options: BatchOptions) -> None:
        self._loaded = loaded
        self._options = options
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(options.max_waiting)
        self._running: set[_Flight] = set()
        self._held = 0
        """Slots in use, those of flights between the queue and their start included."""
        self._numbers = count(1)
        self._tasks = TaskSet("engine")
        self._fallen: list[_Flight] = []
        self._recovering = False
        self._closed = False
        self._manager: Any = None
        self._sampling: Any = None
        self.counts = Counts()
        self.context = min(loaded.context, _kv_tokens(loaded, options) or loaded.context)
        self.gives_logprobs = not _captures(loaded, options)

    @property
    def load(self) -> Load:
        """How busy it is now."""
        processor = self._manager.batch_processor if self._manager is not None else None
        used = 0.0 if processor is None else 1.0 - float(processor.cache.compute_free_capacity())
        return Load(waiting=len(self._queue), running=self._held, kv_used=used)

    async def start(self) -> None:
        """Reserve the cache, and generate a first token: what fails on this device fails here."""
        await asyncio.to_thread(self._build)
        token = next(iter(self._loaded.end_tokens), 0)
        async for _ in self.generate(Ask((token,), max_tokens=2)):
            pass
        self.counts = Counts()

    async def generate(self, ask: Ask) -> AsyncGenerator[Step, None]:
        """See ``Engine``."""
        self.check(ask)
        flight = _Flight(ask)
        waited_from = perf_counter()
        await self._turn(flight)
        self.counts.admitted += 1
        self.counts.waited_s += perf_counter() - waited_from
        try:
            self._running.add(flight)
            self.counts.prompt_tokens += len(ask.prompt)
            self._launch(flight)
            finish = None
            while finish is None:
                step = await flight.steps.get()
                if isinstance(step, ProxyError):
                    raise step
                finish = step.finish
                yield step
        finally:
            self._leave(flight)

    def check(self, ask: Ask) -> None:
        """Refuse what cannot be done. Raises ``BadRequest``."""
        if ask.logprobs is not None and not self.gives_logprobs:
            raise BadRequest(
                "logprobs cannot be given while the GPU replays recorded graphs; leave them out, or start the backend "
                "with --no-graphs"
            )
        if len(ask.prompt) + ask.max_tokens > self.context:
            raise BadRequest(f"the prompt and its answer take more than the {self.context} tokens that there are")

    async def _turn(self, flight: _Flight) -> None:
        """Wait for a slot, and take it."""
        if self._closed:
            raise PortUnavailable("the engine is shut down")
        if self._held < self._options.max_running and not len(self._queue):
            self._held += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            number = self._queue.push(turn, flight.cost)
        except OverflowError:
            raise Overloaded(
                f"{self._options.max_waiting} requests are waiting already; try again in a moment",
                retry_after_s=_RETRY_AFTER_S,
            ) from None
        try:
            await turn
        except BaseException:
            # Left while waiting; or in the very moment in which the slot was given, which then goes to the next.
            if not self._queue.withdraw(number) and turn.done() and not turn.cancelled() and not turn.exception():
                self._give_back()
            raise

    def _give_back(self) -> None:
        self._held -= 1
        while self._held < self._options.max_running and (turn := self._queue.pop()) is not None:
            if not turn.done():
                self._held += 1
                turn.set_result(None)

    def _launch(self, flight: _Flight) -> None:
        """Hand a flight to the library, from where it is; while that is built anew, later."""
        if self._recovering:
            self._fallen.append(flight)
        else:
            self._submit(flight)

    def _submit(self, flight: _Flight) -> None:
        flight.attempts += 1
        flight.behind = len(flight.tokens)
        flight.request_id = request_id = f"{next(self._numbers)}"
        if flight.ask.logprobs is not None:
            self._sampling.noted[request_id] = []
        self._manager.register_result_handler(request_id, lambda output: self._take(flight, request_id, output))
        accepted = self._manager.add_request(
            [*flight.ask.prompt, *flight.tokens],
            request_id=request_id,
            max_new_tokens=flight.ask.max_tokens - len(flight.tokens),
            streaming=True,
            eos_token_id=sorted(self._loaded.end_tokens) or -1,
            ask=flight.ask,
        )
        if accepted is None:
            self._fall(flight)

    def _take(self, flight: _Flight, request_id: str, output: Any) -> None:
        """An output of the library, on the event loop: all tokens so far, or a failure."""
        if flight.over or request_id != flight.request_id:
            return
        if output.error is not None:
            if self._manager.background_thread_status.can_accept_new_requests() is not None:
                self._fall(flight)
            else:
                self._end(flight, PortUnavailable(f"the engine could not do it: {output.error}"))
            return
        since = len(flight.tokens) - flight.behind
        fresh = output.generated_tokens[since:]
        flight.tokens.extend(fresh)
        self.counts.output_tokens += len(fresh)
        if flight.ask.logprobs is None:
            tokens = tuple(Token(number) for number in fresh)
        else:
            noted = self._sampling.noted[request_id][since : since + len(fresh)]
            tokens = tuple(Token(number, *note) for number, note in zip(fresh, noted, strict=True))
        finish = None
        if output.is_finished():
            ended = bool(flight.tokens) and flight.tokens[-1] in self._loaded.end_tokens
            finish = Finish.STOP if ended else Finish.LENGTH
            flight.over = True
        flight.steps.put_nowait(Step(tokens, finish))
        flight.moved.set()

    def _end(self, flight: _Flight, error: ProxyError) -> None:
        flight.over = True
        flight.steps.put_nowait(error)
        flight.moved.set()

    def _leave(self, flight: _Flight) -> None:
        """The flight's caller has its answer, or left."""
        if not flight.over:
            flight.over = True
            flight.moved.set()
            self.counts.cancelled += 1
            self._manager.cancel_request(flight.request_id)
        with self._manager.output_router._lock:  # noqa: SLF001 - a cancelled request's handler stays otherwise
            self._manager.output_router.result_handlers.pop(flight.request_id, None)
        self._sampling.noted.pop(flight.request_id, None)
        self._running.discard(flight)
        self._give_back()

    def _fall(self, flight: _Flight) -> None:
        """The library's loop broke while it had this flight."""
        if flight not in self._fallen:
            self._fallen.append(flight)
        flight.moved.set()
        if not self._recovering and not self._closed:
            self._recovering = True
            self._tasks.start(self._recover(), name="recover")

    async def _recover(self) -> None:
        """Build the loop anew, as often as it takes, and take its flights up again."""
        log.error("the engine broke and is built anew")
        suspect = next(iter(self._running)) if len(self._running) == 1 else None
        try:
            while True:
                cause = await asyncio.to_thread(self._build)
                self.counts.restarts += 1
                for flight in self._fallen:
                    if not flight.over and (flight is suspect or flight.attempts >= _MOST_ATTEMPTS):
                        self._end(flight, _failure(cause))
                suspect = await self._take_up()
                if suspect is None:
                    log.info("the engine runs again")
                    return
        except Exception as error:
            log.exception("the engine could not be built anew")
            for flight in self._running:
                if not flight.over:
                    self._end(flight, PortUnavailable(f"the engine broke for good: {_told(error)}"))
            self._fallen.clear()
        finally:
            self._recovering = False

    async def _take_up(self) -> _Flight | None:
        """Start what fell, each until it has moved; gives the one over which the loop broke again."""
        while self._fallen:
            flight = self._fallen.pop(0)
            if flight.over:
                continue
            flight.moved.clear()
            self._submit(flight)
            await flight.moved.wait()
            if flight in self._fallen:
                # Whoever was taken up before it fell with it.
                self._fallen += [one for one in self._running if not one.over and one not in self._fallen]
                return flight
        return None

    def _build(self) -> BaseException | None:
        """A new manager, its cache and its thread, in place of one that broke; gives what broke that. Blocks."""
        import transformers  # noqa: PLC0415 - takes seconds, and --help needs none of it
        from transformers.generation.configuration_utils import ContinuousBatchingConfig  # noqa: PLC0415

        from cacheproxy.backend.sampling import PerAskSampling  # noqa: PLC0415

        loaded, options = self._loaded, self._options
        generation: Any = transformers.GenerationConfig
        cause: BaseException | None = None
        if self._manager is not None:
            self._stop()
            cause = self._manager.background_thread_status.fatal_error
        flash = "flash" in loaded.model.config._attn_implementation  # noqa: SLF001 - it has no other name
        page = _FLASH_PAGE if flash else _PAGE
        kv_tokens = _kv_tokens(loaded, options)
        captures = _captures(loaded, options)
        masked_step, masked_cache = (0, 0) if flash or not captures else _MASKED_GRAPH_TOKENS
        manager = loaded.model.init_continuous_batching(
            generation(do_sample=False, eos_token_id=sorted(loaded.end_tokens) or -1, pad_token_id=0),
            ContinuousBatchingConfig(
                page_size=page,
                num_blocks=None if kv_tokens is None else -(-kv_tokens // page) + 1,
                max_batch_tokens=options.max_batch_tokens or (None if flash else 512),
                max_requests_per_batch=options.max_running,
                max_memory_percent=0.8,
                use_cuda_graph=captures,
                q_padding_interval_size=masked_step,
                kv_padding_interval_size=masked_cache,
                auto_switch_to_flash=False,  # decided when the model was loaded
            ),
        )
        noted = self._sampling.noted if self._sampling is not None else {}
        self._sampling = manager.logit_processor = PerAskSampling(captured=captures)
        self._sampling.noted = noted
        manager.warmup()
        manager.start()
        self._manager = manager
        return cause

    async def aclose(self) -> None:
        """Answer whoever still waits and free the device."""
        self._closed = True
        await self._tasks.aclose()
        shut = PortUnavailable("the engine is shut down")
        while (turn := self._queue.pop()) is not None:
            if not turn.done():
                turn.set_exception(shut)
        for flight in list(self._running):
            if not flight.over:
                self._end(flight, shut)
        if self._manager is not None:
            await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._manager.stop(block=True, timeout=_STOP_S, hard_stop=True)
        self._manager.destroy()


async def open_batched(loaded: Loaded, options: BatchOptions) -> BatchedEngine:
    """A warm engine. Raises ``ConfigError`` when the model cannot be run in batches on this device."""
    engine = BatchedEngine(loaded, options)
    try:
        await engine.start()
    except Exception as error:
        if engine._manager is not None:  # noqa: SLF001 - it is ours and half built
            await engine.aclose()
        raise ConfigError(f"model {loaded.name} cannot be run in batches here: {_told(error)}") from error
    return engine


def _kv_tokens(loaded: Loaded, options: BatchOptions) -> int | None:
    """What the cache holds; None lets the library measure what memory the GPU has left."""
    if options.kv_tokens is not None:
        return options.kv_tokens
    if loaded.device.startswith("cuda") and "flash" in loaded.model.config._attn_implementation:  # noqa: SLF001
        return None
    return max(loaded.context, min(options.max_running * loaded.context, _MASKED_KV_TOKENS))


def _captures(loaded: Loaded, options: BatchOptions) -> bool:
    """Whether the GPU's work is recorded as graphs. Quantised layers look at their values, which no graph can."""
    quantised = getattr(loaded.model, "is_quantized", False)
    return options.graphs and loaded.device.startswith("cuda") and not quantised


def _failure(cause: BaseException | None) -> PortUnavailable:
    import torch  # noqa: PLC0415 - loaded long since

    if isinstance(cause, torch.OutOfMemoryError) or "out of memory" in str(cause):
        message = "the device ran out of memory over this request; send a shorter prompt, or fewer at a time"
    else:
        message = f"the engine broke over this request: {_told(cause)}"
    return PortUnavailable(message, retry_after_s=_RETRY_AFTER_S)


def _told(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
