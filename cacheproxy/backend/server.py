"""The server's paths over one engine: APIs, health, metrics. Every error is told in its API's own shape."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cacheproxy.backend.anthropic_api import Messages, prompt_of
from cacheproxy.backend.embeddings import embedded
from cacheproxy.backend.metrics import Metrics
from cacheproxy.backend.openai_api import Chat, Completions
from cacheproxy.backend.speech import End, Said, joined, speak
from cacheproxy.errors import BadRequest, Overloaded, PortUnavailable, ProxyError, TooLarge
from cacheproxy.jsontext import dump, parse
from cacheproxy.tasks import TaskSet
from cacheproxy.wire.dialect import Fresh
from cacheproxy.wire.dialects import DIALECTS, dialect_for_errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from cacheproxy.backend.api import Api, Choice, Wanted, Writer
    from cacheproxy.backend.engine import Engine
    from cacheproxy.backend.prompts import Prompter
    from cacheproxy.embed.local import LocalEmbedder
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.wire.dialect import Dialect

log = logging.getLogger(__name__)

_MAX_BODY: Final = 32 * 1024 * 1024
_RETRY_AFTER_S: Final = 2.0
_SEED_BITS: Final = 62


@dataclass(slots=True)
class Serving:
    """What answers, once it is there."""

    name: str
    """The model's name, as requests give it."""
    engine: Engine
    prompter: Prompter
    embedder: LocalEmbedder | None = None


class _NoSuchModel(Exception):
    """A request for a model that is not here: OpenAI's ``model_not_found``."""


class Server:
    """The state behind the paths. ``serving`` is set when the model is warm; ``now`` tells the time."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self.metrics = Metrics()
        self.serving: Serving | None = None
        self._now = now
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    def app(self) -> web.Application:
        """The application. Run it with ``handler_cancellation=True``: a caller that leaves must be noticed."""
        app = web.Application(client_max_size=_MAX_BODY)
        chat, completions, messages = Chat(), Completions(), Messages()
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._handling("chat", partial(self._generated, "chat", chat))),
                web.post(
                    "/v1/completions",
                    self._handling("completions", partial(self._generated, "completions", completions)),
                ),
                web.post("/v1/messages", self._handling("messages", partial(self._generated, "messages", messages))),
                web.post("/v1/messages/count_tokens", self._handling("count_tokens", self._counted)),
                web.post("/v1/embeddings", self._handling("embeddings", self._embedded)),
                web.get("/v1/models", self._models),
                web.get("/livez", self._live),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
            ]
        )
        return app

    async def drain(self, timeout_s: float) -> None:
        """Take nothing more, and let what is under way end, but not longer than this."""
        self._draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return

    def _now_serving(self) -> Serving:
        if self._draining:
            raise Overloaded("this server is shutting down", retry_after_s=_RETRY_AFTER_S)
        if self.serving is None:
            raise Overloaded("the model is still loading", retry_after_s=_RETRY_AFTER_S)
        return self.serving

    def _handling(
        self, api: str, answer: Callable[[web.Request, JsonObject], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A path's handler: reads the body, tells errors in the API's shape, counts and measures."""

        async def handle(request: web.Request) -> web.StreamResponse:
            self._open += 1
            self._idle.clear()
            started = perf_counter()
            status = "left"
            try:
                response = await answer(request, await _body(request))
                status = str(response.status)
            except ProxyError as error:
                response = _failure(_dialect(request), error)
                status = str(error.status)
            except _NoSuchModel as error:
                response = _error(_dialect(request), 404, "model_not_found", str(error))
                status = str(response.status)
            except (ConnectionResetError, web.HTTPException):
                raise
            except Exception as error:
                log.exception("%s failed", request.path)
                response = _failure(_dialect(request), ProxyError(f"the server failed: {type(error).__name__}"))
                status = str(response.status)
            finally:
                self._open -= 1
                if not self._open:
                    self._idle.set()
                self.metrics.requests.labels(api, status).inc()
                self.metrics.request_seconds.labels(api).observe(perf_counter() - started)
            return response

        return handle

    async def _generated(self, name: str, api: Api, request: web.Request, body: JsonObject) -> web.StreamResponse:
        started = perf_counter()
        serving = self._now_serving()
        _check_model(body, serving.name)
        wanted = await api.read(body, serving.prompter, lambda: secrets.randbits(_SEED_BITS))
        fresh = Fresh(secrets.token_hex(12), int(self._now()))
        writer = api.writer(body, wanted, serving.prompter, fresh)
        async with aclosing(_parts(serving, wanted)) as parts:
            first = await anext(parts)
            self.metrics.first_token_seconds.labels(name).observe(perf_counter() - started)
            if wanted.stream:
                return await _stream(request, api.dialect, writer, first, parts)
            return await _whole(api.dialect, writer, wanted, first, parts)

    async def _counted(self, _request: web.Request, body: JsonObject) -> web.StreamResponse:
        serving = self._now_serving()
        _check_model(body, serving.name)
        return _json({"input_tokens": len((await prompt_of(body, serving.prompter)).tokens)})

    async def _embedded(self, _request: web.Request, body: JsonObject) -> web.StreamResponse:
        embedder = self._now_serving().embedder
        if embedder is None:
            raise BadRequest("This server has no embedding model: start it with --embedding-model NAME.")
        _check_model(body, embedder.model)
        answer = await embedded(body, embedder)
        self.metrics.embeddings.inc(len(answer["data"]))
        return _json(answer)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        try:
            serving = self._now_serving()
        except ProxyError as error:
            return _failure(_dialect(request), error)
        names = [serving.name, *([serving.embedder.model] if serving.embedder else [])]
        if "anthropic-version" in request.headers:
            found = [{"type": "model", "id": name, "display_name": name, "created_at": _EPOCH} for name in names]
            return _json({"data": found, "has_more": False, "first_id": names[0], "last_id": names[-1]})
        rest = {"object": "model", "created": 0, "owned_by": "cacheproxy"}
        return _json({"object": "list", "data": [{"id": name, **rest} for name in names]})

    async def _live(self, _request: web.Request) -> web.Response:
        return _json({"status": "alive"})

    async def _ready(self, request: web.Request) -> web.Response:
        try:
            serving = self._now_serving()
        except ProxyError as error:
            return _failure(_dialect(request), error)
        load = serving.engine.load
        return _json({"status": "ready", "model": serving.name, "running": load.running, "waiting": load.waiting})

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4"})


