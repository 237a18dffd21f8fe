"""Who may come in: the keys of ours that callers show, and what is taken off a request before anybody reads it.

A key that opened the door is gone from the headers from there on, so it can reach no upstream, entry or log. What else
a caller sends stays: its own credential for an upstream passes on, where that has no key of ours.

Keys are looked up by their SHA-256. The time that takes tells of the digest of what was guessed, never of a key; those
from the settings are held against it one by one, in constant time.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from typing import TYPE_CHECKING, Final

from multidict import CIMultiDict

from cacheproxy.core.keys import digest_of
from cacheproxy.core.scope import CREDENTIAL_HEADERS
from cacheproxy.errors import PortUnavailable, Unauthorized
from cacheproxy.model import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from multidict import CIMultiDictProxy

    from cacheproxy.core.keys import VirtualKey
    from cacheproxy.ports import Keys

OWN_HEADER: Final = "x-cacheproxy-key"
"""Where callers show a key of ours beside a credential for the upstream."""
POLL_S: Final = 0.4
"""How soon a key that came or went counts in every process: well within a second."""
_ASK_S: Final = 5.0
_COME_BACK_S: Final = 1.0
_WHICH_KEY: Final = (
    "this proxy asks for a key of its own: as the API key that your client sends, or in X-CacheProxy-Key"
)
_BEARER: Final = "bearer "
log = logging.getLogger(__name__)


class Door:
    """Lets callers in who show one of the keys.

    ``fixed`` are (tenant, key) pairs from the settings; ``keys`` are the virtual ones, None where those are off.
    """

    def __init__(self, fixed: Sequence[tuple[str, str]], keys: Keys | None, *, now: Callable[[], float]) -> None:
        self._fixed = [(digest_of(key), Caller(tenant)) for tenant, key in fixed]
        self._keys = keys
        self._now = now
        self._virtual: dict[bytes, tuple[Caller, VirtualKey]] = {}
        self._version: int | None = None

    def admit(self, headers: CIMultiDictProxy[str], target: str) -> tuple[Caller, CIMultiDict[str]]:
        """Who asks, and the headers without the key.

        Raises ``Unauthorized``, and ``PortUnavailable`` while the virtual keys have never been read.
        """
        why, keys = _WHICH_KEY, list(_shown(headers))
        for shown in keys:
            known = self._known(shown)
            if isinstance(known, Caller):
                if shown in target:
                    raise Unauthorized("the key stands in the URL, which others log: send it as a header only")
                return known, CIMultiDict((name, value) for name, value in headers.items() if shown not in value)
            why = known
        if keys and self._keys is not None and self._version is None:
            raise PortUnavailable("who may come in cannot be read yet: the store is away", retry_after_s=_COME_BACK_S)
        raise Unauthorized(why)

    async def load(self) -> None:
        """Take over the virtual keys as they are now. Raises ``PortUnavailable``."""
        if self._keys is None:
            return
        version = await self._keys.version()
        if version == self._version:
            return
        keys = await self._keys.every()
        self._virtual = {key.digest: (Caller(key.tenant), key) for key in keys}
        self._version = version
        if not keys:
            log.warning("virtual keys are on and there are none: `cacheproxy keys create` makes one")

    async def follow(self) -> None:
        """Take over what changes, for ever. While the store cannot be asked, the keys stay what they were."""
        failing = False
        while True:
            await asyncio.sleep(POLL_S)
            try:
                async with asyncio.timeout(_ASK_S):
                    await self.load()
                failing = False
            except (PortUnavailable, TimeoutError) as error:
                if not failing:
                    log.warning("virtual keys cannot be read, so none comes or goes: %s", error)
                failing = True

    def _known(self, shown: str) -> Caller | str:
        """Whose key it is, or what is wrong with it."""
        digest = digest_of(shown)
        callers = [caller for kept, caller in self._fixed if hmac.compare_digest(kept, digest)]
        if callers:
            return callers[0]
        found = self._virtual.get(digest)
        if found is None:
            return "the key is not one of this proxy's, or it was revoked"
        caller, key = found
        return caller if self._now() < key.expires_at else "the key has expired; ask whoever runs the proxy for another"


def _shown(headers: CIMultiDictProxy[str]) -> Iterator[str]:
    """What may be a key of ours. A header of our own, where there is one, leaves the others to the upstream."""
    own = headers.getall(OWN_HEADER, ())
    for value in own or [line for name in CREDENTIAL_HEADERS for line in headers.getall(name, ())]:
        shown = value.strip()
        if shown[: len(_BEARER)].lower() == _BEARER:
            shown = shown[len(_BEARER) :].strip()
        if shown:
            yield shown
