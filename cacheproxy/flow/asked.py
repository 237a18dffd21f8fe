"""A request to a cached API, understood: read once, and carried through the flow from here on."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from cacheproxy import jsontext
from cacheproxy.core import controls as caller_controls
from cacheproxy.core import eligibility, scope
from cacheproxy.errors import BadRequest
from cacheproxy.flow.credentials import name_of
from cacheproxy.flow.tee import decoded
from cacheproxy.values import value
from cacheproxy.wire.splice import remove_member

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cacheproxy.core.controls import Controls
    from cacheproxy.core.eligibility import CacheRules, Eligibility
    from cacheproxy.core.scope import KeyRules, Keys
    from cacheproxy.flow.arrival import Arrival
    from cacheproxy.flow.messages import Incoming
    from cacheproxy.flow.routing import Route
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import Caller, Reason, View
    from cacheproxy.wire.dialect import Dialect


_HEADERS_THAT_COUNT: Final = (
    "content-encoding",
    "cache-control",
    *caller_controls.CONTROL_HEADERS,
    *scope.CREDENTIAL_HEADERS,
    scope.COOKIE,
)
UNKNOWN_TENANT: Final = "unknown"
_KNOWN_BYTES: Final = 2 * 1024 * 1024
_LARGEST_KNOWN_BYTES: Final = 32 * 1024
_OVERHEAD_BYTES: Final = 4 * 1024
"""What a request that is known takes besides its body, near enough."""


@dataclass(frozen=True, slots=True)
class TenantRules:
    """Who counts as one tenant. By default each credential is its own; a key of ours may name one."""

    shared: bool = False
    header: str = ""
    """A header that names the tenant, set by a gateway in front; empty: none."""
    hashed: bool = True
    """Whether a hash names a tenant. Where the secret that keys it does not last, nobody would have that name again."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything an operator set that bears on understanding a request."""

    cache: CacheRules
    keys: KeyRules
    tenants: TenantRules
    max_body_bytes: int


@value(frozen=True)
class Asked:
    """One request to a cached API."""

    route: Route
    dialect: Dialect
    target: str
    """Path and query, byte for byte."""
    headers: Mapping[str, str]
    sent: bytes
    """The body, byte for byte."""
    raw: bytes
    """The body to forward: as it came, but for controls that were taken out."""
    recoded: bool
    """Whether ``raw`` lost the content coding that the request's headers speak of."""
    body: JsonObject
    view: View
    controls: Controls
    bypass: Reason | None
    """Why the cache must not be touched at all."""
    rules: Rules
    place: scope.Place
    keys: Keys
    tenant: str
    caller: Caller | None
    credential: str
    """A keyed hash of the caller's credential and the base URL that it is sent to, see ``credentials.name_of``."""
    arrival: Arrival
    """Which request this is, and when it came."""
    known: bool = False
    """Whether the same bytes were answered from the cache before."""

    @cached_property
    def eligibility(self) -> Eligibility:
        """What the request may use besides its own exact entry. Reads the prompt, so an exact hit does not ask."""
        return eligibility.judge(self.view, self.controls, self.rules.cache)

    def again(self, incoming: Incoming, *, arrival: Arrival) -> Asked:
        """The same request, sent once more."""
        copy = object.__new__(Asked)
        copy.__dict__ = members = self.__dict__.copy()  # a third quicker than to fill another one
        members.update(headers=incoming.headers, arrival=arrival, known=True)
        return copy

    @property
    def prompt(self) -> str:
        """The text that is embedded and compared."""
        return "\n".join(self.view.texts)


