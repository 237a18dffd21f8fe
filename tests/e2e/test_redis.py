"""Several proxies on one Redis: what one learns the others serve, and what was purged nobody serves again."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest
import redis
from aiohttp import web
from support.redis_server import needs_redis, new_prefix, running_cluster, running_server
from support.servers import PATIENCE_S, Recording, proxy_from, proxy_settings

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.store.redis_scripts import FIND

ONLY_CACHED = {"Cache-Control": "only-if-cached"}
NOT_CACHED = 504


@pytest.fixture(scope="module")
def semantic(host):
    """Questions are embedded by a server that goes by their words, so that no proxy has to load a model."""
    embedder = HashedEmbedder()

    async def embed(_, recorded):
        text = recorded.json["input"]
        vector = (await embedder.embed(text)).tolist()
        return web.json_response({"data": [{"embedding": vector}], "usage": {"prompt_tokens": len(text.split())}})

    with host.open(Recording(embed).serving()) as server:
        yield {"mode": "semantic", "policy": "threshold", "threshold": 0.8, "embedder": {"url": server.v1}}


@pytest.fixture
def prefix():
    return new_prefix()


@pytest.fixture
def open_proxy(host, simulated, tmp_path, prefix):
    """Opens proxies with data directories of their own on one Redis: ``open_proxy(redis_url, **settings)``."""
    with ExitStack() as stack:

        def start(url, **settings):
            data = tmp_path / f"data-{len(list(tmp_path.iterdir()))}"
            given = {"mode": "exact", "redis": {"prefix": prefix}, "store": url, **settings}
            return stack.enter_context(host.open(proxy_from(proxy_settings(data, f"{simulated}/v1", **given))))

        yield start


@pytest.fixture
def purge(cacheproxy, prefix):
    """Purges everything by the command, which is a process of its own."""

    def everything(url):
        status, said, problem = cacheproxy("cache", "purge", "--yes", "--store", url, CACHEPROXY_REDIS__PREFIX=prefix)
        assert status == 0, said + problem

    return everything


async def cached(http, question, served):
    """What a proxy's cache says of a question, without asking the upstream."""
    return await http.ask(question, base=served.url, headers=ONLY_CACHED)


