"""Errors in either dialect, and requests that get them."""

from __future__ import annotations

import pytest
from aiohttp import web

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
OPENAI_HEADERS: dict[str, str] = {}
ANTHROPIC_HEADERS = {"anthropic-version": "2023-06-01"}
DIALECTS = {"openai": (CHAT, OPENAI_HEADERS), "anthropic": (MESSAGES, ANTHROPIC_HEADERS)}
both_dialects = pytest.mark.parametrize(("path", "headers"), DIALECTS.values(), ids=DIALECTS)


def error_of(told, path):
    """The error in a reply, after checking that it has its dialect's shape."""
    assert told.headers["Content-Type"] == "application/json"
    if path == MESSAGES:
        assert told.json.keys() == {"type", "error"}
        assert told.json["type"] == "error"
        assert told.json["error"].keys() >= {"type", "message"}
    else:
        assert told.json.keys() == {"error"}
        assert told.json["error"].keys() == {"message", "type", "param", "code"}
    return told.json["error"]


def asking(question="Hello?", **members):
    return {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": question}], **members}


async def answer(_request, recorded):
    """A complete, plain answer in the dialect and stream mode that was asked."""
    if recorded.target == MESSAGES:
        return web.json_response(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [{"type": "text", "text": "Hi."}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
        )
    message = {"role": "assistant", "content": "Hi."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return web.json_response(
        {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    )
