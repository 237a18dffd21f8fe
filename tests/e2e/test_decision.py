"""The promise, end to end: real questions, the real model, answers that are worded anew each time, and a judge.

The questions are the bundled ones. An answer's code word tells its class, and so whether a hit is wrong.
"""

from __future__ import annotations

import json
import random
import time
import urllib.request

import pytest
from support.servers import PATIENCE_S, proxy_from, proxy_settings

from cacheproxy.lab.questions import classes_of, read_questions
from cacheproxy.lab.replay import ReplayOptions, replay
from cacheproxy.lab.simulate import SimulateOptions, serving
from cacheproxy.upstream.simulated import knowledge_of

from .conftest import bundled

pytestmark = pytest.mark.timeout(300)  # the model reads some thousand sentences

BUDGET = 0.1
"""So loose that some hundred verdicts lead to a rule."""
CLASSES = 6
AT_A_TIME = 40
KEY = "sk-replay"
MODEL = "gpt-4o-mini"


@pytest.fixture(scope="module")
def questions():
    """Some hundred questions of a few classes, each of them once."""
    known = read_questions(bundled())
    labels = sorted({question.label for question in known})[:CLASSES]
    chosen = [question for question in known if question.label in labels]
    random.Random(3).shuffle(chosen)
    return chosen


@pytest.fixture(scope="module")
def reworded(host, questions):
    """An upstream that never says a thing twice in the same words. Its base URL with ``/v1``."""
    answers = knowledge_of(classes_of(questions))
    with host.open(serving(SimulateOptions(port=0, answers=answers, seed=1))) as url:
        yield url


@pytest.fixture(scope="module")
def replayed(host, reworded, questions, tmp_path_factory):
    """A proxy through which all questions went, and the reports on each part of them."""
    settings = proxy_settings(tmp_path_factory.mktemp("certified"), reworded, max_wrong_per_hit=BUDGET, audit_rate=1)
    with host.open(proxy_from(settings)) as served:
        options = ReplayOptions(proxy_url=served.v1, api_key=KEY, model=MODEL, concurrency=4)
        parts = [questions[start : start + AT_A_TIME] for start in range(0, len(questions), AT_A_TIME)]
        reports = []
        for part in parts:
            reports.append(host.run(replay(part, options)))
            judged(host)
        yield served, reports


def judged(host):
    """Wait until everything that was answered is judged: on a busy machine that takes longer than answering."""
    while {"flow/place", "flow/audit", "flow/fit"} & host.tasks().keys():
        time.sleep(0.05)


@pytest.fixture
def caller(http):
    """The caller whose questions were replayed."""
    http.key = KEY
    return http


def asked(served, path):
    """What the admin plane answers."""
    with urllib.request.urlopen(f"{served.admin}/api/v1/{path}", timeout=PATIENCE_S) as response:
        return json.load(response)


async def similar_hit(caller, served, questions):
    """The first reply that similarity gives to one of the questions with a word more, and that wording."""
    for question in questions[:20]:
        text = f"{question.text} Please."
        reply = await caller.ask(text, base=served.url)
        if reply.cache == ("Hit", "semantic"):
            return text, reply
    raise AssertionError("no question was answered by similarity")


async def test_verdicts_lead_to_a_rule_that_keeps_the_budget(replayed):
    served, reports = replayed
    pool = asked(served, "decision")["pools"][0]
    assert pool["stage"] in {"estimated", "certified"}
    assert (pool["trips"], pool["labels"] > 100) == (0, True)
    early, late = reports[0], reports[-1]
    assert late.hits["semantic"] > early.hits["semantic"]
    served_similar = [report.wrong_per_semantic_hit for report in reports]
    assert sum(share.count for share in served_similar) <= BUDGET * sum(share.of for share in served_similar)
    assert sum(report.failed for report in reports) == 0


async def test_checks_are_counted_and_their_cost_is_taken_off_the_savings(replayed):
    served, _ = replayed
    metrics = served.metrics()
    assert metrics['cacheproxy_audits_total{verdict="right"}'] > 50
    assert metrics['cacheproxy_wrong_per_hit{bound="budget",scope="default"}'] == BUDGET
    (row,) = asked(served, "stats")["rows"]
    assert row["audit_usd"] > 0
    assert row["net_saved_usd"] == pytest.approx(row["saved_usd"] - row["audit_usd"] - row["judge_usd"])


async def test_a_hit_is_explained_and_suspended_when_its_reader_says_so(replayed, caller, questions):
    served, _ = replayed
    text, hit = await similar_hit(caller, served, questions)
    entry = hit.headers["X-CacheProxy-Entry"]
    (told,) = asked(served, f"explain?request={hit.headers['x-request-id']}")["decisions"]
    assert (told["outcome"], told["entry"], told["prompt"]) == ("hit", entry, text)
    assert told["candidate"]["logit"] >= told["candidate"]["lambda"]
    about = asked(served, f"explain?entry={entry}")["decisions"]
    assert told["request_id"] in {decision["request_id"] for decision in about}  # its verdict may have come meanwhile

    said = await caller.send("/cacheproxy/feedback", {"entry": entry, "verdict": "wrong"}, base=served.url)
    assert (said.status, said.json["suspended"]) == (200, True)
    assert said.json["blocked_pairs"] > 0
    again = await caller.ask(text, base=served.url)
    assert again.headers.get("X-CacheProxy-Entry") != entry


async def test_shadow_mode_serves_nothing_similar_and_tells_what_it_would_have(replayed, caller, questions):
    served, _ = replayed
    before = asked(served, "decision")["pools"][0]["shadow_hits"]
    shadow = {"X-CacheProxy-Mode": "shadow"}
    replies = [await caller.ask(f"{each.text} Thanks.", base=served.url, headers=shadow) for each in questions[:12]]
    assert {reply.headers["X-Cache-Status"] for reply in replies} == {"Miss"}
    assert "shadow" in {reply.cache[1] for reply in replies}
    assert asked(served, "decision")["pools"][0]["shadow_hits"] > before
