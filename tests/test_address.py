from __future__ import annotations

import pytest

from cacheproxy.address import Address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("127.0.0.1:8090", Address("127.0.0.1", 8090), id="ipv4"),
        pytest.param("[::1]:8090", Address("::1", 8090), id="ipv6"),
        pytest.param("[0:0:0:0:0:0:0:1]:80", Address("::1", 80), id="ipv6-long"),
        pytest.param(":8090", Address("0.0.0.0", 8090), id="every-interface"),
        pytest.param("localhost:0", Address("localhost", 0), id="any-free-port"),
        pytest.param(" llm.example:443 ", Address("llm.example", 443), id="name-with-spaces-around"),
    ],
)
def test_an_address_is_read_from_text(text, expected):
    assert Address.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "8090", "host", "host:", "host:http", "::1:80", "[::1]", "h:65536", "a b:1", "h:-1"]
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"HOST:PORT|IPv6|8 groups|At least"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "[::1]:1", "example.org:0", "0.0.0.0:1"])
def test_writing_gives_back_what_was_read(text):
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_for_this_machine_only(host):
    assert Address(host, 1).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example"])
def test_any_other_host_can_be_reached(host):
    assert not Address(host, 1).is_loopback
