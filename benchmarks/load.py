"""What the hot path is asked, and who asks: a bare asyncio protocol, so that the load costs little itself."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, cast

from cacheproxy.core.volatile import is_volatile

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_STRAYS = 0.05
MODEL = "gpt-4o-mini"
SYSTEM = "You are the assistant of a bank's support desk. Answer briefly and politely. " * 11
ANSWER = {
    "id": "chatcmpl-stub",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": MODEL,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Certainly. " * 60}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 230, "completion_tokens": 120, "total_tokens": 350},
}


def questions() -> list[str]:
    """BANKING77 questions of the bundled sample, but for volatile ones, which the semantic layer leaves alone."""
    lines = (resources.files("cacheproxy") / "data" / "banking77_sample.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    return [text for text in texts if not is_volatile(text)]


def body(question: str) -> bytes:
    """A chat request of about 1 KiB."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    return json.dumps({"model": MODEL, "messages": messages}).encode()


class Connection(asyncio.Protocol):
    """One keep-alive connection that sends whole requests and reads answers by their Content-Length."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answered: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Collect until the answer is whole."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end])
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= end + 4 + length and self._answered is not None:
            self._buffer.clear()
            self._answered.set_result(head)

    async def ask(self, raw: bytes) -> bytes:
        """Send a request; its answer's head."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answered

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


def request(port: int, content: bytes) -> bytes:
    """The bytes of one request."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer benchmark\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


@dataclass
class Arm:
    """What is asked of which server, and what was measured: (requests/s, p50 in ms) a round, by concurrency."""

    name: str
    port: int
    bodies: Iterator[bytes]
    wanted: bytes = b""
    """What each answer's head must say for the arm to measure what it claims."""
    rounds: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    strays: list[bytes] = field(default_factory=list)
    """Other answers, which do not count: on a busy machine an embedding may miss its deadline."""

    async def measure(self, concurrency: int, seconds: float) -> None:
        """One round."""
        loop = asyncio.get_running_loop()
        pairs = [await loop.create_connection(Connection, "127.0.0.1", self.port) for _ in range(concurrency)]
        took: list[float] = []
        until = time.perf_counter() + seconds

        async def client(connection: Connection) -> None:
            while (began := time.perf_counter()) < until:
                head = await connection.ask(request(self.port, next(self.bodies)))
                if self.wanted in head and b" 200 " in head.split(b"\r\n", 1)[0]:
                    took.append(time.perf_counter() - began)
                else:
                    self.strays.append(head)

        started = time.perf_counter()
        try:
            await asyncio.gather(*(client(connection) for _, connection in pairs))
        finally:
            for _, connection in pairs:
                connection.close()
        if len(self.strays) > MOST_STRAYS * len(took):
            raise AssertionError(f"{self.name}: too many unexpected answers, such as\n{self.strays[0].decode()}")
        rate = len(took) / (time.perf_counter() - started)
        self.rounds.setdefault(concurrency, []).append((rate, statistics.median(took) * 1000))

    def rate(self, concurrency: int) -> float:
        """Median requests/s."""
        return statistics.median(rate for rate, _ in self.rounds[concurrency])

    def p50(self, concurrency: int) -> float:
        """Median of the rounds' median latencies, in ms."""
        return statistics.median(p50 for _, p50 in self.rounds[concurrency])
