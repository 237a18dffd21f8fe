import copy
import json

import pytest
from support.chats import CHAT, answer, assembled

from cacheproxy.errors import BadRequest
from cacheproxy.model import Reason, Usage
from cacheproxy.wire.dialect import Fresh

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def text(words, **more):
    return {"type": "text", "text": words, **more}


def view(*messages, **members):
    return CHAT.view({"model": "m", "messages": list(messages), **members})


# Reading a request


@pytest.mark.parametrize(
    ("messages", "texts", "content"),
    [
        pytest.param([SYSTEM, USER], ("Hello",), None, id="a string"),
        pytest.param(
            [{"role": "user", "content": "Hey"}, {"role": "assistant", "content": "Hi"}, USER],
            ("Hello",),
            None,
            id="the last of two turns",
        ),
        pytest.param([USER, SYSTEM], ("Hello",), None, id="not the last message"),
        pytest.param(
            [{"role": "user", "name": "ann", "content": [text("a"), text("b", cache_control={"type": "ephemeral"})]}],
            ("a", "b"),
            [text(None), text(None, cache_control={"type": "ephemeral"})],
            id="parts",
        ),
        pytest.param([{"role": "user", "content": ""}], ("",), None, id="an empty string"),
    ],
)
def test_the_last_user_turn_is_read(messages, texts, content):
    body = {"model": "m", "messages": messages, "temperature": 0}
    before = copy.deepcopy(body)
    seen = CHAT.view(body)
    assert seen.texts == texts
    assert seen.exact_only is None
    place = max(place for place, message in enumerate(messages) if message["role"] == "user")
    hollow = copy.deepcopy(before)
    hollow["messages"][place]["content"] = content
    assert seen.skeleton == hollow
    assert body == before


def test_what_is_not_replaced_in_the_skeleton_is_shared_and_not_copied():
    body = {"model": "m", "messages": [SYSTEM, USER], "tools": []}
    skeleton = CHAT.view(body).skeleton
    assert skeleton["messages"][0] is body["messages"][0]
    assert skeleton["tools"] is body["tools"]


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([], id="no messages"),
        pytest.param([SYSTEM], id="no user"),
        pytest.param([{"role": "user", "content": [text("What is this?"), IMAGE]}], id="an image"),
        pytest.param([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], id="audio"),
        pytest.param([{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}], id="a file"),
        pytest.param([{"role": "user", "content": [{"type": "hologram"}]}], id="an unknown part"),
        pytest.param([{"role": "user", "content": []}], id="no parts"),
        pytest.param([{"role": "user", "content": None}], id="null"),
        pytest.param([{"role": "user"}], id="no content"),
    ],
)
def test_a_turn_that_is_not_plain_text_is_exact_only_and_wholly_in_the_skeleton(messages):
    seen = view(*messages)
    assert seen.exact_only is Reason.NOT_PLAIN_TEXT
    assert seen.texts == ()
    assert seen.skeleton == {"model": "m", "messages": messages}


@pytest.mark.parametrize(
    ("messages", "members", "reason"),
    [
        pytest.param([USER, CALLED, RESULT], {}, Reason.TOOL_RESULT, id="a tool result"),
        pytest.param([USER, CALLED], {}, Reason.TOOL_RESULT, id="a tool call"),
        pytest.param([USER, {"role": "function", "name": "f", "content": "1"}], {}, Reason.TOOL_RESULT, id="function"),
        pytest.param(
            [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": ""}}],
            {},
            Reason.TOOL_RESULT,
            id="a function call",
        ),
        pytest.param([USER, CALLED, RESULT, USER], {}, None, id="a tool result before the last user turn"),
        pytest.param([USER, {"role": "assistant", "content": "It is"}], {}, None, id="the start of an answer"),
        pytest.param([USER], {"n": 2}, Reason.SEVERAL_CHOICES, id="n"),
        pytest.param([USER], {"n": 1}, None, id="n is one"),
        pytest.param([USER], {"n": None}, None, id="n is null"),
        pytest.param([USER], {"logprobs": True}, Reason.LOGPROBS, id="logprobs"),
        pytest.param([USER], {"top_logprobs": 2}, Reason.LOGPROBS, id="top_logprobs"),
        pytest.param([USER], {"logprobs": False}, None, id="logprobs is false"),
    ],
)
def test_which_requests_are_exact_only(messages, members, reason):
    seen = view(*messages, **members)
    assert seen.exact_only is reason
    assert seen.texts == ("Hello",)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"store": True}, Reason.STORED_COMPLETION),
        ({"store": False}, None),
        ({"store": None}, None),
        ({"web_search_options": {}}, Reason.SERVER_TOOLS),
        ({"web_search_options": None}, None),
        ({"search_parameters": {"mode": "auto"}}, Reason.SERVER_TOOLS),
        ({"plugins": [{"id": "web"}]}, Reason.SERVER_TOOLS),
        ({"tools": None}, None),
        ({"tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {}}]}, None),
        ({"tools": [{"function": {"name": "f"}}]}, None),
        ({"tools": [{"type": "function"}, {"type": "web_search"}]}, Reason.SERVER_TOOLS),
        ({"tools": [{"type": ["odd"]}]}, Reason.SERVER_TOOLS),
    ],
    ids=json.dumps,
)
def test_which_requests_bypass_the_cache(members, reason):
    assert view(USER, **members).bypass is reason


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "messages must be an array"),
        ({"messages": "Hello"}, "messages must be an array"),
        ({"messages": [USER, "Hello"]}, r"messages\[1\] must be an object"),
        ({"messages": [USER], "model": 4}, "model must be a string"),
        ({"messages": [USER], "stream": "yes"}, "stream must be"),
        ({"messages": [USER], "stream_options": True}, "stream_options must be"),
        ({"messages": [USER], "tools": {}}, "tools must be"),
        ({"messages": [USER], "tools": ["f"]}, r"tools\[0\] must be an object"),
        ({"messages": [{"role": "user", "content": ["Hello"]}]}, r"content\[0\] must be an object"),
        ({"messages": [{"role": "user", "content": [text(1)]}]}, r"content\[0\].text must be a string"),
    ],
    ids=json.dumps,
)
def test_a_wrong_type_is_a_bad_request_that_names_the_member(body, message):
    with pytest.raises(BadRequest, match=message):
        CHAT.view(body)


