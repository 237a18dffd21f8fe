"""Listening sockets of one address: as many as asked for, of one port, and nobody else's."""

import socket

import pytest

from cacheproxy.address import Address
from cacheproxy.errors import ConfigError
from cacheproxy.workers.sockets import bind, bind_alone, close, join

ANYWHERE = Address("127.0.0.1", 0)


@pytest.fixture
def bound():
    address, sockets = bind(ANYWHERE, 3)
    yield address, sockets
    close(sockets)


def test_all_have_one_port(bound):
    address, sockets = bound
    assert {one.getsockname()[1] for one in sockets} == {address.port}
    assert len(sockets) == 3


def test_more_may_join(bound):
    address, _ = bound
    more = join(address, 2)
    assert [one.getsockname()[1] for one in more] == [address.port] * 2
    close(more)
    assert join(address, -1) == []


def test_an_address_that_another_group_listens_on_is_taken(bound):
    address, sockets = bound
    sockets[0].listen()
    with pytest.raises(ConfigError, match=f"cannot listen on {address}"):
        bind(address, 2)


def test_an_address_that_one_process_listens_on_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as alone:
        address = Address("127.0.0.1", alone.getsockname()[1])
        with pytest.raises(ConfigError, match="choose another address"):
            bind(address, 2)


def test_one_process_listens_at_each_address_of_a_name_on_one_port():
    address, sockets = bind_alone(Address("localhost", 0))
    places = {one.getsockname()[0] for one in sockets}
    assert "127.0.0.1" in places
    assert len(places) == len(sockets)
    assert {one.getsockname()[1] for one in sockets} == {address.port}
    close(sockets)


def test_one_process_does_not_share_an_address_with_another():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = Address("127.0.0.1", other.getsockname()[1])
        with pytest.raises(ConfigError, match="choose another address"):
            bind_alone(address)


def test_a_name_that_does_not_resolve_is_an_error_that_says_so():
    with pytest.raises(ConfigError, match=r"cannot listen on nobody\.invalid:1"):
        bind(Address("nobody.invalid", 1), 2)


def test_whoever_connects_is_spread_over_all(bound):
    address, sockets = bound
    for one in sockets:
        one.listen(64)
        one.setblocking(False)
    callers = [socket.create_connection((address.host, address.port)) for _ in range(90)]
    accepted = []
    for one in sockets:
        number = 0
        while True:
            try:
                connection, _ = one.accept()
            except BlockingIOError:
                break
            connection.close()
            number += 1
        accepted.append(number)
    for caller in callers:
        caller.close()
    assert sum(accepted) == 90
    assert min(accepted) > 0
