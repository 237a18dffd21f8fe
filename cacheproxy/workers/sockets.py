"""The listening sockets of one address, which outlive whoever accepts from them.

For workers there is one for each: with SO_REUSEPORT the kernel spreads connections over them by a hash. One that waits
in a socket's queue is lost only when the last copy of that socket is closed: so the supervisor has one of each, and
accepts from none.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.address import Address
from cacheproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


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


def bind_alone(address: Address) -> tuple[Address, Sequence[socket.socket]]:
    """A socket for each address that the name has, and the address with its real port. Raises ``ConfigError``."""
    sockets: list[socket.socket] = []
    bound = address
    try:
        for family, where in _places(address):
            try:
                one = _socket(family, (where[0], bound.port, *where[2:]), shared=False)
            except OSError as error:
                if sockets and error.errno in _NOT_HERE:
                    continue  # localhost has an IPv6 address, and this machine has none
                raise
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
    family, where = next(iter(_places(address)))
    return _socket(family, where, shared=shared)


def _places(address: Address) -> Collection[tuple[int, tuple[Any, ...]]]:
    """The family and the socket address of each that the name has."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return {(family, where): None for family, _, _, _, where in found}


def _socket(family: int, where: tuple[Any, ...], *, shared: bool) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
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
