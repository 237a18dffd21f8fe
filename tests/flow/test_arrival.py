"""What a request is called: its caller's name where that is sane, the upstream's where there is one."""

import pytest
from multidict import CIMultiDict
from support.candidates import always

from cacheproxy.flow.arrival import Arrival, name_given
from cacheproxy.upstream.scripted import Answer

GIVEN = {"X-Request-Id": "caller-7"}
QUESTION = "Please tell me what a reverse proxy does"
SIMILAR = f"{QUESTION} please"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("req_1", "req_1"),
        ("01J9Z3:a/b+c=@x.y-z", "01J9Z3:a/b+c=@x.y-z"),
        ("a" * 128, "a" * 128),
        ("a" * 129, ""),
        ("", ""),
        ("two words", ""),
        ("line\nbreak", ""),
        ('"quoted"', ""),
        ("-flag", ""),
        ("ünïcode", ""),
    ],
)
def test_a_name_that_could_break_a_line_is_not_taken(given, taken):
    assert name_given(CIMultiDict({"X-Request-Id": given})) == taken


def test_without_a_header_there_is_no_name():
    assert name_given(CIMultiDict()) == ""


def test_the_upstreams_name_wins_and_stays_where_it_was():
    arrival = Arrival("ours", 0.0)
    headers = [("X-Request-ID", "theirs")]
    assert (arrival.sign(headers, "x-request-id"), arrival.id) == (headers, "theirs")


def test_an_answer_without_a_name_gets_ours():
    arrival = Arrival("ours", 0.0)
    assert (arrival.sign([], "request-id"), arrival.id) == ([("request-id", "ours")], "ours")


async def test_answer_event_and_explanation_agree_on_a_hit(open_world):
    world = await open_world()
    await world.ask(QUESTION)
    told = await world.ask(SIMILAR, headers=GIVEN)
    assert told.cache == ("Hit", "semantic")
    assert told.headers["x-request-id"] == world.told[-1].request_id == "caller-7"
    assert world.flow.explanations.request("caller-7").told()["outcome"] == "hit"


async def test_answer_event_and_explanation_agree_on_the_upstreams_name(open_world, api):
    def named(received):
        return Answer(
            headers=[*api.echo(received).headers, ("x-request-id", "theirs")], chunks=api.echo(received).chunks
        )

    world = await open_world(named)
    await world.ask("How do I bake a cake?")
    told = await world.ask(QUESTION, headers=GIVEN)
    assert told.headers.getall("x-request-id") == ["theirs"]
    assert world.told[-1].request_id == "theirs"
    explained = world.flow.explanations.request("caller-7").told()
    assert (explained["request_id"], explained["caller_request_id"]) == ("theirs", "caller-7")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_names_nothing_is_answered_for(open_world, stream):
    world = await open_world()
    told = await world.ask(QUESTION, headers=GIVEN, stream=stream)
    assert told.headers.getall("x-request-id") == ["caller-7"]
    assert world.told[-1].request_id == "caller-7"


async def test_an_error_of_ours_carries_the_name_too(open_world):
    world = await open_world()
    told = await world.send(b"no json", headers=GIVEN)
    assert (told.status, told.headers["x-request-id"]) == (400, "caller-7")


async def test_an_audit_does_not_rename_the_hit_that_it_checks(open_world, api):
    numbers = iter(range(9))

    def named(received):
        answer = api.echo(received)
        return Answer(headers=[*answer.headers, ("x-request-id", f"call-{next(numbers)}")], chunks=answer.chunks)

    world = await open_world(named, policy="certified", audit_rate=1.0, prior=always(5.0))
    await world.ask(QUESTION)
    told = await world.ask(SIMILAR, headers=GIVEN)
    await world.settled()
    assert told.cache == ("Hit", "semantic")
    assert len(world.upstream.received) > 1
    assert world.flow.explanations.request("caller-7").told()["request_id"] == "caller-7"


async def test_requests_without_a_name_get_names_of_their_own(open_world):
    world = await open_world()
    names = {(await world.ask("Hi")).headers["x-request-id"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("req_") for name in names)
