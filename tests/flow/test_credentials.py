"""A credential reads the cache only while an upstream accepted it a short time ago."""

import asyncio

import pytest

from cacheproxy.errors import PortUnavailable
from cacheproxy.flow.credentials import REMEMBERED, VOUCHED, Proofs
from cacheproxy.flow.shelter import Shelter
from cacheproxy.model import Caller
from cacheproxy.server.metrics import Metrics
from cacheproxy.tasks import TaskSet
from cacheproxy.upstream.scripted import Answer

NOW = 1_800_000_000.0


class Credentials:
    """What the store knows of credentials."""

    def __init__(self):
        self.known = {}
        self.writes = 0
        self.gate = None

    async def proven_at(self, credential):
        if self.gate is not None:
            await self.gate.wait()
        return self.known.get(credential)

    async def prove(self, credential, at):
        self.writes += 1
        self.known[credential] = at

    async def revoke(self, credential):
        self.writes += 1
        self.known.pop(credential, None)


@pytest.fixture
async def proofs(clock):
    async with TaskSet("test") as tasks:

        def build(store, life_s=3600.0):
            shelter = Shelter("store", deadline_s=10, clock=clock, watch=Metrics())
            return Proofs(store=store, reads=shelter, writes=shelter, tasks=tasks, life_s=life_s, now=clock)

        yield build


async def written(store, writes):
    async with asyncio.timeout(5):
        while store.writes < writes:  # noqa: ASYNC110 - a counter sets no event
            await asyncio.sleep(0)


async def test_an_accepted_credential_is_proven_for_its_life(proofs, clock):
    proofs = proofs(Credentials())
    assert not await proofs.proven("a")
    proofs.accept("a")
    clock.now += 3599
    assert await proofs.proven("a")
    clock.now += 1
    assert not await proofs.proven("a")
    assert not await proofs.proven("b")


async def test_a_refused_credential_is_revoked_at_once_and_in_the_store(proofs):
    proofs = proofs(store := Credentials())
    proofs.accept("a")
    await written(store, 1)
    proofs.refuse("a")
    assert not await proofs.proven("a")
    await written(store, 2)
    assert store.known == {}


async def test_a_refusal_wins_over_a_proof_that_was_still_being_read(proofs):
    store = Credentials()
    store.known["a"], store.gate = NOW, asyncio.Event()
    proofs = proofs(store)
    asking = asyncio.gather(proofs.proven("a"))
    await asyncio.sleep(0)
    proofs.refuse("a")
    store.gate.set()
    assert await asking == [False]


async def test_busy_callers_cost_few_writes(proofs, clock):
    proofs = proofs(store := Credentials())
    for _ in range(1000):
        proofs.accept("a")
        clock.now += 3.6
    await written(store, 10)
    assert store.writes <= 11


async def test_a_proof_is_read_from_the_store_once(proofs):
    store = Credentials()
    store.known["a"] = NOW - 10
    proofs = proofs(store)
    assert await proofs.proven("a")
    store.known.clear()
    assert await proofs.proven("a")


async def test_without_a_life_no_proof_is_needed(proofs):
    assert await proofs(Credentials(), life_s=0.0).proven("a")


async def test_a_store_that_fails_leaves_a_credential_unproven(proofs):
    store = Credentials()

    async def fail(_):
        raise PortUnavailable("gone")

    store.proven_at = fail
    proofs = proofs(store)
    assert not await proofs.proven("a")
    proofs.accept("a")
    assert await proofs.proven("a")


async def test_made_up_credentials_take_bounded_memory(proofs):
    proofs = proofs(Credentials())
    for number in range(REMEMBERED + 10):
        proofs._accepted[str(number)] = 0.0
    proofs.accept("a")
    assert len(proofs._accepted) == REMEMBERED


# --- over the whole flow


async def test_a_stranger_gets_nothing_from_the_cache(open_world):
    refuse = Answer(status=401, chunks=[b'{"error": {"message": "who?"}}'])
    world = await open_world(cache={"shared": True})
    await world.ask("What is a cache?")
    world.upstream._step = lambda _: refuse
    for _ in range(2):
        reply = await world.ask("What is a cache?", headers={"Authorization": "Bearer made-up"})
        assert (reply.status, reply.cache) == (401, ("Miss", "credential-unproven"))


@pytest.mark.parametrize("status", [401, 403])
async def test_a_credential_that_the_upstream_refuses_reads_no_more(open_world, api, status):
    def script(received):
        return Answer(status=status, chunks=[b"no"]) if api.question_of(received) == "Gone?" else api.echo(received)

    world = await open_world(script)
    await world.ask("What is a cache?")
    assert (await world.ask("What is a cache?")).cache[0] == "Hit"
    await world.ask("Gone?")
    assert (await world.ask("What is a cache?")).cache == ("Miss", "credential-unproven")
    # That miss was answered 2xx, so the credential is good again.
    assert (await world.ask("What is a cache?")).cache[0] == "Hit"


async def test_a_refusal_of_a_path_that_is_not_cached_counts_too(open_world, api):
    world = await open_world(lambda r: Answer(status=401, chunks=[b"no"]) if r.method == "GET" else api.echo(r))
    await world.ask("What is a cache?")
    await world.send(None, path="/v1/models", method="GET")
    assert (await world.ask("What is a cache?")).cache == ("Miss", "credential-unproven")


