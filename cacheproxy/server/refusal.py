"""The one shape of errors on the admin plane."""

from __future__ import annotations

from aiohttp import web


def refused(status: int, code: str, message: str) -> web.Response:
    """An error: ``{"error": {"code", "message"}}``."""
    return web.json_response({"error": {"code": code, "message": message}}, status=status)
