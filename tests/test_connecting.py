"""A Redis that is away when a proxy starts: requests are forwarded, and the cache is in use once it is there."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from support.redis_server import needs_redis, running_server

from cacheproxy import connecting
from cacheproxy.errors import ConfigError
from cacheproxy.lab.simulate import SimulateOptions, serving
from cacheproxy.opening import open_books
from cacheproxy.settings import Settings
from cacheproxy.wiring import open_proxy

HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello?"}]}
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(connecting, "AGAIN_S", 0.05)


@pytest.fixture
def redis(tmp_path):
    """A server that the test may break."""
    needs_redis()
    (tmp_path / "redis").mkdir()
    with running_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def upstream():
    async with serving(SimulateOptions(port=0)) as url:
        yield url


@pytest.fixture
def settings(tmp_path, upstream, redis):
    def make(**changes):
        return Settings(
            **{
                "listen": "127.0.0.1:0",
                "admin_listen": "127.0.0.1:0",
                "upstream_url": upstream,
                "data_dir": tmp_path / "data",
                "mode": "exact",
                "store": redis.url,
                "redis": {"connect_s": 0.3, "answer_s": 0.3, "retries": 0},
                "deadlines": {"store_ms": 20_000, "drain_s": 1},
                **changes,
            }
        )

    return make


class Asker:
    """Asks a proxy what callers and operators ask."""

    def __init__(self, session, running):
        self._session = session
        self.running = running

    async def chat(self, **headers):
        url = f"http://{self.running.data}/v1/chat/completions"
        headers = {"Authorization": "Bearer k", **headers}
        async with self._session.post(url, json=HELLO, headers=headers) as response:
            return response.status, response.headers.get("X-Cache-Status"), response.headers.get("X-CacheProxy-Reason")

    async def complain(self):
        url = f"http://{self.running.data}/cacheproxy/feedback"
        async with self._session.post(url, json={"entry": "e", "verdict": "wrong"}) as response:
            return response.status

    async def metrics(self):
        async with self._session.get(f"http://{self.running.admin}/metrics") as response:
            return await response.text()

    async def told(self, path="/readyz", *, admin=False):
        base = self.running.admin if admin else self.running.data
        async with self._session.get(f"http://{base}{path}") as response:
            return response.status, await response.json()

    async def until(self, holds, path="/readyz", *, admin=False):
        """Wait until what it says is so."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if holds((await self.told(path, admin=admin))[1]):
                    return
                await asyncio.sleep(0.02)


