"""Why a request hit or missed, told by its id and by the entries that it had before it."""

import json
import sys

import pytest
from support.candidates import always
from support.judging import ScriptedJudge, different, same

from cacheproxy.flow import explain

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED} please"
BELIEVING = always(5.0)
ID_HEADER = "x-request-id"


@pytest.fixture
async def open_certified(open_world):
    async def build(says=same, **settings):
        return await open_world(judge=ScriptedJudge(says), policy="certified", prior=BELIEVING, **settings)

    return build


def naming(api):
    """An upstream that gives every request an id of its own."""
    numbers = iter(range(100))

    def script(received):
        answer = api.echo(received)
        return api.whole(
            json.loads(answer.chunks[0]), headers=[*answer.headers, ("X-Request-Id", f"up_{next(numbers)}")]
        )

    return script


async def test_a_hit_is_explained_by_the_id_that_its_caller_got(open_certified):
    world = await open_certified()
    await world.ask(ASKED)
    hit = await world.ask(SIMILAR)
    told = world.flow.explanations.request(hit.headers[ID_HEADER]).told()
    assert (told["outcome"], told["entry"], told["stage"]) == ("hit", hit.headers["X-CacheProxy-Entry"], "uncertified")
    assert (told["prompt"], told["pool"]) == (SIMILAR, "default")
    (near,) = told["nearest"]
    assert (near["prompt"], near["entry"], near["guards"]) == (ASKED, told["entry"], [])
    assert near["similarity"] == float(hit.headers["X-CacheProxy-Similarity"])
    candidate = told["candidate"]
    assert (candidate["logit"], candidate["lambda"], candidate["p"]) == (5.0, 3.7, pytest.approx(0.9933, abs=1e-4))
    assert candidate["features"]["similarity"] == near["similarity"]


async def test_a_miss_is_explained_by_the_upstreams_id(open_certified, api):
    world = await open_certified(script=naming(api))
    await world.ask(ASKED)
    miss = await world.ask("Please tell me what a forward proxy does")
    assert miss.headers[ID_HEADER] == "up_1"
    told = world.flow.explanations.request("up_1").told()
    assert (told["outcome"], told["reason"], told["shadowed"]) == ("miss", "below-threshold", False)
    assert told["nearest"][0]["prompt"] == ASKED


async def test_what_finished_is_told_by_the_id_that_it_is_explained_by(open_certified, api):
    world = await open_certified(script=naming(api))
    await world.ask(ASKED)
    await world.ask("Please tell me what a forward proxy does")
    hit = await world.ask(SIMILAR)
    assert [event.request_id for event in world.told] == ["up_0", "up_1", hit.headers[ID_HEADER]]


async def test_guards_are_told_with_each_neighbour(open_certified):
    world = await open_certified()
    await world.ask("Please tell me how to enable the reverse proxy")
    await world.ask("Please tell me how to disable the reverse proxy")
    told = world.flow.explanations.latest(1)[0].told()
    assert told["nearest"][0]["guards"] != []
    assert told["candidate"]["guard"] == told["reason"]


async def test_what_a_fresh_answer_said_of_the_candidate_is_told(open_certified):
    world = await open_certified(different, audit_rate=1)
    await world.ask(ASKED)
    hit = await world.send(world.chat(SIMILAR))
    explanation = world.flow.explanations.request(hit.headers[ID_HEADER])
    assert (explanation.told()["verdict"], explanation.told()["audited"]) == (None, True)
    await world.settled()
    assert explanation.told()["verdict"] == "wrong"


async def test_what_shadow_mode_would_have_served_is_told(open_certified):
    world = await open_certified(mode="shadow")
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    told = world.flow.explanations.latest(1)[0].told()
    assert (told["outcome"], told["reason"], told["shadowed"], told["verdict"]) == ("miss", "shadow", True, "right")


async def test_an_entry_is_explained_by_the_requests_that_had_it_before_them(open_certified):
    world = await open_certified()
    await world.ask(ASKED)
    entry = (await world.ask(SIMILAR)).headers["X-CacheProxy-Entry"]
    await world.ask("Please tell me what a forward proxy does")
    await world.ask("How tall is the Eiffel Tower?")
    told = [explanation.prompt for explanation in world.flow.explanations.entry(entry)]
    assert told[-2:] == ["Please tell me what a forward proxy does", SIMILAR]


async def test_an_explanation_can_be_written_as_json_whatever_was_decided(open_certified):
    world = await open_certified()
    await world.ask(ASKED)  # nothing was near: no candidate
    world.pool.tripped = True
    await world.ask(SIMILAR)
    for explanation in world.flow.explanations.latest(9):
        json.dumps(explanation.told(), allow_nan=False)


async def test_a_rule_that_serves_nothing_has_no_lambda_to_tell(open_certified):
    world = await open_certified(decision={"certified_only": True})
    await world.ask(ASKED)
    await world.ask(SIMILAR)
    told = world.flow.explanations.latest(1)[0].told()
    assert told["outcome"] == "miss"
    json.dumps(told, allow_nan=False)


async def test_the_oldest_decisions_are_forgotten(open_certified, monkeypatch):
    monkeypatch.setattr(explain, "KEPT", 2)
    world = await open_certified()
    for question in (ASKED, SIMILAR, "How tall is the Eiffel Tower?"):
        await world.ask(question)
    assert [told.prompt for told in world.flow.explanations.latest(9)] == ["How tall is the Eiffel Tower?", SIMILAR]


async def test_explanations_pinned_the_answers_that_were_served(open_certified, api):
    world = await open_certified(script=lambda _: api.whole(api.completion("long " * 100_000)))
    await world.ask(ASKED)
    entry = (await world.ask(SIMILAR)).headers["X-CacheProxy-Entry"]
    (held,) = await world.store.load([entry])
    kept = world.flow.explanations.latest(1)[0]
    assert held.answer not in [getattr(kept, name) for name in kept.__slots__]
    assert sum(sys.getsizeof(getattr(kept, name)) for name in kept.__slots__) < 10_000
    assert not hasattr(kept, "recalled")


async def test_a_long_prompt_is_remembered_in_part(open_certified, monkeypatch):
    monkeypatch.setattr(explain, "LONGEST", 10)
    world = await open_certified()
    await world.ask(ASKED)
    assert world.flow.explanations.latest(1)[0].prompt == ASKED[:10]