def test_unknown_roles_and_members_are_none_of_our_business():
    seen = view({"role": "narrator", "content": 7}, {"role": ["odd"]}, USER, seed="x", reasoning={"effort": "low"})
    assert seen.texts == ("Hello",)
    assert (seen.model, seen.stream, seen.asks_usage, seen.retained_upstream) == ("m", False, True, False)


def test_a_stream_without_usage_says_so_and_can_be_made_to_ask():
    assert not view(USER, stream=True).asks_usage
    raw = CHAT.asking_usage(b'{"model":"m", "messages":[], "stream":true}')
    assert raw == b'{"model":"m", "messages":[], "stream":true,"stream_options":{"include_usage":true}}'
    assert CHAT.view(json.loads(raw)).asks_usage


def test_conversations_with_different_tool_results_are_different_requests():
    # BerriAI/litellm 28778: an agent was given the same tool call again and again.
    asked = view(USER)
    first = view(USER, CALLED, RESULT)
    second = view(USER, CALLED, {**RESULT, "content": "43"})
    keys = [json.dumps(seen.skeleton) for seen in (asked, first, second)]
    assert len(set(keys)) == 3
    assert first.exact_only is Reason.TOOL_RESULT


# Reading an answer


@pytest.mark.parametrize(
    ("whole", "storable", "exact_only"),
    [
        pytest.param(answer(), True, False, id="a text"),
        pytest.param(answer(finish="length"), True, True, id="cut by a token limit"),
        pytest.param(answer({"content": None, "tool_calls": [CALL]}, "tool_calls"), True, True, id="a tool call"),
        pytest.param(answer({"tool_calls": [CALL]}), True, True, id="a tool call with the finish reason stop"),
        pytest.param(answer({"function_call": {"name": "f"}}, "function_call"), True, True, id="a function call"),
        pytest.param(answer({"audio": {"id": "a"}}), True, True, id="audio"),
        pytest.param(answer({"tool_calls": []}), True, False, id="an empty list of tool calls"),
        pytest.param(answer(finish="content_filter"), False, False, id="content filter"),
        pytest.param(answer(finish="error"), False, False, id="an unknown finish reason"),
        pytest.param(answer(finish=None), False, False, id="no finish reason"),
        pytest.param(answer(finish=["stop"]), False, False, id="a finish reason that is none"),
        pytest.param(answer({"content": None, "refusal": "No."}), False, False, id="a refusal"),
        pytest.param(answer(error={"message": "x"}), False, False, id="an error beside the choices"),
        pytest.param(answer(choices=[]), False, False, id="no choices"),
    ],
)
def test_what_may_be_stored_and_for_whom(whole, storable, exact_only):
    seen = CHAT.read(whole)
    assert (seen.storable, seen.exact_only) == (storable, exact_only)


def test_one_choice_that_was_filtered_spoils_the_answer():
    whole = answer()
    whole["choices"].append({**whole["choices"][0], "index": 1, "finish_reason": "content_filter"})
    assert not CHAT.read(whole).storable


def test_text_model_and_usage_are_read():
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    seen = CHAT.read(answer(usage=usage))
    assert (seen.text, seen.model, seen.usage) == ("Hi", "m", Usage(9, 2, 4))
    assert CHAT.read(answer({"content": [text("a"), {"type": "odd"}, text("b")]})).text == "ab"
    assert CHAT.read(answer({"content": None})).text == ""
    assert CHAT.read(answer()).usage is None


@pytest.mark.parametrize(
    "whole", [{}, {"choices": None}, {"choices": [1]}, {"choices": [{}]}, {"choices": [{"message": 1}]}]
)
def test_what_is_no_answer_is_a_value_error(whole):
    with pytest.raises(ValueError, match=r"without"):
        CHAT.read(whole)


# Telling it anew, and errors


def test_a_refreshed_answer_is_a_new_one():
    whole = answer(usage={"prompt_tokens": 7})
    new = CHAT.refresh(whole, Fresh("tok3n", 9), zero_usage=True)
    assert new == {**whole, "id": "chatcmpl-tok3n", "created": 9, "usage": {"prompt_tokens": 0}}
    assert new["choices"] is whole["choices"]


def test_errors_have_openais_shape_whole_and_in_mid_stream():
    body = CHAT.error(503, "cacheproxy_overloaded", "try again")
    assert body["error"] == {
        "message": "try again",
        "type": "api_error",
        "param": None,
        "code": "cacheproxy_overloaded",
    }
    event = CHAT.error_event(503, "cacheproxy_overloaded", "try again")
    assert json.loads(event.data) == body
    assert assembled([event]).failed
