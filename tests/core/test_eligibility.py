"""Operator, caller and request together: each may only tighten."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.core.controls import NO_CONTROLS, Controls
from cacheproxy.core.eligibility import CacheRules, judge
from cacheproxy.model import Mode, Reason, View

modes = st.sampled_from(list(Mode))


def view(text="What is a cache?", **changes):
    texts = (text,) if text else ()
    return View(**{"model": "m", "stream": False, "texts": texts, "skeleton": {}, **changes})


def freedom(eligibility):
    """How much a request may do, as a number."""
    if eligibility.bypass is not None:
        return 0
    if eligibility.exact_only is not None:
        return 1
    return 2 if eligibility.shadow else 3


def test_by_default_everything_is_allowed_for_a_day():
    allowed = judge(view(), NO_CONTROLS, CacheRules())
    assert (allowed.bypass, allowed.exact_only, allowed.read, allowed.shadow) == (None, None, True, False)
    assert allowed.ttl_s == 86_400


@given(operator=modes, caller=modes)
def test_a_callers_mode_only_tightens_the_operators(operator, caller):
    rules = CacheRules(mode=operator)
    asked = judge(view(), Controls(mode=caller), rules)
    assert freedom(asked) <= freedom(judge(view(), NO_CONTROLS, rules))
    assert freedom(asked) <= freedom(judge(view(), NO_CONTROLS, CacheRules(mode=caller)))


@given(operator=st.floats(0, 1e6), caller=st.none() | st.floats(0, 1e6))
def test_a_callers_ttl_only_shortens_the_operators(operator, caller):
    ttl_s = judge(view(), Controls(ttl_s=caller), CacheRules(ttl_s=operator)).ttl_s
    assert ttl_s == (operator if caller is None else min(operator, caller))


@pytest.mark.parametrize(
    ("changes", "controls", "mode", "reason"),
    [
        pytest.param({}, Controls(mode=Mode.OFF), Mode.SEMANTIC, Reason.MODE_OFF, id="the caller turns it off"),
        pytest.param({}, NO_CONTROLS, Mode.OFF, Reason.MODE_OFF, id="the operator turned it off"),
        pytest.param({}, Controls(mode=Mode.SEMANTIC), Mode.OFF, Reason.MODE_OFF, id="off cannot be loosened"),
        pytest.param({}, Controls(no_store=True), Mode.SEMANTIC, Reason.NO_STORE, id="no-store"),
        pytest.param({"model": "sonar-pro"}, NO_CONTROLS, Mode.SEMANTIC, Reason.SERVER_TOOLS, id="the model searches"),
        pytest.param({"bypass": Reason.SERVER_TOOLS}, NO_CONTROLS, Mode.EXACT, Reason.SERVER_TOOLS, id="the request"),
    ],
)
def test_some_requests_bypass_the_cache(changes, controls, mode, reason):
    allowed = judge(view(**changes), controls, CacheRules(mode=mode))
    assert allowed.bypass is reason
    assert not allowed.read
    assert allowed.ttl_s == 0


@pytest.mark.parametrize(
    ("asked", "rules", "reason", "ttl_s"),
    [
        pytest.param(view(exact_only=Reason.LOGPROBS), CacheRules(), Reason.LOGPROBS, 86_400, id="by the request"),
        pytest.param(view(), CacheRules(mode=Mode.EXACT), Reason.NO_ENTRY, 86_400, id="by the mode"),
        pytest.param(view("What is the latest news?"), CacheRules(), Reason.VOLATILE, 300, id="volatile"),
        pytest.param(
            view("Late news?"),
            CacheRules(volatile_patterns=[re.compile("news")]),
            Reason.VOLATILE,
            300,
            id="own pattern",
        ),
        pytest.param(view("What is new today?"), CacheRules(ttl_s=5), Reason.VOLATILE, 5, id="volatile, yet shorter"),
        pytest.param(
            view("What is new today?", exact_only=Reason.LOGPROBS), CacheRules(), Reason.LOGPROBS, 300, id="two reasons"
        ),
        pytest.param(
            view("", exact_only=Reason.NOT_PLAIN_TEXT), CacheRules(), Reason.NOT_PLAIN_TEXT, 86_400, id="no text"
        ),
        pytest.param(
            view(retained_upstream=True, exact_only=Reason.RETAINED_UPSTREAM),
            CacheRules(retained_ttl_s=60),
            Reason.RETAINED_UPSTREAM,
            60,
            id="kept upstream",
        ),
    ],
)
def test_some_requests_use_the_exact_layer_only(asked, rules, reason, ttl_s):
    allowed = judge(asked, NO_CONTROLS, rules)
    assert allowed.bypass is None
    assert allowed.exact_only is reason
    assert allowed.ttl_s == ttl_s


def test_no_cache_writes_and_does_not_read():
    allowed = judge(view(), Controls(no_cache=True), CacheRules())
    assert not allowed.read
    assert allowed.ttl_s > 0


def test_a_ttl_of_zero_keeps_nothing():
    assert judge(view(), Controls(ttl_s=0), CacheRules()).ttl_s == 0


def test_shadow_is_told():
    assert judge(view(), Controls(mode=Mode.SHADOW), CacheRules()).shadow
    assert not judge(view(), Controls(mode=Mode.SHADOW), CacheRules(mode=Mode.EXACT)).shadow


def test_a_volatile_question_beside_an_image_was_kept_for_a_day():
    """Only turns of plain text were read for their wording."""
    asked = judge(
        view("", exact_only=Reason.NOT_PLAIN_TEXT, wording="What is the weather today?"), NO_CONTROLS, CacheRules()
    )
    assert (asked.exact_only, asked.ttl_s) == (Reason.NOT_PLAIN_TEXT, 300)
