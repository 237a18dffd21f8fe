"""The listening sockets of one address, one for each worker. The supervisor keeps them, whoever comes and goes.

With SO_REUSEPORT the kernel spreads connections over them by a hash. One that waits in a socket's queue is lost only
when the last copy of that socket is closed: so the supervisor has one of each, and accepts from none.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from cacheproxy.address import Address
from cacheproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


def bind(address: Address, count: int) -> tuple[Address, Sequence[socket.socket]]:
    """So many sockets, bound and not yet listening, and the address with its real port. Raises ``ConfigError``."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("several workers need SO_REUSEPORT, which this system does not have: use one")
    sockets: list[socket.socket] = []
    bound = address
    try:
        # The first one alone and without the option: another proxy on this port, whose sockets have it too, would let
        # us in, and callers would reach the one or the other by chance.
        with _bound(address, shared=False):
            pass
        for _ in range(count):
            one = _bound(bound, shared=True)
            sockets.append(one)
            bound = Address(address.host, one.getsockname()[1])
    except OSError as error:
        close(sockets)
        raise address.taken(error) from error
    return bound, sockets


def join(address: Address, count: int) -> Sequence[socket.socket]:
    """So many more sockets of an address that is ours already; none for a count below one. Raises ``ConfigError``."""
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            sockets.append(_bound(address, shared=True))  # noqa: PERF401 - those before a failure are to be closed
    except OSError as error:
        close(sockets)
        raise address.taken(error) from error
    return sockets


def close(sockets: Sequence[socket.socket]) -> None:
    """Let go of them."""
    for one in sockets:
        one.close()


def _bound(address: Address, *, shared: bool) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    one = socket.socket(family, kind, protocol)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(where)
    except BaseException:
        one.close()
        raise
    return one
