"""What comes in through a door and what goes out again, whatever HTTP library the door is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from cacheproxy.values import value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from cacheproxy.model import Caller

Headers: TypeAlias = "Sequence[tuple[str, str]]"


class Incoming(Protocol):
    """A request whose head has arrived."""

    @property
    def method(self) -> str:
        """The HTTP method, in capitals."""

    @property
    def target(self) -> str:
        """Path and query, byte for byte as they were sent."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Looked up in any case; ``items()`` gives each header line, repeated names too."""

    @property
    def caller(self) -> Caller | None:
        """Whoever showed a key of ours, which is no longer among the headers; None where none was asked for."""

    @property
    def has_body(self) -> bool:
        """Whether a body follows, even an empty one."""

    async def read(self, limit: int) -> bytes:
        """The whole body, still in its content coding. Raises ``TooLarge`` past ``limit`` bytes.

        Both ways of reading raise ``RequestTimeout`` or ``BadRequest`` when the rest does not come, or cannot be read.
        """

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, for bodies of any size."""


@value(frozen=True, slots=True)
class Whole:
    """A complete reply."""

    status: int
    headers: Headers
    body: bytes


@value(frozen=True, slots=True)
class Streamed:
    """A reply whose body is still to come.

    Whoever writes it awaits ``close()`` afterwards, however the writing went, even if it never began. When ``body``
    raises a ``ProxyError``, the connection must be cut, so that the caller sees a broken answer and not a short one.
    """

    status: int
    headers: Headers
    body: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]


Reply: TypeAlias = Whole | Streamed
