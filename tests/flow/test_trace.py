"""What the flow tells a tracer: one span a request, its stretches below it, and an end however it went."""

import asyncio
import time

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.candidates import always
from support.waiting import until

from cacheproxy import behind
from cacheproxy.core.pricing import GenaiPrices
from cacheproxy.errors import UpstreamUnreachable
from cacheproxy.flow.calls import Calls
from cacheproxy.server.metrics import Metrics
from cacheproxy.settings import Settings
from cacheproxy.telemetry.tracing import OtelTracer
from cacheproxy.upstream.scripted import EVENT_STREAM, Answer, Fails, ScriptedUpstream

QUESTION = "Please tell me what a reverse proxy does"
SIMILAR = f"{QUESTION} please"
CALLER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}


class Plenty:
    """A budget for every judgement."""

    def reserve(self, usd):
        return True

    def settle(self, reserved_usd, spent_usd):
        pass


class Spans:
    """What was traced."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = OtelTracer(provider.get_tracer("test"))

    @property
    def all(self):
        return self._exporter.get_finished_spans()

    @property
    def server(self):
        """The requests' own, in the order in which they ended."""
        return [span for span in self.all if span.kind.name == "SERVER"]

    def below(self, span):
        return {child.name for child in self.all if child.parent and child.parent.span_id == span.context.span_id}

    def clear(self):
        self._exporter.clear()


@pytest.fixture
def spans():
    return Spans()


@pytest.fixture
async def world(open_world, spans):
    return await open_world(tracer=spans.tracer)


async def test_a_miss_is_a_span_with_its_call_below_it(world, spans):
    await world.ask(QUESTION)
    (server,) = spans.server
    assert server.name == "POST /v1/chat/completions"
    told = dict(server.attributes)
    assert (told["cacheproxy.status"], told["cacheproxy.reason"]) == ("Miss", "no-neighbor")
    assert (told["gen_ai.operation.name"], told["gen_ai.provider.name"]) == ("chat", "openai")
    assert (told["gen_ai.request.model"], told["gen_ai.response.model"]) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (10, 20)
    assert told["http.response.status_code"] == 200
    assert spans.below(server) == {"chat gpt-4o-mini"}


async def test_a_similar_hit_shows_where_its_time_went(world, spans):
    await world.ask(QUESTION)
    spans.clear()
    await world.ask(SIMILAR)
    (server,) = spans.server
    told = dict(server.attributes)
    assert (told["cacheproxy.layer"], told["cacheproxy.entry"]) == ("semantic", world.told[-1].entry_id)
    assert told["cacheproxy.similarity"] == pytest.approx(0.964, abs=0.001)
    assert "gen_ai.usage.input_tokens" not in told  # nothing was bought
    assert told["cacheproxy.saved_tokens"] == 30
    assert spans.below(server) == {"embed", "search"}


async def test_a_callers_trace_is_continued_and_the_upstream_continues_ours(world, spans):
    await world.ask(QUESTION, headers=CALLER)
    (server,) = spans.server
    call = next(span for span in spans.all if span.kind.name == "CLIENT")
    assert f"{server.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{server.parent.span_id:016x}" == "b7ad6b7169203331"
    received = world.upstream.received[0]
    names = [name.lower() for name, _ in received.headers]
    assert names.count("traceparent") == names.count("tracestate") == 1
    assert received.header("traceparent") == f"00-{call.context.trace_id:032x}-{call.context.span_id:016x}-01"
    assert received.header("tracestate") == "vendor=1"
    assert world.told[0].trace_id == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("given", ["", "00-garbage-01", "00-" + "0" * 32 + "-b7ad6b7169203331-01"])
async def test_without_a_sound_context_a_trace_begins_here(world, spans, given):
    await world.ask(QUESTION, headers={"traceparent": given})
    assert spans.server[0].parent is None


async def test_untraced_the_callers_context_passes_as_it_is(open_world):
    world = await open_world()
    await world.ask(QUESTION, headers=CALLER)
    assert world.upstream.received[0].header("traceparent") == CALLER["traceparent"]
    assert world.told[0].trace_id == ""


async def test_a_streams_span_ends_with_its_last_byte(open_world, spans, api):
    gate = asyncio.Event()
    *first, last = api.pieces(api.completion("Hello"))
    world = await open_world(lambda _: Answer(headers=EVENT_STREAM, chunks=[*first, gate, last]), tracer=spans.tracer)
    reply = await world.handle(world.chat(QUESTION, stream=True))
    assert spans.server == []
    gate.set()
    await world.read(reply)
    assert dict(spans.server[0].attributes)["gen_ai.request.stream"] is True