class Reader:
    """Reads requests. One that was answered from the cache and comes again, byte for byte, is not read twice."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._headers = frozenset({*_HEADERS_THAT_COUNT, *rules.keys.headers, rules.tenants.header})
        self._known: OrderedDict[tuple[object, ...], Asked] = OrderedDict()
        self._known_bytes = 0

    async def read(self, incoming: Incoming, route: Route, dialect: Dialect, *, arrival: Arrival) -> Asked:
        """Read a request. Raises ``BadRequest`` or ``TooLarge``."""
        sent = await incoming.read(self.rules.max_body_bytes)
        known = self._known.get(self._name(incoming.caller, incoming.target, incoming.headers, sent))
        if known is not None:
            return known.again(incoming, arrival=arrival)
        return understand(incoming, sent, route, dialect, self.rules, arrival=arrival)

    def remember(self, asked: Asked) -> None:
        """This request was answered from the cache: it may well come again."""
        if asked.known or len(asked.sent) > _LARGEST_KNOWN_BYTES:
            return
        name = self._name(asked.caller, asked.target, asked.headers, asked.sent)
        if name in self._known:
            return
        self._known[name] = asked
        self._known_bytes += len(asked.sent) + _OVERHEAD_BYTES
        while self._known_bytes > _KNOWN_BYTES:
            _, oldest = self._known.popitem(last=False)
            self._known_bytes -= len(oldest.sent) + _OVERHEAD_BYTES

    def _name(self, caller: Caller | None, target: str, headers: Mapping[str, str], sent: bytes) -> tuple[object, ...]:
        """Everything that ``understand`` reads; a header may stand on several lines."""
        return (caller, target, sent, *[line for line in headers.items() if line[0].lower() in self._headers])


def understand(
    incoming: Incoming, sent: bytes, route: Route, dialect: Dialect, rules: Rules, *, arrival: Arrival
) -> Asked:
    """Understand a request whose body is ``sent``. Raises ``BadRequest`` or ``TooLarge``."""
    headers = incoming.headers
    controls = caller_controls.from_headers(headers)
    raw = decoded(sent, headers.get("Content-Encoding", "").strip().lower(), limit=rules.max_body_bytes)
    body = _parse(raw)
    recoded = False
    if isinstance(body.get("cache"), dict):
        controls = caller_controls.from_body(controls, body.pop("cache"))
        raw = remove_member(raw, "cache")
        recoded = True
    view = dialect.view(body)
    credential = scope.credential(headers, route.query)
    tenant = tenant_of(incoming, credential, rules)
    place = scope.Place(
        dialect=dialect.name,
        upstream=route.url,
        query=route.query,
        tenant=tenant,
        namespace=controls.namespace,
        headers=scope.key_headers(headers, rules.keys),
    )
    try:
        keys = scope.keys(place, body, view.skeleton, view.texts, rules.keys)
    except ValueError as error:
        raise BadRequest(f"the body cannot be keyed: {error}") from error
    return Asked(
        route=route,
        dialect=dialect,
        target=incoming.target,
        headers=headers,
        sent=sent,
        raw=raw if recoded else sent,
        recoded=recoded,
        body=body,
        view=view,
        controls=controls,
        bypass=eligibility.bypass_reason(view, controls, rules.cache),
        rules=rules,
        place=place,
        keys=keys,
        tenant=tenant,
        caller=incoming.caller,
        credential=name_of(incoming, route, credential, secret=rules.keys.secret),
        arrival=arrival,
    )


def plain_body(asked: Asked) -> bytes:
    """The body to forward without its content coding."""
    if asked.recoded:
        return asked.raw
    coding = asked.headers.get("Content-Encoding", "").strip().lower()
    return decoded(asked.raw, coding, limit=1 << 40)


def _parse(raw: bytes) -> JsonObject:
    try:
        body = jsontext.parse(raw)
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def tenant_of(incoming: Incoming, credential: str, rules: Rules) -> str:
    """Whose entries the caller with this credential shares. Raises ``BadRequest`` where a header should say it."""
    if rules.tenants.shared:
        return "shared"
    if incoming.caller is not None and incoming.caller.tenant:
        return incoming.caller.tenant
    if rules.tenants.header:
        named = incoming.headers.get(rules.tenants.header)
        if named is None:
            raise BadRequest(f"the header {rules.tenants.header} must name the tenant")
        return _hashed("tenant-name", named, rules)
    return _hashed("tenant", credential, rules) if credential else "anonymous"


def _hashed(kind: str, name: str, rules: Rules) -> str:
    return scope.keyed_hash(kind, name, secret=rules.keys.secret)[:16] if rules.tenants.hashed else UNKNOWN_TENANT
