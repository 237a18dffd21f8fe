"""What every dialect can do. See the package's docstring for the nouns."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from cacheproxy.values import value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import AnswerView, View
    from cacheproxy.wire.sse import ServerSentEvent


@value(frozen=True, slots=True)
class Fresh:
    """What makes a replayed answer a new one: ``token`` (letters and digits) for its id, ``created`` in seconds."""

    token: str
    created: int
    request: JsonObject = field(default_factory=dict)
    """The body that is answered, for answers that repeat members of it."""


class MalformedStream(ValueError):
    """A stream that cannot be the dialect's: it is passed on and never stored."""


class Assembler(Protocol):
    """Puts one stream together. Feed it every event in order; it never changes them."""

    def feed(self, event: ServerSentEvent) -> None:
        """Take the next event. Raises ``MalformedStream`` when it cannot belong to the dialect."""

    @property
    def failed(self) -> bool:
        """Whether an error event was seen in mid-stream."""

    def usage_only(self, event: ServerSentEvent) -> bool:
        """Whether this event carries nothing but the usage that we asked for on the caller's behalf."""

    def answer(self) -> JsonObject | None:
        """The whole answer as the JSON API would have given it; None unless the stream ended as a complete one does."""


class Dialect(Protocol):
    """One cached API."""

    name: str
    """Metric label and scope part, for instance ``openai-chat``."""

    request_id_header: str
    """The response header in which the provider names the request."""

    def view(self, body: JsonObject) -> View:
        """Read a request without changing it. Raises ``BadRequest`` where a member that matters has the wrong type."""

    def asking_usage(self, raw: bytes) -> bytes:
        """The request's bytes with the usage of a stream asked for; every other byte as it was."""

    def read(self, answer: JsonObject) -> AnswerView:
        """Read a complete answer. Raises ``ValueError`` when it is none."""

    def assembler(self) -> Assembler:
        """A new assembler for one stream."""

    def refresh(self, answer: JsonObject, fresh: Fresh, *, zero_usage: bool = False) -> JsonObject:
        """The answer as a new one: its own id and creation time, or with every token count at zero too."""

    def replay(self, answer: JsonObject, *, with_usage: bool) -> Iterator[ServerSentEvent]:
        """The answer as the dialect's own events, complete with its terminator.

        ``with_usage`` False leaves out the usage that the caller did not ask for. Feeding these events to an
        assembler gives ``answer`` back (with its usage only where that was included).
        """

    def error(self, status: int, code: str, message: str) -> JsonObject:
        """An error body in the dialect's shape."""

    def error_event(self, status: int, code: str, message: str) -> ServerSentEvent:
        """The same error, in mid-stream."""
