"""Callers that speak plain HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multidict import CIMultiDict

if TYPE_CHECKING:
    import aiohttp


@dataclass
class Told:
    """An answer, read to its end."""

    status: int
    headers: CIMultiDict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def cache(self):
        """Status and layer of a hit, status and reason of a miss."""
        return cache_of(self.headers)

    @property
    def text(self):
        """What the assistant said in a chat completion, JSON or stream."""
        if self.headers["Content-Type"].startswith("application/json"):
            return self.json["choices"][0]["message"]["content"]
        data = [line.removeprefix("data: ") for line in self.body.decode().splitlines() if line.startswith("data: ")]
        chunks = [json.loads(item) for item in data if item != "[DONE]"]
        return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def cache_of(headers):
    """Status and layer of a hit, status and reason of a miss."""
    return headers.get("X-Cache-Status"), headers.get("X-CacheProxy-Layer") or headers.get("X-CacheProxy-Reason")


@dataclass
class Http:
    """A caller that speaks plain HTTP."""

    session: aiohttp.ClientSession
    base: str
    key: str

    async def send(self, path, body=None, *, method="POST", headers=(), base=None):
        """Send a request, read the answer. Objects go as JSON."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **dict(headers)}
        async with self.session.request(
            method, (base or self.base) + path, data=body, headers=given, allow_redirects=False
        ) as response:
            return Told(response.status, CIMultiDict(response.headers), await response.read())

    async def ask(self, question, *, headers=(), base=None, model="gpt-4o-mini", **members):
        """Send one user turn as a chat completion."""
        body = {"model": model, "messages": [{"role": "user", "content": question}], **members}
        return await self.send("/v1/chat/completions", body, headers=headers, base=base)
