"""Misses go to the local server first, and to the upstream when that cannot."""

import json

import pytest

from cacheproxy.errors import UpstreamTimeout, UpstreamUnreachable
from cacheproxy.upstream.scripted import Answer, Fails

HERE = "http://local.test/v1"
LOCAL = {"url": HERE, "usd_per_gpu_hour": 3.6, "input_tokens_per_s": 1000, "output_tokens_per_s": 100}


@pytest.fixture
def open_near(open_world, api):
    """A world with a local server whose answers ``says`` gives, told apart by its URL."""

    async def open_near(says=None, *, local=LOCAL, **more):
        def script(received):
            if received.url.startswith(HERE) and says is not None:
                return says(received)
            return api.echo(received)

        return await open_world(script, local=local, **more)

    return open_near


def hosts(world):
    return ["local" if received.url.startswith(HERE) else "upstream" for received in world.upstream.received]


async def test_a_miss_is_answered_here_and_a_hit_by_the_cache(open_near):
    world = await open_near()
    first, second = await world.ask("Hi"), await world.ask("Hi")
    assert (first.text, second.text) == ("Answer to Hi", "Answer to Hi")
    assert hosts(world) == ["local"]
    assert world.upstream.received[0].url == f"{HERE}/chat/completions"


async def test_local_tokens_cost_what_their_seconds_do(open_near):
    world = await open_near()
    await world.ask("Hi")
    (told,) = world.told
    assert told.upstream == "local"
    # 3.6 USD an hour are 0.001 USD a second; 1000 tokens in, or 100 out, take one.
    expected = 0.001 * (told.usage.input_tokens / 1000 + told.usage.output_tokens / 100)
    assert told.cost_usd == pytest.approx(expected)
    assert told.cost_usd > 0


async def test_streams_are_answered_here_too(open_near):
    world = await open_near()
    assert (await world.ask("Hi", stream=True)).text == "Answer to Hi"
    assert hosts(world) == ["local"]


async def test_the_callers_credential_stays_at_home(open_near):
    world = await open_near(local={**LOCAL, "api_key": "ours"})
    await world.ask("Hi")
    assert world.upstream.received[0].header("authorization") == "Bearer ours"
    assert "sk-" not in str(world.upstream.received[0].headers)


async def test_the_local_model_may_have_another_name(open_near):
    world = await open_near(local={**LOCAL, "model": "tiny"})
    await world.ask("Hi")
    assert json.loads(world.upstream.received[0].body)["model"] == "tiny"


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(status=503, chunks=[b"{}"]),
        Answer(status=429, chunks=[b"{}"]),
        Answer(status=400, chunks=[b"too long"]),
        Answer(status=404, chunks=[b"{}"]),
        Fails(UpstreamUnreachable("refused")),
        Fails(UpstreamTimeout("slow")),
    ],
    ids=["overloaded", "limited", "not supported", "no such model", "down", "slow"],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_done_here_goes_upstream(open_near, refusal, stream):
    world = await open_near(lambda _: refusal)
    assert (await world.ask("Hi", stream=stream)).text == "Answer to Hi"
    assert hosts(world) == ["local", "upstream"]
    assert world.told[0].upstream == "default"


async def test_a_server_that_is_down_is_left_alone_for_a_moment(open_near):
    world = await open_near(lambda _: Fails(UpstreamUnreachable("refused")))
    await world.ask("One")
    await world.ask("Two")
    assert hosts(world) == ["local", "upstream", "upstream"]
    world.clock.now += 3
    await world.ask("Three")
    assert hosts(world)[3:] == ["local", "upstream"]


async def test_what_it_does_not_support_does_not_make_it_be_left_alone(open_near):
    world = await open_near(lambda _: Answer(status=400, chunks=[b"{}"]))
    await world.ask("One")
    await world.ask("Two")
    assert hosts(world) == ["local", "upstream"] * 2


async def test_models_that_are_not_its_own_go_upstream(open_near):
    world = await open_near(local={**LOCAL, "models": ["gpt-4o*"]})
    await world.ask("Hi", model="GPT-4o-mini")
    await world.ask("Hi", model="o3")
    assert hosts(world) == ["local", "upstream"]


@pytest.mark.parametrize(("anyone", "served"), [(False, ["upstream", "local"]), (True, ["local", "local"])])
async def test_callers_are_proven_by_the_upstream_first_unless_anyone_may(open_near, anyone, served):
    world = await open_near(local={**LOCAL, "anyone": anyone}, proven=False)
    await world.ask("One")
    await world.ask("Two")
    assert hosts(world) == served


async def test_an_answer_from_here_proves_no_credential(open_near):
    world = await open_near(local={**LOCAL, "anyone": True}, proven=False)
    await world.ask("Hi")
    assert (await world.ask("Hi")).headers["X-CacheProxy-Reason"] == "credential-unproven"


async def test_a_stream_that_breaks_here_is_not_begun_again(open_near, api):
    whole = api.streamed(api.completion("A long answer to a short question")).chunks
    world = await open_near(
        lambda _: Answer(
            headers=api.streamed(api.completion("x")).headers, chunks=whole[:2], then_fails=UpstreamUnreachable("gone")
        )
    )
    reply = await world.ask("Hi", stream=True)
    assert "cacheproxy_upstream_unreachable" in reply.body.decode()
    assert hosts(world) == ["local"]


def fallbacks(world):
    return {
        line.rpartition('"')[0].rpartition('"')[2]: float(line.rpartition(" ")[2])
        for line in world.metrics.render().decode().splitlines()
        if line.startswith("cacheproxy_local_fallbacks_total{")
    }


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Answer(status=503, chunks=[b"{}"]), "failed"),
        (Answer(status=429, chunks=[b"{}"]), "rate-limited"),
        (Answer(status=404, chunks=[b"{}"]), "refused"),
        (Fails(UpstreamUnreachable("down")), "unreachable"),
        (Fails(UpstreamTimeout("slow")), "timeout"),
    ],
)
async def test_what_the_upstream_is_asked_in_its_place_is_counted(open_near, said, why):
    world = await open_near(lambda _: said)
    await world.ask("Hi")
    assert hosts(world) == ["local", "upstream"]
    assert fallbacks(world) == {why: 1.0}


async def test_a_server_that_rests_after_a_failure_is_counted_apart(open_near):
    world = await open_near(lambda _: Fails(UpstreamUnreachable("down")))
    await world.ask("One")
    await world.ask("Two")
    assert hosts(world) == ["local", "upstream", "upstream"]
    assert fallbacks(world) == {"unreachable": 1.0, "resting": 1.0}


async def test_an_answer_from_here_is_no_fallback(open_near):
    world = await open_near()
    await world.ask("Hi")
    assert fallbacks(world) == {}
