"""The error shape that all of OpenAI's APIs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cacheproxy.jsontext import JsonObject

_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_FIRST_SERVER_ERROR: Final = 500


def error_type(status: int) -> str:
    """OpenAI's word for the kind of error that an HTTP status stands for."""
    kind = "api_error" if status >= _FIRST_SERVER_ERROR else "invalid_request_error"
    return _TYPES.get(status, kind)


def error_body(status: int, code: str, message: str) -> JsonObject:
    """``{"error": {...}}`` as OpenAI's clients read it. No parameter is blamed: the message names it."""
    return {"error": {"message": message, "type": error_type(status), "param": None, "code": code}}