async def test_a_proof_survives_a_restart(open_world):
    world = await open_world(proven=False)
    assert (await world.ask("What is a cache?")).cache == ("Miss", "credential-unproven")
    restarted = await open_world(proven=False)
    assert (await restarted.ask("What is a cache?")).cache == ("Hit", "exact")


async def test_a_revocation_survives_a_restart(open_world):
    world = await open_world(lambda _: Answer(status=401, chunks=[b"no"]))
    await world.ask("What is a cache?")
    restarted = await open_world(proven=False)
    assert (await restarted.ask("What is a cache?")).cache == ("Miss", "credential-unproven")


async def test_a_proof_ends_after_its_life(open_world):
    world = await open_world(cache={"credential_proof_s": 60})
    await world.ask("What is a cache?")
    world.clock.now += 61
    assert (await world.ask("What is a cache?")).cache == ("Miss", "credential-unproven")


async def test_another_server_under_an_upstreams_name_inherited_its_proofs(open_world):
    path = "/mine/v1/chat/completions"
    before = await open_world(upstreams={"mine": {"url": "https://one.example/v1"}})
    assert [(await before.ask(question, path=path)).cache[1] for question in ("One?", "Two?")] == [
        "credential-unproven",
        "below-threshold",
    ]
    after = await open_world(upstreams={"mine": {"url": "https://two.example/v1"}})
    assert (await after.ask("Three?", path=path)).cache == ("Miss", "credential-unproven")


async def test_two_names_of_one_server_share_its_proofs(open_world):
    world = await open_world(upstreams={"one": {"url": "https://x.example/v1"}, "two": {"url": "https://x.example/v1"}})
    await world.ask("One?", path="/one/v1/chat/completions")
    assert (await world.ask("Two?", path="/two/v1/chat/completions")).cache[1] != "credential-unproven"


# --- keys of ours


INJECTED = {"default": {"url": "https://llm.example/v1", "api_key": "sk-ours"}}
ALICE, BOB = Caller("alice"), Caller("bob")


async def test_whom_we_vouch_for_is_proven_whatever_upstreams_say(proofs):
    store = Credentials()
    proofs = proofs(store)
    assert await proofs.proven(VOUCHED)
    proofs.refuse(VOUCHED)
    assert await proofs.proven(VOUCHED)
    proofs.accept(VOUCHED)
    assert store.writes == 0


async def test_with_keys_of_ours_on_both_sides_a_caller_reads_the_cache_at_once(open_world, api):
    world = await open_world(upstreams=INJECTED, proven=False)
    await world.ask("What is a cache?", caller=ALICE)
    told = await world.ask("What is a cache?", caller=ALICE)
    assert told.cache == ("Hit", "exact")
    assert dict(world.upstream.received[0].headers)["Authorization"] == "Bearer sk-ours"


async def test_an_upstream_that_refuses_our_key_takes_nothing_from_the_caller(open_world, api):
    answers = [api.whole(api.completion("It is.")), Answer(401, chunks=[b"{}"])]
    world = await open_world(lambda _: answers.pop(0), upstreams=INJECTED, proven=False)
    await world.ask("What is a cache?", caller=ALICE)
    assert (await world.ask("Another thing?", caller=ALICE)).status == 401
    assert (await world.ask("What is a cache?", caller=ALICE)).cache == ("Hit", "exact")


async def test_a_key_of_ours_does_not_prove_the_credential_that_goes_upstream(open_world):
    world = await open_world(proven=False)
    own = {"Authorization": "Bearer sk-of-alice"}
    told = await world.ask("What is a cache?", caller=ALICE, headers=own)
    assert told.cache == ("Miss", "credential-unproven")
    assert (await world.ask("What is a cache?", caller=ALICE, headers=own)).cache == ("Hit", "exact")


async def test_tenants_do_not_read_each_other_s_answers_and_keys_of_one_tenant_do(open_world):
    world = await open_world(upstreams=INJECTED, proven=False)
    await world.ask("What is a cache?", caller=ALICE)
    await world.ask("What is a cache?", caller=ALICE)  # now its bytes are known
    assert (await world.ask("What is a cache?", caller=BOB)).cache[0] == "Miss"
    assert (await world.ask("What is a cache?", caller=Caller("alice"))).cache == ("Hit", "exact")
    assert {event.tenant for event in world.told} == {"alice", "bob"}


async def test_a_key_without_a_tenant_opens_the_door_and_changes_nothing_else(open_world):
    world = await open_world(upstreams=INJECTED, proven=False)
    await world.ask("What is a cache?", caller=Caller())
    assert [event.tenant for event in world.told] == ["anonymous"]


async def test_a_key_s_tenant_comes_before_the_header_that_names_one(open_world):
    world = await open_world(upstreams=INJECTED, proven=False, cache={"tenant_header": "X-Tenant"})
    await world.ask("What is a cache?", caller=ALICE, headers={"X-Tenant": "bob"})
    assert [event.tenant for event in world.told] == ["alice"]


async def test_a_shared_cache_is_shared_by_all_keys(open_world):
    world = await open_world(upstreams=INJECTED, proven=False, cache={"shared": True})
    await world.ask("What is a cache?", caller=ALICE)
    assert (await world.ask("What is a cache?", caller=BOB)).cache == ("Hit", "exact")
