"""The one shape of errors on the admin plane."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web

from cacheproxy.errors import ProxyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler

log = logging.getLogger(__name__)

_CODES: Final[Mapping[int, str]] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    503: "unavailable",
}
_MESSAGES: Final[Mapping[int, str]] = {
    404: "there is nothing here: see /api/v1/openapi.json",
    413: "the body is too large",
}
_FIRST_ERROR: Final = 400


class Refused(Exception):
    """A request that is answered with an error; ``status`` gives it its code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def refused(status: int, code: str, message: str) -> web.Response:
    """An error: ``{"error": {"code", "message"}}``."""
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


@web.middleware
async def one_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever goes wrong, here or in aiohttp, comes out in the one shape."""
    try:
        return await handler(request)
    except Refused as error:
        return refused(error.status, _CODES[error.status], error.message)
    except ProxyError as error:
        return refused(error.status, error.code, error.message)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        response = refused(405, _CODES[405], f"{request.path} takes {allowed}")
        response.headers["Allow"] = allowed
        return response
    except web.HTTPException as error:
        if error.status < _FIRST_ERROR:
            raise
        message = _MESSAGES.get(error.status, error.reason)
        return refused(error.status, _CODES.get(error.status, "error"), message)
    except ConnectionResetError:
        raise  # whoever asked has left
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return refused(500, "internal_error", "this is a fault of cacheproxy: its log says more")