@pytest.fixture
async def asking(settings):
    """Opens proxies: ``async with asking(**settings) as asker``."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:

        class Opening:
            def __init__(self, **changes):
                self._proxy = open_proxy(settings(**changes))

            async def __aenter__(self):
                return Asker(session, await self._proxy.__aenter__())

            async def __aexit__(self, *error):
                await self._proxy.__aexit__(*error)

        yield Opening


@pytest.mark.parametrize("how", ["gone", "frozen"])
async def test_requests_are_forwarded_until_redis_is_there_and_cached_from_then_on(redis, asking, settings, how):
    """The proxy did not start: an outage of the cache was one of every caller."""
    redis.kill() if how == "gone" else redis.freeze()
    async with asking() as asker:
        assert await asker.chat() == (200, "Bypass", "store-unavailable")
        status, state = await asker.told()
        assert (status, state["status"], state["store"]) == (200, "degraded", "away")
        assert "127.0.0.1" in state["why"]
        redis.start() if how == "gone" else redis.thaw()
        await asker.until(lambda state: state["status"] == "ready")
        told = [await asker.chat() for _ in range(2)]
        assert [status for _, status, _ in told] == ["Miss", "Hit"]
    async with open_books(settings()) as (ledger, _):
        tallies = await ledger.tallies(["status"])
    assert {tally.group["status"]: tally.requests for tally in tallies} == {"Bypass": 1, "Hit": 1, "Miss": 1}


@pytest.mark.parametrize("secret", [None, "chosen-by-an-operator"], ids=["of the store", "of the settings"])
async def test_sums_from_before_redis_was_there_are_of_tenants_that_there_are(redis, asking, settings, secret):
    """They were booked under hashes keyed with a secret that was thrown away: tenants that nobody was again."""
    own = {"redis": {"connect_s": 0.3, "answer_s": 0.3, "retries": 0, "secret": secret}}
    redis.kill()
    async with asking(**own) as asker:
        await asker.chat()
        redis.start()
        await asker.until(lambda state: state["status"] == "ready")
        await asker.chat()
    async with open_books(settings(**own)) as (ledger, _):
        spent = {tally.group["tenant"]: tally.requests for tally in await ledger.tallies(["tenant"])}
    if secret is None:
        assert spent.pop("unknown") == 1
    assert list(spent.values()) == [2 if secret else 1]


async def test_the_admin_plane_says_that_the_store_is_away_and_tells_of_it_once_it_is_there(redis, asking):
    redis.kill()
    async with asking() as asker:
        await asker.chat()
        status, told = await asker.told("/api/v1/entries", admin=True)
        assert (status, told["error"]["code"]) == (503, "cacheproxy_port_unavailable")
        status, health = await asker.told("/api/v1/health", admin=True)
        assert (status, health["store"]["where"].endswith("away")) == (200, True)
        assert len((await asker.told("/api/v1/requests", admin=True))[1]["requests"]) == 1
        redis.start()
        await asker.until(lambda state: state["status"] == "ready")
        await asker.chat()
        await asker.until(lambda told: told["entries"], "/api/v1/entries", admin=True)
        text = await asker.metrics()
        assert text.count("# TYPE cacheproxy_promise gauge") == 1
        assert 'cacheproxy_miss_reasons_total{reason="store-unavailable"} 1.0' in text


async def test_that_the_store_is_away_is_said_once_and_counted_by_its_reason_alone(redis, asking, caplog):
    """Each accepted credential and each complaint was a failed call to a store that was known to be away."""
    redis.kill()
    async with asking() as asker:
        for number in range(10):
            assert await asker.chat(Authorization=f"Bearer {number}") == (200, "Bypass", "store-unavailable")
            assert await asker.complain() == 503
        text = await asker.metrics()
        assert 'cacheproxy_miss_reasons_total{reason="store-unavailable"} 10.0' in text
        assert "cacheproxy_store_errors_total{" not in text
        redis.start()
        await asker.until(lambda state: state["status"] == "ready")
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [message.partition(":")[0] for message in said] == [
        "requests are forwarded past the cache until the store can be reached",
        "the store has been reached",
    ]


async def test_nothing_is_left_of_a_proxy_that_ends_before_redis_is_there(redis, asking):
    redis.kill()
    before = asyncio.all_tasks()
    async with asking() as asker:
        await asker.chat()
    assert {task.get_name() for task in asyncio.all_tasks() - before if "/" in task.get_name()} == set()


async def test_keys_of_the_store_are_asked_for_later_and_those_of_the_settings_open_the_door(redis, asking):
    redis.kill()
    fixed = "made-up-by-an-operator"
    async with asking(virtual_keys=True, proxy_keys=[fixed]) as asker:
        assert (await asker.chat(**{"X-CacheProxy-Key": "a-virtual-one"}))[0] == 503
        assert (await asker.chat(**{"X-CacheProxy-Key": fixed}))[0] == 200
        redis.start()
        await asker.until(lambda state: state["status"] == "ready")
        assert (await asker.chat(**{"X-CacheProxy-Key": "a-virtual-one"}))[0] == 401


async def test_what_is_wrong_with_a_redis_that_comes_late_is_told_and_it_is_tried_again(redis, asking):
    redis.client.hset("{cacheproxy}:store", "version", 99)
    redis.freeze()
    async with asking() as asker:
        redis.thaw()
        await asker.until(lambda state: "upgrade cacheproxy" in state.get("why", ""))
        assert await asker.chat() == (200, "Bypass", "store-unavailable")
        redis.client.delete("{cacheproxy}:store")
        await asker.until(lambda state: state["status"] == "ready")


async def test_a_password_that_is_wrong_ends_the_start(redis, asking):
    redis.client.config_set("requirepass", "hush")
    with pytest.raises(ConfigError, match="cannot use the store"):
        async with asking(redis={"password": "wrong", "retries": 0}):
            pass
