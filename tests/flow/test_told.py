"""Every observer is told about each finished request, once."""

import json

import pytest
from multidict import CIMultiDict

from cacheproxy.core.eligibility import CacheRules
from cacheproxy.core.scope import KeyRules
from cacheproxy.events import Audited, Checked, CheckKind
from cacheproxy.flow.arrival import Arrival
from cacheproxy.flow.asked import Reader, Rules, TenantRules
from cacheproxy.flow.coalesce import Outcome
from cacheproxy.flow.routing import Route, Target
from cacheproxy.flow.told import Hit, Miss, Saved, Teller
from cacheproxy.model import NO_USAGE, CacheStatus, CheckVerdict, Layer, Reason, Usage, Verdict
from cacheproxy.wire.dialects import DIALECTS

PATH = "/v1/chat/completions"
CHECKED = Checked("default", "id-a", 0.9, hit=True)


class Notes:
    """Keeps what it is told."""

    def __init__(self):
        self.events = []

    def served(self, event):
        self.events.append(event)

    audited = served


class Breaks:
    """Fails at everything."""

    def served(self, event):
        raise RuntimeError("bug")

    audited = served


@pytest.fixture
async def asked(api, clock):
    body = json.dumps({"model": "asked-for", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    route = Route(Target("groq", "https://llm.example/v1"), PATH, "https://llm.example/v1/chat/completions", "")
    reader = Reader(Rules(CacheRules(), KeyRules(b"s" * 32), TenantRules(), 5000))
    return await reader.read(
        api.Asking("POST", PATH, CIMultiDict(), body), route, DIALECTS[PATH], arrival=Arrival("req_1", clock.now)
    )


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def teller(notes, clock):
    return Teller([Breaks(), notes], price_version="v1", now=clock, clock=clock)


async def test_a_hit_is_told_as_a_saving(teller, notes, asked, make_entry, clock):
    clock.now += 0.5
    teller.hit(asked, Hit(make_entry(), Layer.SEMANTIC, 0.97))
    (event,) = notes.events
    assert (event.status, event.layer, event.similarity, event.reason) == (CacheStatus.HIT, Layer.SEMANTIC, 0.97, None)
    assert (event.cost_usd, event.usage) == (0.0, NO_USAGE)
    assert (event.saved_usd, event.saved_usage, event.saved_ms) == (0.25, Usage(10, 20), 800.0)
    assert (event.model, event.entry_id, event.http_status) == ("gpt-4o-mini", "id-a", 200)
    assert (event.dialect, event.upstream, event.tenant, event.price_version) == (
        "openai-chat",
        "groq",
        "anonymous",
        "v1",
    )
    assert event.duration_ms == pytest.approx(500)
    assert event.at == clock.now


async def test_a_miss_is_told_as_a_cost(teller, notes, asked, make_entry):
    outcome = Outcome(200, make_entry(), Usage(1, 2), 0.5, 321.0)
    teller.missed(asked, Miss(CacheStatus.MISS, Reason.BELOW_THRESHOLD, 0.4), outcome, Saved(Usage(3, 0), 0.1, 5.0))
    (event,) = notes.events
    assert (event.status, event.reason, event.similarity) == (CacheStatus.MISS, Reason.BELOW_THRESHOLD, 0.4)
    assert (event.cost_usd, event.usage, event.upstream_ms) == (0.5, Usage(1, 2), 321.0)
    assert (event.saved_usd, event.saved_usage) == (0.1, Usage(3, 0))
    assert event.model == "gpt-4o-mini"


async def test_an_answer_that_is_none_is_told_under_the_model_that_was_asked_for(teller, notes, asked):
    teller.missed(asked, Miss(CacheStatus.BYPASS, Reason.NO_STORE), Outcome(429))
    (event,) = notes.events
    assert (event.model, event.http_status, event.cost_usd, event.layer) == ("asked-for", 429, 0.0, None)


async def test_a_joiner_is_told_as_a_hit_only_where_there_was_an_answer(teller, notes, asked, make_entry):
    teller.joined(asked, Outcome(200, make_entry(), Usage(1, 2), 0.5, 321.0))
    teller.joined(asked, Outcome(502))
    answered, failed = notes.events
    assert (answered.status, answered.layer, answered.saved_usd) == (CacheStatus.HIT, Layer.COALESCED, 0.5)
    assert (answered.cost_usd, answered.saved_usage) == (0.0, Usage(1, 2))
    assert (failed.status, failed.layer, failed.http_status, failed.saved_usd) == (CacheStatus.MISS, None, 502, 0.0)


async def test_a_check_is_told_to_every_observer_even_where_one_fails(teller, notes, asked, clock):
    teller.judged(asked, Verdict(same=False, cost_usd=0.5), CHECKED)
    assert notes.events == [
        Audited(
            at=clock.now,
            model="asked-for",
            tenant="anonymous",
            upstream="groq",
            kind=CheckKind.JUDGE,
            verdict=CheckVerdict.WRONG,
            cost_usd=0.5,
            price_version="v1",
            checked=CHECKED,
        )
    ]


async def test_a_comparison_that_is_on_no_hit_only_costs(teller, notes, asked):
    teller.judged(asked, Verdict(same=False, cost_usd=0.5), None)
    (event,) = notes.events
    assert (event.kind, event.verdict, event.cost_usd, event.checked) == (CheckKind.JUDGE, None, 0.5, None)


async def test_asking_again_costs_what_an_answer_costs_and_has_no_verdict_yet(teller, notes, asked, make_entry):
    teller.asked_again(asked, Outcome(200, make_entry(), Usage(1, 2), 0.5, 321.0))
    (event,) = notes.events
    assert (event.kind, event.verdict) == (CheckKind.AUDIT, None)
    assert (event.model, event.usage, event.cost_usd) == ("gpt-4o-mini", Usage(1, 2), 0.5)


async def test_what_the_local_server_answered_is_booked_as_its_own(teller, notes, asked, make_entry):
    here = Outcome(200, make_entry(upstream="local"), Usage(1, 2), 0.5, 321.0)
    teller.missed(asked, Miss(CacheStatus.MISS, Reason.NO_ENTRY), here)
    teller.asked_again(asked, here)
    teller.asked_again(asked, Outcome(502))
    assert [event.upstream for event in notes.events] == ["local", "local", "groq"]


async def test_asking_again_without_an_answer_comes_to_nothing(teller, notes, asked):
    teller.asked_again(asked, Outcome(502))
    (event,) = notes.events
    assert (event.verdict, event.cost_usd, event.unpriced) == (CheckVerdict.UNKNOWN, 0.0, False)


@pytest.mark.parametrize(
    ("same", "check"), [(True, CheckVerdict.RIGHT), (False, CheckVerdict.WRONG), (None, CheckVerdict.UNKNOWN)]
)
async def test_a_verdict_is_counted_as_what_it_is(teller, notes, asked, same, check):
    teller.judged(asked, Verdict(same=same), CHECKED)
    assert notes.events[0].verdict is check
