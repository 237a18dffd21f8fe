"""A request to a cached API, understood: read once, and carried through the flow from here on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cacheproxy import jsontext
from cacheproxy.core import controls as caller_controls
from cacheproxy.core import eligibility, scope
from cacheproxy.errors import BadRequest
from cacheproxy.flow.tee import decoded
from cacheproxy.wire.splice import remove_member

if TYPE_CHECKING:
    from cacheproxy.core.controls import Controls
    from cacheproxy.core.eligibility import CacheRules, Eligibility
    from cacheproxy.core.scope import KeyRules, Keys
    from cacheproxy.flow.messages import Incoming
    from cacheproxy.flow.routing import Route
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import View
    from cacheproxy.wire.dialect import Dialect


@dataclass(frozen=True, slots=True)
class TenantRules:
    """Who counts as one tenant. By default each credential is its own."""

    shared: bool = False
    header: str = ""
    """A header that names the tenant, set by a gateway in front; empty: none."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything an operator set that bears on understanding a request."""

    cache: CacheRules
    keys: KeyRules
    tenants: TenantRules
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to a cached API."""

    route: Route
    dialect: Dialect
    incoming: Incoming
    raw: bytes
    """The body to forward: as it came, but for controls that were taken out."""
    recoded: bool
    """Whether ``raw`` lost the content coding that the request's headers speak of."""
    body: JsonObject
    view: View
    controls: Controls
    eligibility: Eligibility
    place: scope.Place
    keys: Keys
    tenant: str
    credential: str
    """A keyed hash of the caller's credential and the upstream it is for."""
    started: float
    """When the request came in, on the monotonic clock."""

    @property
    def prompt(self) -> str:
        """The text that is embedded and compared."""
        return "\n".join(self.view.texts)


async def understand(incoming: Incoming, route: Route, dialect: Dialect, rules: Rules, *, started: float) -> Asked:
    """Read a request. Raises ``BadRequest`` or ``TooLarge``."""
    headers = incoming.headers
    controls = caller_controls.from_headers(headers)
    sent = await incoming.read(rules.max_body_bytes)
    raw = decoded(sent, headers.get("Content-Encoding", "").strip().lower(), limit=rules.max_body_bytes)
    body = _parse(raw)
    recoded = False
    if isinstance(body.get("cache"), dict):
        controls = caller_controls.from_body(controls, body.pop("cache"))
        raw = remove_member(raw, "cache")
        recoded = True
    view = dialect.view(body)
    credential = scope.credential(headers, route.query)
    secret = rules.keys.secret
    tenant = _tenant(incoming, credential, rules)
    place = scope.Place(
        dialect=dialect.name,
        upstream=route.url,
        query=route.query,
        tenant=tenant,
        namespace=controls.namespace,
        headers=scope.key_headers(headers, rules.keys),
    )
    return Asked(
        route=route,
        dialect=dialect,
        incoming=incoming,
        raw=raw if recoded else sent,
        recoded=recoded,
        body=body,
        view=view,
        controls=controls,
        eligibility=eligibility.judge(view, controls, rules.cache),
        place=place,
        keys=scope.keys(place, body, view.skeleton, view.texts, rules.keys),
        tenant=tenant,
        credential=scope.credential_name(route.target.name, credential, secret=secret),
        started=started,
    )


def with_body(asked: Asked, body: JsonObject, view: View, rules: KeyRules) -> Asked:
    """The same request with another body, under the keys of that body."""
    return replace(asked, body=body, view=view, keys=scope.keys(asked.place, body, view.skeleton, view.texts, rules))


def plain_body(asked: Asked) -> bytes:
    """The body to forward without its content coding."""
    if asked.recoded:
        return asked.raw
    coding = asked.incoming.headers.get("Content-Encoding", "").strip().lower()
    return decoded(asked.raw, coding, limit=1 << 40)


def _parse(raw: bytes) -> JsonObject:
    try:
        body = jsontext.parse(raw)
    except ValueError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def _tenant(incoming: Incoming, credential: str, rules: Rules) -> str:
    if rules.tenants.shared:
        return "shared"
    if rules.tenants.header:
        named = incoming.headers.get(rules.tenants.header)
        if named is None:
            raise BadRequest(f"the header {rules.tenants.header} must name the tenant")
        return scope.keyed_hash("tenant-name", named, secret=rules.keys.secret)[:16]
    if not credential:
        return "anonymous"
    return scope.keyed_hash("tenant", credential, secret=rules.keys.secret)[:16]
