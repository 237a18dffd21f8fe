"""An upstream that answers when it is let go."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from aiohttp import web

CHAT = "/v1/chat/completions"


def said(question):
    return f"Answer to {question}."


def completion(text):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def chunks(text):
    for delta, finish in (
        ({"role": "assistant", "content": ""}, None),
        *(({"content": word}, None) for word in text.split(" ")),
        ({}, "stop"),
    ):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        yield f"data: {json.dumps(chunk)}\n\n".encode()
    yield b"data: [DONE]\n\n"


def question_in(recorded):
    return recorded.json["messages"][-1]["content"]


def asking(question, **members):
    return {"model": "m", "messages": [{"role": "user", "content": question}], **members}


class Gated:
    """An upstream that tells the first part of an answer and holds the rest back until it is let go."""

    def __init__(self, host):
        self._host = host
        self.gone = Counter()
        self.gate = host.run(self._new())

    @staticmethod
    async def _new():
        return asyncio.Event()

    def release(self):
        self._host.loop.call_soon_threadsafe(self.gate.set)

    async def __call__(self, request, recorded):
        question = question_in(recorded)
        if not recorded.json.get("stream"):
            await self.gate.wait()
            return web.json_response(completion(said(question)))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        parts = list(chunks(said(question)))
        await response.write(parts[0])
        while not self.gate.is_set():
            if request.transport is None or request.transport.is_closing():
                self.gone[question] += 1
                return response
            await asyncio.sleep(0.01)
        for part in parts[1:]:
            await response.write(part)
        return response