async def eventually(http, question, served, *, status):
    """Asked again and again until the cache says so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            told = await cached(http, question, served)
            if told.status == status:
                return told
            await asyncio.sleep(0.02)


@pytest.fixture(params=["redis_server", "redis_cluster", "redis_sentinels"])
def redis_url(request):
    return request.getfixturevalue(request.param).url


async def test_what_one_proxy_learnt_the_others_serve(redis_url, open_proxy, http):
    one, other = open_proxy(redis_url), open_proxy(redis_url)
    first = await http.ask("Are we one?", base=one.url)
    again = await eventually(http, "Are we one?", other, status=200)
    assert (first.cache[0], again.cache) == ("Miss", ("Hit", "exact"))
    assert again.text == first.text


INDEXES = {
    "an index in each proxy": ("redis_server", "faiss"),
    "vector sets": ("redis8_server", "redis"),
    "vector sets of a cluster": ("redis8_cluster", "redis"),
}


@pytest.fixture(params=INDEXES.values(), ids=INDEXES)
def searched(request, semantic):
    """A Redis, and settings by which similar questions are searched there, or in each proxy."""
    fixture, index = request.param
    return request.getfixturevalue(fixture), {**semantic, "index": index}


async def test_what_one_proxy_learnt_answers_similar_questions_of_the_others(open_proxy, http, searched):
    store, semantic = searched
    one, other = open_proxy(store.url, **semantic), open_proxy(store.url, **semantic)
    first = await http.ask("How do I get back the card that I lost", base=one.url)
    again = await eventually(http, "How do I get back the card that I lost ?", other, status=200)
    assert again.cache == ("Hit", "semantic")
    assert again.text == first.text


async def test_a_purge_reaches_every_proxy_s_memory_and_index(open_proxy, http, searched, purge):
    store, semantic = searched
    question, similar = "How do I get back the card that I lost", "How do I get back the card that I lost ?"
    proxies = [open_proxy(store.url, **semantic) for _ in range(2)]
    await http.ask(question, base=proxies[0].url)
    for served in proxies:
        for asked in (question, similar):
            await eventually(http, asked, served, status=200)
    purge(store.url)
    for served in proxies:
        for asked in (question, similar):
            await eventually(http, asked, served, status=NOT_CACHED)


async def test_what_was_said_to_be_wrong_is_withdrawn_by_every_proxy(open_proxy, http, redis_server):
    proxies = [open_proxy(redis_server.url) for _ in range(2)]
    first = await http.ask("Is this right?", base=proxies[0].url)
    for served in proxies:
        again = await eventually(http, "Is this right?", served, status=200)
    verdict = {"entry": again.headers["X-CacheProxy-Entry"], "verdict": "wrong"}
    assert (await http.send("/cacheproxy/feedback", verdict, base=proxies[0].url)).status == 200
    for served in proxies:
        await eventually(http, "Is this right?", served, status=NOT_CACHED)
    assert first.status == 200


async def test_a_proxy_that_was_killed_catches_up_and_never_serves_what_was_purged_meanwhile(
    open_proxy, spawn, http, searched, simulated, purge, prefix
):
    """With -9: what it held in memory is gone, and so must be what its index is filled with at its next start."""
    kept, similar = "How do I get back the card that I lost", "How do I get back the card that I lost ?"
    store, semantic = searched
    settings = {
        "CACHEPROXY_REDIS__PREFIX": prefix,
        "CACHEPROXY_INDEX": semantic["index"],
        "CACHEPROXY_POLICY": "threshold",
        "CACHEPROXY_THRESHOLD": "0.8",
        "CACHEPROXY_EMBEDDER__URL": semantic["embedder"]["url"],
        "CACHEPROXY_DEADLINES__STORE_MS": "20000",
        "CACHEPROXY_DEADLINES__EMBEDDER_MS": "20000",
    }
    arguments = ["serve", "--store", store.url, "--upstream-url", f"{simulated}/v1"]
    stays = open_proxy(store.url, **semantic)
    first = spawn(*arguments, **settings)
    served = first.served()
    await http.ask("What is purged", base=served.url)
    await eventually(http, "What is purged", served, status=200)
    await eventually(http, "What is purged ?", served, status=200)
    first.kill()
    purge(store.url)
    await http.ask(kept, base=stays.url)
    await eventually(http, similar, stays, status=200)
    again = spawn(*arguments, **settings).served()
    for question in ("What is purged", "What is purged ?"):
        assert (await cached(http, question, again)).status == NOT_CACHED
    assert (await cached(http, kept, again)).cache == ("Hit", "exact")
    assert (await cached(http, similar, again)).cache == ("Hit", "semantic")


async def test_no_request_fails_while_a_cluster_replaces_a_master(open_proxy, http, tmp_path_factory):
    needs_redis()
    with running_cluster(tmp_path_factory.mktemp("failing-over")) as cluster:
        deadlines = {"store_ms": 200}
        proxies = [open_proxy(cluster.url, deadlines=deadlines) for _ in range(2)]
        questions = [f"Question number {number}" for number in range(24)]  # on every master
        await everywhere_hit(http, proxies, questions)
        lost = cluster.masters()[0]
        replica = cluster.nodes[cluster.nodes.index(lost) + 3]
        lost.kill()
        while replica.client.info("replication")["role"] != "master":
            await asked_of_all(http, proxies, questions)
        await everywhere_hit(http, proxies, questions)


async def test_no_request_fails_while_sentinels_replace_the_master(redis_sentinels, open_proxy, http):
    proxies = [open_proxy(redis_sentinels.url, deadlines={"store_ms": 200}) for _ in range(2)]
    questions = [f"Question number {number}" for number in range(8)]
    await everywhere_hit(http, proxies, questions)
    redis_sentinels.master.kill()
    while redis_sentinels.replica.client.info("replication")["role"] != "master":
        await asked_of_all(http, proxies, questions)
    await everywhere_hit(http, proxies, questions)
    async with asyncio.timeout(PATIENCE_S):  # what comes while the breaker of writes is open is not stored
        for number in count():
            await http.ask(f"Is number {number} stored?", base=proxies[0].url)
            await asyncio.sleep(0.1)
            if (await cached(http, f"Is number {number} stored?", proxies[1])).status == 200:
                return


async def asked_of_all(http, proxies, questions):
    told = [await http.ask(question, base=served.url) for question in questions for served in proxies]
    assert {each.status for each in told} == {200}
    return told


async def everywhere_hit(http, proxies, questions):
    async with asyncio.timeout(PATIENCE_S):
        while {each.cache[0] for each in await asked_of_all(http, proxies, questions)} != {"Hit"}:
            pass


@pytest.mark.parametrize("how", ["frozen", "gone", "full", "a replica"])
async def test_a_redis_in_trouble_costs_hits_and_no_request(open_proxy, http, tmp_path_factory, how):
    needs_redis()
    with running_server(tmp_path_factory.mktemp("troubled")) as server:
        served = open_proxy(server.url, deadlines={"store_ms": 200, "drain_s": 0})
        await http.ask("Before", base=served.url)
        match how:
            case "frozen":
                server.freeze()
            case "gone":
                server.kill()
            case "full":
                server.client.config_set("maxmemory", 1)
            case "a replica":
                server.client.replicaof("127.0.0.1", 1)
        told = [await http.ask(f"Meanwhile {number}", base=served.url) for number in range(8)]
        assert {each.status for each in told} == {200}
        assert {each.cache[0] for each in told} == {"Miss"}
        server.thaw() if how == "frozen" else None
        if how == "gone":
            server.start()
        server.client.config_set("maxmemory", 0)
        server.client.replicaof("NO", "ONE")
        await http.ask("After", base=served.url)
        await eventually(http, "After", served, status=200)


@contextmanager
def watched(server):
    """The commands that a server is given, as text; to be read when the block has been left."""
    commands = []
    client = redis.Redis(port=server.port)
    with client.monitor() as monitor:
        stop = f"stop {new_prefix()}"

        def listen():
            for told in monitor.listen():
                if stop in told["command"]:
                    return
                commands.append(told["command"])

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        try:
            yield commands
        finally:
            server.client.echo(stop)
            listening.join(PATIENCE_S)
    client.close()


async def test_an_exact_hit_costs_one_round_trip_and_none_once_it_is_in_memory(open_proxy, http, redis_server, prefix):
    one, other = open_proxy(redis_server.url), open_proxy(redis_server.url)
    await http.ask("How much is it?", base=one.url)
    await http.ask("The credential is looked up once.", base=other.url)
    await eventually(http, "How much is it?", one, status=200)
    asked = []
    for _ in range(2):
        with watched(redis_server) as commands:
            assert (await cached(http, "How much is it?", other)).cache == ("Hit", "exact")
        asked.append([each for each in commands if prefix in each and each.split(" ")[1] == FIND.digest])
        assert [each for each in commands if prefix in each and each.startswith("GET")] == []
    assert [len(each) for each in asked] == [1, 0]


def trips(commands, prefix):
    """What a similar question asked for, in turn; not what a script does, nor what following the others takes."""
    find = f"EVALSHA {FIND.digest}"
    patterns = {find: "look up", "VSIM": "search", "EVALSHA .*:near:": "attributes", "HMGET": "load"}
    asked = [each for each in commands if prefix in each]
    return [name for each in asked for pattern, name in patterns.items() if re.match(pattern, each)]


async def test_vector_sets_cost_similar_questions_one_round_trip_and_another_where_redis_is_older_than_8_2(
    open_proxy, http, redis8_server, semantic, prefix
):
    question = "How do I get back the card that I lost"
    proxies = [open_proxy(redis8_server.url, **semantic, index="redis") for _ in range(2)]
    await http.ask(question, base=proxies[0].url)
    for served in proxies:  # credential and scope are known from now on, and the server knows the scripts
        await eventually(http, f"{question} ?", served, status=200)
    version = redis8_server.client.info("server")["redis_version"]
    search = ["search"] if tuple(map(int, version.split(".")))[:2] >= (8, 2) else ["search", "attributes"]
    for served, load in zip(proxies, ([], ["load"]), strict=True):  # the first one has the answer in memory
        with watched(redis8_server) as commands:
            assert (await cached(http, f"{question} !", served)).cache == ("Hit", "semantic")
        assert trips(commands, prefix) == ["look up", *search, *load]
        with watched(redis8_server) as commands:
            assert (await cached(http, "Which trains go to Naples", served)).status == NOT_CACHED
        assert trips(commands, prefix) == ["look up", *search]  # what was near is remembered
