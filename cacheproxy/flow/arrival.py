"""A request's identity: the name under which its caller, the log and the explanations know it, and its trace.

A caller may bring a name (``X-Request-Id``); otherwise one is made. Where an upstream answers, its own name for the
request wins, because that is what the provider's support asks for, and the caller's own client shows it.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from cacheproxy.errors import ProxyError
    from cacheproxy.events import Served
    from cacheproxy.flow.messages import Headers
    from cacheproxy.ports import UpstreamRequest
    from cacheproxy.tracing import Trace

REQUEST_ID: Final = "X-Request-Id"
_SANE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")


class Untraced:
    """The trace of a request that nobody traces."""

    id = ""

    def about(self, *, dialect: str, upstream: str, model: str, stream: bool) -> None:
        """Nothing."""

    def step(self, name: str) -> AbstractContextManager[object]:  # noqa: ARG002 - the port's signature
        """Nothing."""
        return _NOTHING

    def call(
        self,
        upstream: str,  # noqa: ARG002 - as above
        request: UpstreamRequest,
        *,
        model: str = "",  # noqa: ARG002 - as above
    ) -> AbstractContextManager[UntracedCall]:
        """The request as it is: a caller's own trace headers pass as they came."""
        return nullcontext(UntracedCall(request))

    def served(self, event: Served) -> None:
        """Nothing."""

    def passed(self, status: int) -> None:
        """Nothing."""

    def failed(self, error: ProxyError | None) -> None:
        """Nothing."""


@dataclass(slots=True)
class UntracedCall:
    """A call that nobody traces."""

    request: UpstreamRequest

    def answered(self, status: int) -> None:
        """Nothing."""


UNTRACED: Final = Untraced()
_NOTHING: Final[AbstractContextManager[object]] = nullcontext()


@dataclass(slots=True)
class Arrival:
    """One request: ``started`` is when its head was here, on the monotonic clock, in seconds."""

    id: str
    started: float
    trace: Trace = UNTRACED
    given: str = ""
    """What its caller called it; empty where it said nothing, or something odd."""
    explained: bool = False
    """Whether the decision on it is remembered."""
    token: str = ""
    """Letters and digits that no other request has, for the id of an answer that is told again."""

    def take_name(self, headers: Headers, name: str) -> bool:
        """Be called as an upstream does, if its answer's headers say how (in the header ``name``)."""
        for header, given in headers:
            if header.lower() == name:
                self.id = given or self.id
                return bool(given)
        return False

    def sign(self, headers: Headers, name: str) -> Headers:
        """The headers of an upstream's answer, with our name for the request where the upstream has none."""
        return headers if self.take_name(headers, name) else [*headers, (name, self.id)]


def name_given(headers: Mapping[str, str]) -> str:
    """What the caller calls its request: a short word that cannot break a header or a log line, else nothing."""
    given = headers.get(REQUEST_ID, "")
    return given if given and _SANE.fullmatch(given) else ""
