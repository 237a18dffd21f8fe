"""Embeddings over HTTP: from ``cacheproxy backend``, text-embeddings-inference, or any server of ``/v1/embeddings``.

Several proxies share one GPU that way, and a proxy with it needs no torch. The server gathers batches; here each text
is one request, over connections that stay open.

Many servers cut a text that is over the model's window and say nothing. A vector of half a question stands for
another question, so a text is refused that may have been cut: one whose reported tokens reach ``window_tokens``, and,
where no tokens are reported, one with more bytes than that (a token is at least one byte).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import numpy as np

from cacheproxy.errors import Overloaded, PortUnavailable, ProxyError, TurnTooLong, translating
from cacheproxy.jsontext import dump, parse
from cacheproxy.wire.reading import count, member

if TYPE_CHECKING:
    from types import TracebackType

    from cacheproxy.model import Vector
    from cacheproxy.ports import Embedder

_CONNECT_S: Final = 2.0
_TOTAL_S: Final = 30.0
_MOST_ANSWER_BYTES: Final = 1024 * 1024
_TOO_LONG: Final = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
_BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class RemoteEmbedder:
    """A model elsewhere. Made by ``open_remote``. At most ``max_waiting`` texts are on their way."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, model: str, *, window_tokens: int, max_waiting: int
    ) -> None:
        self.model = model
        self.dimension = 0
        """Known once the first vector has come."""
        self.device = url
        self.window = window_tokens
        self._session = session
        self._url = f"{url}/embeddings"
        self._max_waiting = max_waiting
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Texts that are on their way."""
        return self._waiting

    async def embed(self, text: str) -> Vector:
        """The text's vector: shape (dimension,), unit length, read-only.

        Raises ``TurnTooLong``, ``Overloaded`` (too many wait, here or there) or ``PortUnavailable``.
        """
        if self._waiting >= self._max_waiting:
            raise Overloaded("too many texts wait for the embedding server")
        self._waiting += 1
        try:
            with translating(
                {aiohttp.ClientError: PortUnavailable, OSError: PortUnavailable, ValueError: PortUnavailable},
                f"the embedding server {self.device}",
            ):
                answer = await self._ask(text)
        finally:
            self._waiting -= 1
        return self._vector(text, answer)

    @property
    def patient(self) -> Embedder:
        """The same: who goes first is the embedding server's to say."""
        return self

    async def _ask(self, text: str) -> Any:
        # A lone surrogate has no place in UTF-8, which is what the other side's tokenizer reads.
        body = {
            "model": self.model,
            "input": text.encode("utf-8", "replace").decode() or " ",
            "encoding_format": "float",
        }
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._url, data=dump(body), headers=headers) as response:
            raw = await response.content.read(_MOST_ANSWER_BYTES)
            if response.status in _TOO_LONG and _speaks_of_length(raw):
                raise TurnTooLong("the text is over the embedding model's window")
            if response.status in _BUSY:
                raise Overloaded(f"the embedding server {self.device} is busy")
            if response.status != HTTPStatus.OK:
                raise PortUnavailable(
                    f"the embedding server {self.device} answered {response.status}: "
                    "check the URL, the model's name and the key"
                )
            return parse(raw)

    def _vector(self, text: str, answer: Any) -> Vector:
        tokens = count(member(answer, "usage"), "prompt_tokens")
        if tokens >= self.window or (not tokens and len(text.encode("utf-8", "replace")) > self.window):
            raise TurnTooLong(f"the text may be over the embedding server's window of {self.window} tokens")
        rows = member(answer, "data")
        numbers = member(rows[0], "embedding") if isinstance(rows, list) and rows else None
        try:
            vector: Vector = np.array(numbers, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise PortUnavailable(f"the embedding server {self.device} gave something that is no vector") from error
        norm = np.linalg.norm(vector) if vector.ndim == 1 and vector.size else 0.0
        if not np.isfinite(norm) or norm == 0 or self.dimension not in (0, vector.size):
            raise PortUnavailable(f"the embedding server {self.device} gave a vector that cannot be used")
        vector /= norm
        vector.flags.writeable = False
        return vector

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def open_remote(
    url: str, model: str, *, key: str = "", window_tokens: int = 256, max_waiting: int = 1024
) -> RemoteEmbedder:
    """An embedder whose server has answered. Raises ``PortUnavailable`` when it does not."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=_TOTAL_S, connect=_CONNECT_S),
        headers={"Authorization": f"Bearer {key}"} if key else None,
        trust_env=False,
    )
    embedder = RemoteEmbedder(session, url, model, window_tokens=window_tokens, max_waiting=max_waiting)
    try:
        embedder.dimension = (await embedder.embed("warm")).size
    except ProxyError as error:
        await embedder.aclose()
        raise PortUnavailable(error.message) from error
    except BaseException:
        await embedder.aclose()
        raise
    return embedder


def _speaks_of_length(raw: bytes) -> bool:
    """Whether an error is about the text's length, as each kind of server words it."""
    words = raw.lower()
    return any(
        word in words for word in (b"turn_too_long", b"maximum context length", b"must have less than", b"too long")
    )
