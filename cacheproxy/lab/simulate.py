"""A simulated upstream LLM as an HTTP server: OpenAI's and Anthropic's APIs, JSON and streams, with a model of time.

An answer's first token takes ``delay_ms``, each further one ``1 / tokens_per_s``. Failures are drawn per request from
a seeded generator. With ``answers`` it words the same facts anew for every question and every call, as a real model
does, so that no two answers are equal strings; what it says follows from the seed, the request, and how often that
request has come. ``GET /simulated/stats`` tells what reached it, so that a demo or a test can prove what a cache in
front of it kept away.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections import Counter, OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from aiohttp import web

from cacheproxy.address import Address
from cacheproxy.errors import BadRequest, ConfigError
from cacheproxy.jsontext import dump, parse
from cacheproxy.lab.sim_api import error_body
from cacheproxy.lab.sim_chat import CHAT, COMPLETIONS
from cacheproxy.lab.sim_embeddings import embeddings
from cacheproxy.lab.sim_messages import MESSAGES, prompt_of
from cacheproxy.lab.sim_responses import RESPONSES
from cacheproxy.upstream.rewording import reworded
from cacheproxy.upstream.simulated import generate, seed_of
from cacheproxy.wire.dialect import Fresh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.lab.sim_api import Api, Event
    from cacheproxy.upstream.simulated import Generation, Prompt

_MODELS: Final = ("gpt-4o", "gpt-4o-mini", "text-embedding-3-small", "claude-sonnet-5")
_MAX_BODY: Final = 64 * 1024 * 1024
_KEPT_RESPONSES: Final = 1000
_REMEMBERED_REQUESTS: Final = 100_000
"""Of which it is known how often they came."""
_RETRY_AFTER_S: Final = 1
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """How the simulated upstream behaves. Rates are shares of all requests, and together at most 1."""

    host: str = "127.0.0.1"
    port: int = 8099
    """0 takes any free port."""
    delay_ms: float = 0.0
    """Time to the first token."""
    tokens_per_s: float = 0.0
    """How fast the others follow; 0 is at once."""
    error_rate: float = 0.0
    """Answered with 500."""
    rate_limit_rate: float = 0.0
    """Answered with 429 and Retry-After."""
    reset_rate: float = 0.0
    """Cut off in the middle of the answer."""
    seed: int | None = None
    """Makes the failures repeatable, and with ``answers`` chooses the words."""
    knowledge: Mapping[str, str] = field(default_factory=dict)
    """Questions and their classes, from ``knowledge_of``; an answer begins with the name of its class."""
    answers: Mapping[str, str] | None = None
    """The same, but an answer states its class's facts in words of its own, see ``upstream.rewording``."""

    def __post_init__(self) -> None:
        rates = (self.error_rate, self.rate_limit_rate, self.reset_rate)
        if min(rates) < 0 or sum(rates) > 1:
            raise ConfigError("The rates of errors, rate limits and resets must be 0 or more, and at most 1 together.")
        if min(self.delay_ms, self.tokens_per_s) < 0:
            raise ConfigError("The delay and the tokens per second must not be negative.")
        if self.knowledge and self.answers is not None:
            raise ConfigError("Answers name their class (questions) or are worded anew (answers): give one of the two.")


def build_app(
    options: SimulateOptions,
    *,
    now: Callable[[], float] = time.time,  # noqa: TID251 - its answers are stamped, nothing is decided by this clock
) -> web.Application:
    """The server's application. Run it with ``handler_cancellation=True`` so that abandoned requests are noticed."""
    server = _Server(options, now)
    app = web.Application(client_max_size=_MAX_BODY)
    app.add_routes(
        [
            web.post("/v1/chat/completions", server.handling(partial(server.generated, CHAT))),
            web.post("/v1/completions", server.handling(partial(server.generated, COMPLETIONS))),
            web.post("/v1/responses", server.handling(partial(server.generated, RESPONSES))),
            web.post("/v1/messages", server.handling(partial(server.generated, MESSAGES))),
            web.post("/v1/messages/count_tokens", server.handling(server.counted)),
            web.post("/v1/embeddings", server.handling(server.embedded)),
            web.get("/v1/responses/{id}", server.handling(server.kept)),
            web.delete("/v1/responses/{id}", server.handling(server.deleted)),
            web.get("/v1/models", server.handling(_models)),
            web.get("/simulated/stats", server.stats),
            web.route("*", "/{path:.*}", server.handling(_unknown)),
        ]
    )
    return app