async def test_an_upstream_that_fails_marks_the_call_and_the_request(open_world, spans):
    world = await open_world(lambda _: Fails(UpstreamUnreachable("down")), tracer=spans.tracer)
    await world.ask(QUESTION)
    call, server = spans.all
    assert (call.status.status_code.name, call.attributes["error.type"]) == ("ERROR", "UpstreamUnreachable")
    assert (server.status.status_code.name, server.attributes["http.response.status_code"]) == ("ERROR", 502)


async def test_a_refusal_is_the_calls_error_and_not_the_servers(open_world, spans):
    world = await open_world(lambda _: Answer(status=400, chunks=[b"{}"]), tracer=spans.tracer)
    await world.ask(QUESTION)
    call, server = spans.all
    assert (call.status.status_code.name, call.attributes["error.type"]) == ("ERROR", "400")
    assert server.status.status_code.name == "UNSET"


async def test_an_error_of_ours_ends_the_span_too(world, spans):
    await world.send(b"no JSON")
    (server,) = spans.server
    assert (server.name, server.attributes["http.response.status_code"]) == ("POST", 400)


async def test_what_passes_through_is_traced_and_not_named_after_its_path(open_world, spans):
    world = await open_world(lambda _: Answer(chunks=[b"{}"]), tracer=spans.tracer)
    await world.send(None, path="/v1/files/file-123", method="GET")
    (server,) = spans.server
    assert (server.name, server.attributes["url.path"]) == ("GET", "/v1/files/file-123")
    assert spans.below(server) == {"GET"}


async def test_who_shares_a_call_has_a_span_of_its_own(open_world, spans, api):
    gate = asyncio.Event()

    def gated(received):
        answer = api.echo(received)
        return Answer(headers=answer.headers, chunks=answer.chunks, head_waits=gate)

    world = await open_world(gated, tracer=spans.tracer)
    asking = [asyncio.create_task(world.ask(QUESTION)) for _ in range(2)]
    await until(lambda: world.upstream.received)
    gate.set()
    await asyncio.gather(*asking)
    layers = {span.attributes.get("cacheproxy.layer"): spans.below(span) for span in spans.server}
    assert layers == {None: {"chat gpt-4o-mini"}, "coalesced": set()}


async def test_an_audits_call_is_below_the_hit_that_it_checks(open_world, spans):
    world = await open_world(tracer=spans.tracer, policy="certified", audit_rate=1.0, prior=always(5.0))
    await world.ask(QUESTION)
    spans.clear()
    await world.ask(SIMILAR)
    (server,) = spans.server
    assert server.attributes["cacheproxy.layer"] == "semantic"
    assert spans.below(server) == {"embed", "search", "chat gpt-4o-mini"}


async def test_what_a_judge_asks_a_model_is_below_the_request_that_it_judges_for(open_world, spans, api):
    """A judge's calls were in no trace."""
    asked = ScriptedUpstream(api.echo)
    judge = behind._judge(
        Settings(judge="llm", judge_model="gpt-4o", upstream_url="https://judge.example/v1"),
        None,
        upstream=asked,
        calls=Calls(Metrics()),
        prices=GenaiPrices(clock=time.time),
        spending=Plenty(),
    )
    world = await open_world(judge=judge, tracer=spans.tracer, policy="certified", audit_rate=1.0, prior=always(5.0))
    await world.ask(QUESTION)
    spans.clear()
    await world.ask(SIMILAR)
    await until(lambda: asked.received)
    await world.settled()
    (server,) = spans.server
    assert "chat gpt-4o" in spans.below(server)
    call = next(span for span in spans.all if span.name == "chat gpt-4o")
    assert call.attributes["server.address"] == "judge.example"
    carried = asked.received[0].header("traceparent")
    assert carried.startswith(f"00-{call.context.trace_id:032x}-{call.context.span_id:016x}-")


async def test_a_caller_that_leaves_ends_its_span(open_world, spans):
    world = await open_world(
        lambda _: Answer(chunks=[b"{}"], head_waits=asyncio.Event()), tracer=spans.tracer, deadlines={"abandon_s": 0.0}
    )
    asking = asyncio.create_task(world.ask(QUESTION))
    await until(lambda: world.upstream.received)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert spans.server[0].attributes["error.type"] == "caller-left"
    await world.settled()
    assert len(spans.server) == 1
