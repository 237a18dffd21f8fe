"""Sends questions through a proxy as chat completions, and reports what its cache did with them.

Either ``concurrency`` requests are always under way, or each is sent when it arrived in the recording. Whether a hit is
wrong is known where the question has a class and the answer names one, as the simulated upstream's do. A request that
fails is counted and never ends the replay.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import dump, parse
from cacheproxy.lab.outcomes import Outcome, ReplayReport, summarise
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.rewording import code_word, code_word_in
from cacheproxy.upstream.simulated import marker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cacheproxy.lab.questions import Question

_OK: Final = 200


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Where the questions go, and how fast."""

    proxy_url: str = "http://127.0.0.1:8090/v1"
    model: str = "gpt-4o-mini"
    api_key: str = field(default="sk-replay", repr=False)
    system: str = ""
    """A system prompt in front of every question."""
    concurrency: int = 8
    speed: float | None = None
    """Set to send at the recorded arrival times, this many times faster."""
    timeout_s: float = 180.0
    """How long one request may take."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is."""

    done: int
    total: int
    hits: int
    errors: int


async def replay(
    questions: Sequence[Question], options: ReplayOptions, *, progress: Callable[[Progress], None] | None = None
) -> ReplayReport:
    """Send every question once, in order, and report. ``progress`` is told after each one.

    Raises ``BadRequest`` when an option makes no sense, or arrival times are asked for and a question has none.
    """
    _check(questions, options)
    outcomes = _Outcomes(len(questions), progress)
    began = time.perf_counter()
    async with _session(options) as session, TaskSet("replay") as tasks:
        if options.speed is None:
            waiting = iter(questions)  # shared: each worker takes the next one
            work = [_work(session, options, waiting, outcomes) for _ in range(options.concurrency)]
        else:
            work = [
                _later(delay_s, session, options, question, outcomes)
                for delay_s, question in _schedule(questions, options.speed)
            ]
        running = [tasks.begin(one, name="questions") for one in work]
        await asyncio.gather(*running)
    return summarise(outcomes.all, duration_s=time.perf_counter() - began)


class _Outcomes:
    """Collects outcomes and passes on how far the replay is."""

    def __init__(self, total: int, progress: Callable[[Progress], None] | None) -> None:
        self.all: list[Outcome] = []
        self._so_far = Progress(0, total, 0, 0)
        self._tell = progress

    def add(self, outcome: Outcome) -> None:
        self.all.append(outcome)
        past = self._so_far
        self._so_far = Progress(past.done + 1, past.total, past.hits + outcome.hit, past.errors + bool(outcome.error))
        if self._tell is not None:
            self._tell(self._so_far)


def _check(questions: Sequence[Question], options: ReplayOptions) -> None:
    if options.concurrency < 1:
        raise BadRequest("The concurrency must be at least 1.")
    if _endpoint(options.proxy_url).scheme not in {"http", "https"}:
        raise BadRequest("The proxy's URL must begin with http:// or https://.")
    if options.speed is None:
        return
    if options.speed <= 0:
        raise BadRequest("The speed must be above 0.")
    if any(question.at_s is None for question in questions):
        raise BadRequest("Arrival times were asked for, and there are questions without 'at'.")


def _schedule(questions: Sequence[Question], speed: float) -> Iterator[tuple[float, Question]]:
    """Each question with the seconds to wait for it, from now on."""
    first = min((question.at_s or 0.0 for question in questions), default=0.0)
    return ((((question.at_s or 0.0) - first) / speed, question) for question in questions)


def _session(options: ReplayOptions) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Authorization": f"Bearer {options.api_key}", "Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(total=options.timeout_s),
    )


def _endpoint(proxy_url: str) -> URL:
    base = URL(proxy_url)
    return (base / "v1" if base.path == "/" else base) / "chat" / "completions"


async def _work(
    session: aiohttp.ClientSession, options: ReplayOptions, waiting: Iterator[Question], outcomes: _Outcomes
) -> None:
    for question in waiting:
        outcomes.add(await _ask(session, options, question))


async def _later(
    delay_s: float, session: aiohttp.ClientSession, options: ReplayOptions, question: Question, outcomes: _Outcomes
) -> None:
    await asyncio.sleep(delay_s)
    outcomes.add(await _ask(session, options, question))


async def _ask(session: aiohttp.ClientSession, options: ReplayOptions, question: Question) -> Outcome:
    system = [{"role": "system", "content": options.system}] if options.system else []
    body = {"model": options.model, "messages": [*system, {"role": "user", "content": question.text}]}
    began = time.perf_counter()
    error = ""
    raw = b""
    headers: Mapping[str, str] = {}
    try:
        async with session.post(_endpoint(options.proxy_url), data=dump(body)) as response:
            headers = response.headers
            raw = await response.read()
            if response.status != _OK:
                error = f"HTTP {response.status}"
    except TimeoutError:
        error = "timed out"
    except (aiohttp.ClientError, OSError) as failure:
        error = type(failure).__name__
    return _outcome(question, headers, raw, error, latency_ms=(time.perf_counter() - began) * 1000)


def _outcome(question: Question, headers: Mapping[str, str], raw: bytes, error: str, *, latency_ms: float) -> Outcome:
    if error:
        return Outcome(latency_ms, error)
    try:
        answer = parse(raw)
        text = answer["choices"][0]["message"]["content"] or ""
    except (ValueError, LookupError, TypeError):
        return Outcome(latency_ms, "no chat completion")
    usage = answer.get("usage") or {}
    return Outcome(
        latency_ms=latency_ms,
        status=headers.get("X-Cache-Status", ""),
        layer=headers.get("X-CacheProxy-Layer", ""),
        reason=headers.get("X-CacheProxy-Reason", ""),
        similarity=_number(headers.get("X-CacheProxy-Similarity")),
        cost_usd=_number(headers.get("X-CacheProxy-Cost")) or 0.0,
        saved_usd=_number(headers.get("X-CacheProxy-Saved")) or 0.0,
        input_tokens=usage.get("prompt_tokens", 0),
        output_tokens=usage.get("completion_tokens", 0),
        wrong=None if question.label is None else _wrong(text, question.label),
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _wrong(text: str, label: str) -> bool | None:
    """Whether an answer belongs to another class: by the class or the code word that it names, None without either."""
    if (told := marker(text)) is not None:
        return told != label
    code = code_word_in(text)
    return None if code is None else code != code_word(label)