@asynccontextmanager
async def serving(
    options: SimulateOptions,
    *,
    now: Callable[[], float] = time.time,  # noqa: TID251 - as above
) -> AsyncIterator[str]:
    """A running simulated upstream; gives its base URL, ``/v1`` included.

    Raises ``ConfigError`` when the address cannot be listened on.
    """
    app = build_app(options, now=now)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, options.host, options.port).start()
        except OSError as error:
            raise Address(options.host, options.port).taken(error) from error
        host, port = runner.addresses[0][:2]
        yield f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


async def run_simulate(options: SimulateOptions, *, started: Callable[[str], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, otherwise as ``serving``; ``started`` is told the base URL at the start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        async with serving(options) as base_url:
            if started is not None:
                started(base_url)
            await stop.wait()
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)


class _Fate(Enum):
    """What becomes of a request."""

    ANSWERED = "answered"
    ERROR = "error"
    RATE_LIMITED = "rate-limited"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a handler has to say: one JSON object, or events; ``tokens`` is how long the model spoke."""

    json: JsonObject = field(default_factory=dict)
    events: Sequence[Event] = ()
    tokens: int = 0


class _Server:
    """The state behind the routes: counters, the drawn fates, and the responses that are kept under their ids."""

    def __init__(self, options: SimulateOptions, now: Callable[[], float]) -> None:
        self._options = options
        self._now = now
        self._chance = np.random.default_rng(options.seed)
        self._requests: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._totals = Counter(open=0, streams=0, input_tokens=0, output_tokens=0, abandoned=0, reset=0)
        self._kept: OrderedDict[str, JsonObject] = OrderedDict()
        self._came: OrderedDict[int, int] = OrderedDict()

    async def stats(self, _request: web.Request) -> web.Response:
        return _json({"requests": self._requests, "statuses": self._statuses, **self._totals})

    def handling(
        self, answer: Callable[[web.Request], Awaitable[_Reply]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A route's handler: counts the request, lets its fate befall it, and sends what ``answer`` says."""

        async def handle(request: web.Request) -> web.StreamResponse:
            self._requests[request.path] += 1
            self._totals["open"] += 1
            try:
                response = await self._answered(request, answer)
            except (asyncio.CancelledError, ConnectionResetError):
                self._totals["abandoned"] += 1
                raise
            finally:
                self._totals["open"] -= 1
            self._statuses[str(response.status)] += 1
            return response

        return handle

    async def _answered(
        self, request: web.Request, answer: Callable[[web.Request], Awaitable[_Reply]]
    ) -> web.StreamResponse:
        fate = self._fate() if request.method == "POST" else _Fate.ANSWERED
        if fate is _Fate.ERROR:
            return _error(request, 500, "The simulated upstream was told to fail.")
        if fate is _Fate.RATE_LIMITED:
            response = _error(
                request, 429, "The simulated upstream was told to limit the rate. Please try again later."
            )
            response.headers["Retry-After"] = str(_RETRY_AFTER_S)
            return response
        try:
            reply = await answer(request)
        except BadRequest as error:
            return _error(request, 400, error.message)
        except LookupError as error:
            return _error(request, 404, str(error.args[0]))
        self._totals["reset"] += fate is _Fate.RESET
        if reply.events:
            return await self._tell(request, reply.events, cut=fate is _Fate.RESET)
        await asyncio.sleep(self._after_s(reply.tokens) if request.method == "POST" else 0)
        return await self._give(request, dump(reply.json), cut=fate is _Fate.RESET)

    def _fate(self) -> _Fate:
        draw = self._chance.random()
        for fate, rate in (
            (_Fate.ERROR, self._options.error_rate),
            (_Fate.RATE_LIMITED, self._options.rate_limit_rate),
            (_Fate.RESET, self._options.reset_rate),
        ):
            if draw < rate:
                return fate
            draw -= rate
        return _Fate.ANSWERED

    def _after_s(self, tokens: int) -> float:
        """How long after the request this many tokens are out."""
        rate = self._options.tokens_per_s
        return self._options.delay_ms / 1000 + (max(tokens - 1, 0) / rate if rate else 0)

    async def _tell(self, request: web.Request, events: Sequence[Event], *, cut: bool) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(self._after_s(0))
        response = web.StreamResponse(headers=_headers(request) | {"Cache-Control": "no-cache"})
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        await response.prepare(request)
        tokens = 0
        for event in events[: len(events) // 2] if cut else events:
            tokens += event.tokens
            if (early_s := began + self._after_s(tokens) - loop.time()) > 0:
                await asyncio.sleep(early_s)
            await response.write(event.data)
        if cut:
            _abort(request)
        return response

    async def _give(self, request: web.Request, body: bytes, *, cut: bool) -> web.StreamResponse:
        headers = _headers(request) | {"Content-Type": "application/json"}
        if not cut:
            return web.Response(body=body, headers=headers)
        response = web.StreamResponse(headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        _abort(request)
        return response

    async def generated(self, api: Api, request: web.Request) -> _Reply:
        """What the model says through one of the APIs."""
        body = await _body(request)
        asked = api.read(body)
        said = [
            generation for prompt in asked.prompts for generation in map(self._speaker(prompt), range(asked.choices))
        ]
        input_tokens = sum(prompt.input_tokens for prompt in asked.prompts)
        tokens = sum(generation.output_tokens for generation in said)
        self._totals.update(input_tokens=input_tokens, output_tokens=tokens, streams=int(asked.stream))
        told = (body, said, input_tokens, Fresh(secrets.token_hex(12), int(self._now())))
        answer = api.whole(*told)
        if api is RESPONSES and body.get("store") is not False:
            self._keep(answer)
        return _Reply(answer, list(api.stream(*told)) if asked.stream else (), tokens)

    def _speaker(self, prompt: Prompt) -> Callable[[int], Generation]:
        """What gives the choices of the answer to a prompt."""
        answers = self._options.answers
        if answers is None:
            return lambda choice: generate(prompt, self._options.knowledge, choice=choice)
        request = seed_of(prompt.model, prompt.context)
        times = self._came[request] = self._came.pop(request, 0) + 1
        if len(self._came) > _REMEMBERED_REQUESTS:
            self._came.popitem(last=False)
        variation = f"{self._options.seed}, {times}"
        return lambda choice: generate(prompt, answers, choice=choice, wording=reworded, variation=variation)

    async def embedded(self, request: web.Request) -> _Reply:
        answer = embeddings(await _body(request))
        self._totals["input_tokens"] += answer["usage"]["prompt_tokens"]
        return _Reply(answer)

    async def counted(self, request: web.Request) -> _Reply:
        return _Reply({"input_tokens": prompt_of(await _body(request)).input_tokens})

    async def kept(self, request: web.Request) -> _Reply:
        return _Reply(self._found(request, self._kept.get(request.match_info["id"])))

    async def deleted(self, request: web.Request) -> _Reply:
        response = self._found(request, self._kept.pop(request.match_info["id"], None))
        return _Reply({"id": response["id"], "object": "response", "deleted": True})

    def _found(self, request: web.Request, response: JsonObject | None) -> JsonObject:
        if response is None:
            raise LookupError(f"Response with id '{request.match_info['id']}' not found.")
        return response

    def _keep(self, response: JsonObject) -> None:
        self._kept[response["id"]] = response
        if len(self._kept) > _KEPT_RESPONSES:
            self._kept.popitem(last=False)


async def _models(request: web.Request) -> _Reply:
    if _is_anthropic(request):
        stamp = {"type": "model", "created_at": "2024-01-01T00:00:00Z"}
        found = [{"id": name, "display_name": name, **stamp} for name in _MODELS]
        return _Reply({"data": found, "has_more": False, "first_id": _MODELS[0], "last_id": _MODELS[-1]})
    rest = {"object": "model", "created": 1_704_067_200, "owned_by": "simulated"}
    return _Reply({"object": "list", "data": [{"id": name, **rest} for name in _MODELS]})


async def _unknown(request: web.Request) -> _Reply:
    raise LookupError(f"The simulated upstream does not know {request.method} {request.path}.")


async def _body(request: web.Request) -> JsonObject:
    try:
        body = parse(await request.read())
    except ValueError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def _is_anthropic(request: web.Request) -> bool:
    return request.path.startswith("/v1/messages") or "anthropic-version" in request.headers


def _headers(request: web.Request) -> dict[str, str]:
    name = "request-id" if _is_anthropic(request) else "x-request-id"
    return {name: f"req_{secrets.token_hex(12)}"}


def _json(value: JsonObject) -> web.Response:
    return web.Response(body=dump(value), content_type="application/json")


def _error(request: web.Request, status: int, message: str) -> web.Response:
    body = error_body(status, message, anthropic=_is_anthropic(request))
    return web.Response(status=status, body=dump(body), content_type="application/json", headers=_headers(request))


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