_EPOCH: Final = "1970-01-01T00:00:00Z"


async def _parts(serving: Serving, wanted: Wanted) -> AsyncGenerator[tuple[int, Said | End], None]:
    """The parts of every choice as they come, each with its choice's number."""
    if len(wanted.choices) == 1:
        async with aclosing(_spoken(serving, wanted, wanted.choices[0])) as parts:
            async for part in parts:
                yield 0, part
        return
    told: asyncio.Queue[tuple[int, Said | End | ProxyError]] = asyncio.Queue()

    async def pump(number: int, choice: Choice) -> None:
        try:
            async with aclosing(_spoken(serving, wanted, choice)) as parts:
                async for part in parts:
                    told.put_nowait((number, part))
        except ProxyError as error:
            told.put_nowait((number, error))
        except Exception as error:  # whoever waits for this choice must be answered
            told.put_nowait((number, PortUnavailable(f"a choice could not be generated: {type(error).__name__}")))
            raise

    async with TaskSet("choices") as tasks:
        for number, choice in enumerate(wanted.choices):
            tasks.start(pump(number, choice), name=str(number))
        left = len(wanted.choices)
        while left:
            number, what = await told.get()
            if isinstance(what, ProxyError):
                raise what
            left -= isinstance(what, End)
            yield number, what


def _spoken(serving: Serving, wanted: Wanted, choice: Choice) -> AsyncGenerator[Said | End, None]:
    return speak(serving.engine, choice.ask, serving.prompter.speech(choice.prompt, wanted.stops))


async def _stream(
    request: web.Request,
    dialect: Dialect,
    writer: Writer,
    first: tuple[int, Said | End],
    rest: AsyncIterator[tuple[int, Said | End]],
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Cache-Control": "no-cache"})
    response.content_type = "text/event-stream"
    response.charset = "utf-8"
    await response.prepare(request)
    await response.write(b"".join(event.encode() for event in writer.begin()))
    try:
        await response.write(_told(writer, first))
        async for part in rest:
            if events := _told(writer, part):
                await response.write(events)
        await response.write(b"".join(event.encode() for event in writer.finish()))
    except ProxyError as error:
        await response.write(dialect.error_event(error.status, error.code, error.message).encode())
    return response


async def _whole(
    dialect: Dialect,
    writer: Writer,
    wanted: Wanted,
    first: tuple[int, Said | End],
    rest: AsyncIterator[tuple[int, Said | End]],
) -> web.Response:
    said: list[list[Said]] = [[] for _ in wanted.choices]
    ends: dict[int, End] = {}
    _keep(first, said, ends)
    async for part in rest:
        _keep(part, said, ends)
    assembler = dialect.assembler()
    for event in writer.begin():
        assembler.feed(event)
    for number, parts in enumerate(said):
        for event in (*writer.say(number, joined(parts)), *writer.end(number, ends[number])):
            assembler.feed(event)
    for event in writer.finish():
        assembler.feed(event)
    answer = assembler.answer()
    assert answer is not None  # noqa: S101 - the writer told it to its end
    return _json(answer)


def _keep(part: tuple[int, Said | End], said: list[list[Said]], ends: dict[int, End]) -> None:
    number, what = part
    if isinstance(what, End):
        ends[number] = what
    else:
        said[number].append(what)


def _told(writer: Writer, part: tuple[int, Said | End]) -> bytes:
    number, what = part
    events = writer.end(number, what) if isinstance(what, End) else writer.say(number, what)
    return b"".join(event.encode() for event in events)


def _check_model(body: JsonObject, name: str) -> None:
    asked = body.get("model")
    if isinstance(asked, str) and asked != name:
        raise _NoSuchModel(f"There is no model {asked!r} here; this server has {name!r}.")


async def _body(request: web.Request) -> JsonObject:
    try:
        body = parse(await request.read())
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(f"The body is over {_MAX_BODY} bytes.") from error
    except ValueError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def _dialect(request: web.Request) -> Dialect:
    if request.path.startswith("/v1/messages"):
        return DIALECTS["/v1/messages"]
    return DIALECTS.get(request.path) or dialect_for_errors(request.headers)


def _json(value: Mapping[str, object]) -> web.Response:
    return web.Response(body=dump(value), content_type="application/json")


def _failure(dialect: Dialect, error: ProxyError) -> web.Response:
    response = _error(dialect, error.status, error.code, error.message)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return response


def _error(dialect: Dialect, status: int, code: str, message: str) -> web.Response:
    body = dump(dialect.error(status, code, message))
    return web.Response(status=status, body=body, content_type="application/json")
