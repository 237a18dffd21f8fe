"""The promise, end to end: real questions, the real model, answers that are worded anew each time, and a judge.

The questions are the bundled ones. An answer's code word tells which class it belongs to, and so whether a hit is wrong.
"""

from __future__ import annotations

import json
import random
import urllib.parse
import urllib.request

import pytest
from support.servers import PATIENCE_S, proxy_from, proxy_settings

from cacheproxy.lab.questions import classes_of, read_questions
from cacheproxy.lab.replay import ReplayOptions, replay
from cacheproxy.lab.simulate import SimulateOptions, serving
from cacheproxy.upstream.simulated import knowledge_of

from .conftest import bundled

BUDGET = 0.1
CLASSES = 24
AT_A_TIME = 108
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
    settings = proxy_settings(tmp_path_factory.mktemp("certified"), reworded, max_wrong_per_hit=BUDGET)
    with host.open(proxy_from(settings)) as served:
        options = ReplayOptions(proxy_url=served.v1, api_key=KEY, model=MODEL, concurrency=4)
        parts = [questions[start : start + AT_A_TIME] for start in range(0, len(questions), AT_A_TIME)]
        yield served, [host.run(replay(part, options)) for part in parts]


@pytest.fixture
def caller(http):
    """The caller whose questions were replayed."""
    http.key = KEY
    return http


def asked(served, path):
    """What the admin plane answers."""
    with urllib.request.urlopen(f"{served.admin}/api/v1/{path}", timeout=PATIENCE_S) as response:
        return json.load(response)


def pool_of(served):
    return asked(served, "decision")["pools"][0]


async def similar_hit(caller, served, questions):
    """A question that was answered by similarity, worded a little otherwise than it was, and its reply."""
    for question in questions:
        text = f"{question.text} Please."
        reply = await caller.ask(text, base=served.url)
        if reply.cache == ("Hit", "semantic"):
            return text, reply
    raise AssertionError("no question was answered by similarity")


async def test_verdicts_lead_to_a_rule_and_the_budget_is_kept(replayed, questions):
    served, reports = replayed
    print([(r.hits, r.reasons, str(r.wrong_per_semantic_hit), r.duration_s) for r in reports], pool_of(served))
