"""What every operation has in common: its query and body are read into models, its answer is written from one.

Handlers get a ``Call`` and give a model. What is wrong with a question is told in one line.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from aiohttp import web
from pydantic import BaseModel, ValidationError

from cacheproxy import jsontext
from cacheproxy.server.api.operations import BASE, JSON, OPERATIONS
from cacheproxy.server.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiohttp.typedefs import Handler as WebHandler

    from cacheproxy.server.api.operations import Operation

_LONGEST_ID: Final = 200


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read. ``query`` and ``body`` are of the operation's models."""

    request: web.Request
    query: Any = None
    body: Any = None

    @property
    def id(self) -> str:
        """What stands for ``{id}`` in the path."""
        return self.request.match_info["id"]


Handler: TypeAlias = "Callable[[Call], Awaitable[BaseModel | web.StreamResponse | bytes]]"
"""Gives a model, a JSON text, or a response of its own."""


def routes(handlers: Mapping[str, Handler]) -> list[web.RouteDef]:
    """A route for each operation. Raises ``KeyError`` for one without a handler."""
    return [
        web.route(operation.method, BASE + operation.path, _answering(operation, handlers[operation.name]))
        for operation in OPERATIONS
    ]


def handing_on(current: Callable[[], Mapping[str, Handler]]) -> Mapping[str, Handler]:
    """Handlers that hand each call on to the one of their name that there is by then."""

    def of(name: str) -> Handler:
        async def hand_on(call: Call) -> BaseModel | web.StreamResponse | bytes:
            return await current()[name](call)

        return hand_on

    return {name: of(name) for name in current()}


def _answering(operation: Operation, handle: Handler) -> WebHandler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if any(len(part) > _LONGEST_ID for part in request.match_info.values()):
            raise Refused(400, f"an id has at most {_LONGEST_ID} characters")
        query = _query(operation, request)
        body = await _body(operation, request)
        told = await handle(Call(request, query, body))
        if isinstance(told, web.StreamResponse):
            return told
        text = told if isinstance(told, bytes) else written(told)
        return _cached(request, text) if operation.cached else web.Response(body=text, content_type=JSON)

    return answer


def written(told: BaseModel) -> bytes:
    """A model as JSON. Lone surrogates, which pydantic refuses, become escapes."""
    try:
        return told.model_dump_json(by_alias=True).encode()
    except ValueError:
        return jsontext.dump(told.model_dump(by_alias=True))


def _query(operation: Operation, request: web.Request) -> BaseModel | None:
    names = [name for name, _ in request.query.items()]
    if operation.query is None:
        if names:
            raise Refused(400, f"{names[0][:100]!r} means nothing here: there are no parameters")
        return None
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise Refused(400, f"{repeated[:100]!r} is given more than once")
    return _checked(operation.query, dict(request.query))


async def _body(operation: Operation, request: web.Request) -> BaseModel | None:
    if operation.method != "POST":
        return None
    # Also what keeps other sites' forms out: they cannot send this type unasked.
    if request.content_type != operation.takes:
        raise Refused(415, f"send Content-Type: {operation.takes}")
    if operation.body is None:
        return None
    try:
        given = jsontext.parse(await request.read())
    except ValueError as error:
        raise Refused(400, f"the body is not valid JSON: {error}") from error
    if not isinstance(given, dict):
        raise Refused(400, "the body must be a JSON object")
    return _checked(operation.body, given)


def _checked(model: type[BaseModel], given: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part)[:100] for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise Refused(400, f"{place!r} means nothing here; there are {known}") from None
        raise Refused(400, f"{place}: {first['msg']}") from None


def _cached(request: web.Request, text: bytes) -> web.Response:
    """The answer, or that it is as it was."""
    tag = hashlib.blake2b(text, digest_size=16).hexdigest()
    known = request.if_none_match or ()
    if any(each.value in (tag, "*") for each in known):
        return web.Response(status=304, headers={"ETag": f'"{tag}"'})
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
    return web.Response(body=text, content_type=JSON, headers=headers)
