"""What is left out of keys: neutral members, billing lines, ignored patterns, and whose request it is."""

import copy
import re

import pytest
from hypothesis import given
from support.keys import chat, json_values, keys_of, plain_keys

from cacheproxy.core.scope import NEUTRAL, KeyRules
from cacheproxy.wire.dialects import DIALECTS

MESSAGES = DIALECTS["/v1/messages"]


# --- what is neutral


@pytest.mark.parametrize("name", sorted(NEUTRAL))
@given(value=json_values)
def test_neutral_members_do_not_count(name, value):
    if name in {"stream", "stream_options"}:
        value = True if name == "stream" else {"include_usage": True}
    assert plain_keys({**chat(), name: value}) == plain_keys(chat())


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_neutral_names_count_where_they_mean_something_else(name):
    within = chat(response_format={"schema": {name: 1}})
    assert plain_keys(within) != plain_keys(chat(response_format={"schema": {}}))


def test_members_that_the_operator_calls_neutral_do_not_count():
    rules = KeyRules(secret=b"s" * 32, neutral=NEUTRAL | {"trace"})
    assert keys_of(chat(trace="abc"), rules=rules) == keys_of(chat(), rules=rules)
    assert keys_of(chat(trace="abc")) != keys_of(chat())


def claude(marks, properties=()):
    """A request in whose every block ``marks`` stand."""
    return {
        "model": "claude-sonnet-4-5",
        "max_tokens": 10,
        "system": [{"type": "text", "text": "Be brief.", **marks}],
        "tools": [
            {"name": "get", "input_schema": {"type": "object", "properties": {n: {} for n in properties}}, **marks}
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Get it.", **marks}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "get", "input": {}, **marks}]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [{"type": "text", "text": "Got it.", **marks}],
                        **marks,
                    }
                ],
            },
            {"role": "user", "content": [{"type": "text", "text": "And now?", **marks}]},
        ],
    }


def test_cache_control_on_any_block_does_not_count():
    marked = claude({"cache_control": {"type": "ephemeral", "ttl": "1h"}})
    assert keys_of(marked, MESSAGES) == keys_of(claude({}), MESSAGES)


def test_a_tools_own_property_named_cache_control_was_dropped():
    assert keys_of(claude({}, properties=["cache_control"]), MESSAGES) != keys_of(claude({}), MESSAGES)
    called = claude({})
    called["messages"][1]["content"][0]["input"] = {"cache_control": "no"}
    assert keys_of(called, MESSAGES) != keys_of(claude({}), MESSAGES)


def test_billing_lines_in_front_of_a_system_prompt_do_not_count():
    def billed(number):
        body = claude({})
        line = f"x-anthropic-billing-header: cc_version=2.1; cch={number};"
        return {**body, "system": [{"type": "text", "text": line}, *body["system"]]}

    assert keys_of(billed(1), MESSAGES) == keys_of(billed(2), MESSAGES) == keys_of(claude({}), MESSAGES)


def test_a_system_block_that_says_more_than_billing_counts():
    body = claude({})
    body["system"].insert(0, {"type": "text", "text": "x-anthropic-billing-header: 1;\nAlways answer in French."})
    assert keys_of(body, MESSAGES) != keys_of(claude({}), MESSAGES)


# --- ignored patterns


STAMPS = KeyRules(secret=b"s" * 32, ignore_patterns=(re.compile(r"\d{4}-\d\d-\d\d"), re.compile(r"req-\w+")))


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(
            lambda text: chat() | {"messages": [{"role": "system", "content": text}, *chat()["messages"]]}, id="system"
        ),
        pytest.param(
            lambda text: chat() | {"messages": [{"role": "developer", "content": text}, *chat()["messages"]]},
            id="developer",
        ),
        pytest.param(
            lambda text: (
                chat()
                | {"messages": [{"role": "system", "content": [{"type": "text", "text": text}]}, *chat()["messages"]]}
            ),
            id="system in blocks",
        ),
        pytest.param(lambda text: chat(system=text), id="system member"),
        pytest.param(lambda text: chat(system=[{"type": "text", "text": text}]), id="system member in blocks"),
        pytest.param(lambda text: chat(instructions=text), id="instructions"),
        pytest.param(lambda text: chat(input=[{"role": "developer", "content": text}]), id="input"),
    ],
)
def test_ignored_patterns_are_blank_in_system_prompts(build):
    one, other = build("It is 2026-01-02, req-abc."), build("It is 2026-03-04, req-xyz.")
    assert keys_of(one, rules=STAMPS) == keys_of(other, rules=STAMPS)
    assert keys_of(one) != keys_of(other)
    assert keys_of(build("It was 2026-01-02, req-abc."), rules=STAMPS) != keys_of(one, rules=STAMPS)


def test_ignored_patterns_count_in_what_users_say():
    one, other = chat("What happened on 2026-01-02?"), chat("What happened on 2026-03-04?")
    assert keys_of(one, rules=STAMPS) != keys_of(other, rules=STAMPS)


# --- end users


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"user": "u2"}, id="user"),
        pytest.param({"safety_identifier": "u2"}, id="safety_identifier"),
        pytest.param({"metadata": {"user_id": "u2"}}, id="metadata.user_id"),
    ],
)
def test_end_users_share_unless_the_operator_isolates_them(members):
    isolating = KeyRules(secret=b"s" * 32, isolate_by_user=True)
    body = chat(user="u1") | members
    assert keys_of(body) == keys_of(chat(user="u1"))
    assert keys_of(body, rules=isolating) != keys_of(chat(user="u1"), rules=isolating)
    assert keys_of(body, rules=isolating) == keys_of(copy.deepcopy(body), rules=isolating)
