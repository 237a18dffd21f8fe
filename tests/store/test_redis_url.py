from __future__ import annotations

import pytest

from cacheproxy.errors import ConfigError
from cacheproxy.store.redis_url import RedisUrl, read_url

ONE = [("redis.example", 6379)]
TWO = [("a.example", 7000), ("b.example", 7001)]


@pytest.mark.parametrize(
    ("url", "read"),
    [
        pytest.param("redis://redis.example", RedisUrl("redis", ONE), id="one server"),
        pytest.param(
            "redis://redis.example:7/3", RedisUrl("redis", [("redis.example", 7)], database=3), id="a database"
        ),
        pytest.param("redis://[::1]:7", RedisUrl("redis", [("::1", 7)]), id="IPv6"),
        pytest.param(
            "redis://us%40er:p%3Aw@redis.example",
            RedisUrl("redis", ONE, username="us@er", password="p:w"),
            id="a login with escapes",
        ),
        pytest.param("redis://:pw@redis.example", RedisUrl("redis", ONE, password="pw"), id="a password alone"),
        pytest.param(
            "rediss://redis.example?ssl_ca_certs=/etc/ca.pem",
            RedisUrl("rediss", ONE, tls=True, files={"ssl_ca_certs": "/etc/ca.pem"}),
            id="TLS",
        ),
        pytest.param("redis+cluster://a.example:7000,b.example:7001", RedisUrl("redis+cluster", TWO), id="a cluster"),
        pytest.param(
            "redis+cluster://redis.example?tls=true", RedisUrl("redis+cluster", ONE, tls=True), id="a cluster over TLS"
        ),
        pytest.param(
            "redis+sentinel://a.example:7000,b.example:7001/main/2?sentinel_password=s",
            RedisUrl("redis+sentinel", TWO, database=2, master="main", sentinel_login={"password": "s"}),
            id="Sentinels",
        ),
        pytest.param(
            "redis+sentinel://redis.example/main",
            RedisUrl("redis+sentinel", [("redis.example", 26379)], master="main"),
            id="a Sentinel at its usual port",
        ),
    ],
)
def test_a_url_is_read(url, read):
    assert read_url(url) == read


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        pytest.param("memcached://secret@redis.example", "redis://", id="another scheme"),
        pytest.param("redis://", "at least one node", id="no server"),
        pytest.param("redis://redis.example:port", "HOST:PORT", id="a port that is none"),
        pytest.param("redis://a,b", "redis\\+cluster", id="two servers of one"),
        pytest.param("redis://redis.example/name", "number of a database", id="a database with a name"),
        pytest.param("redis+cluster://redis.example/1", "a cluster has none", id="a database in a cluster"),
        pytest.param("redis+sentinel://redis.example", "MASTER", id="Sentinels without a master"),
        pytest.param("redis://redis.example?decode=1", "no option decode", id="an unknown option"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused(url, problem):
    with pytest.raises(ConfigError, match=problem) as refused:
        read_url(url)
    assert "secret" not in str(refused.value)


def test_a_url_is_shown_without_its_password():
    shown = read_url("redis+sentinel://user:secret@a.example:1/main/2?sentinel_password=secret")
    assert str(shown) == "redis+sentinel://a.example:1/main/2"
    assert "secret" not in repr(shown)
