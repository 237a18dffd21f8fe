import copy

import pytest

from cacheproxy.errors import BadRequest
from cacheproxy.model import Reason, Usage
from cacheproxy.wire.dialect import Fresh
from cacheproxy.wire.openai_responses import OpenAIResponses

DIALECT = OpenAIResponses()


def request(given, **members):
    return {"model": "gpt-5-mini", "input": given, "store": False, **members}


def user(*parts):
    return {"role": "user", "content": list(parts)}


def text(words):
    return {"type": "input_text", "text": words}


HELLO = user(text("hello"))
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}
CALL = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "42"}


class TestView:
    def test_a_plain_string_is_one_text(self):
        body = request("hello", instructions="be brief", stream=True)
        before = copy.deepcopy(body)
        view = DIALECT.view(body)
        assert body == before
        assert (view.model, view.stream, view.texts) == ("gpt-5-mini", True, ("hello",))
        assert view.skeleton == {**body, "input": None}
        assert (view.bypass, view.exact_only, view.asks_usage, view.retained_upstream) == (None, None, True, False)

    @pytest.mark.parametrize(
        ("turn", "texts", "hollow"),
        [
            ({"role": "user", "content": "a"}, ("a",), {"role": "user", "content": None}),
            (
                {"type": "message", "role": "user", "content": "a"},
                ("a",),
                {"type": "message", "role": "user", "content": None},
            ),
            (user(text("a"), text("b")), ("a", "b"), user(text(None), text(None))),
        ],
        ids=["string", "typed", "parts"],
    )
    def test_the_last_user_message_is_lifted_out(self, turn, texts, hollow):
        body = request([HELLO, SAID, turn])
        before = copy.deepcopy(body)
        view = DIALECT.view(body)
        assert body == before
        assert view.texts == texts
        assert view.skeleton == {**body, "input": [HELLO, SAID, hollow]}
        assert view.skeleton["input"][0] is HELLO
        assert view.exact_only is None

    def test_talk_after_the_last_user_message_belongs_to_the_skeleton(self):
        view = DIALECT.view(request([HELLO, THOUGHT, SAID, {"role": "developer", "content": "be brief"}]))
        assert (view.texts, view.exact_only) == (("hello",), None)

    @pytest.mark.parametrize(
        ("items", "reason"),
        [
            pytest.param([HELLO, CALL, RESULT], Reason.TOOL_RESULT, id="function-result"),
            pytest.param([HELLO, CALL], Reason.TOOL_RESULT, id="function-call"),
            pytest.param([HELLO, {"type": "custom_tool_call_output"}], Reason.TOOL_RESULT, id="custom-result"),
            pytest.param([HELLO, {"type": "computer_call_output"}], Reason.TOOL_RESULT, id="computer-result"),
            pytest.param([HELLO, RESULT, SAID], Reason.TOOL_RESULT, id="result-then-talk"),
            pytest.param([user(text("see"), {"type": "input_image"})], Reason.NOT_PLAIN_TEXT, id="image"),
            pytest.param([user({"type": "input_file"})], Reason.NOT_PLAIN_TEXT, id="file"),
            pytest.param([SAID], Reason.NOT_PLAIN_TEXT, id="no-user-turn"),
            pytest.param([], Reason.NOT_PLAIN_TEXT, id="empty"),
            pytest.param(None, Reason.NOT_PLAIN_TEXT, id="none"),
        ],
    )
    def test_any_other_last_turn_is_exact_only(self, items, reason):
        body = request(items)
        view = DIALECT.view(body)
        assert (view.texts, view.skeleton, view.exact_only, view.bypass) == ((), body, reason, None)

    def test_tools_before_the_last_turn_are_part_of_the_skeleton(self):
        view = DIALECT.view(request([HELLO, CALL, RESULT, SAID, HELLO]))
        assert (view.texts, view.exact_only) == (("hello",), None)

    @pytest.mark.parametrize("members", [{}, {"store": True}, {"store": None}], ids=["absent", "true", "null"])
    def test_a_response_that_the_provider_keeps_is_exact_only(self, members):
        view = DIALECT.view({"model": "m", "input": "hello", **members})
        assert (view.retained_upstream, view.exact_only) == (True, Reason.RETAINED_UPSTREAM)

    @pytest.mark.parametrize(
        "members", [{"top_logprobs": 2}, {"include": ["message.output_text.logprobs"]}], ids=["top", "include"]
    )
    def test_logprobs_are_exact_only(self, members):
        assert DIALECT.view(request("hello", **members)).exact_only is Reason.LOGPROBS
        assert DIALECT.view(request("hello", top_logprobs=0, include=None)).exact_only is None

    @pytest.mark.parametrize(
        ("members", "reason"),
        [
            pytest.param({"previous_response_id": "resp_1"}, Reason.PREVIOUS_RESPONSE, id="previous"),
            pytest.param({"conversation": {"id": "conv_1"}}, Reason.CONVERSATION, id="conversation"),
            pytest.param({"background": True}, Reason.BACKGROUND, id="background"),
            pytest.param({"prompt": {"id": "pmpt_1"}}, Reason.STORED_PROMPT, id="stored-prompt"),
            pytest.param({"prompt_cache_options": {"prewarm": True}}, Reason.NOT_CACHEABLE, id="prewarm"),
            pytest.param(
                {"input": [{"type": "item_reference", "id": "msg_1"}, HELLO]}, Reason.CONVERSATION, id="reference"
            ),
            pytest.param({"input": [{"id": "msg_1"}, HELLO]}, Reason.CONVERSATION, id="untyped-reference"),
            pytest.param(
                {"input": [{"type": "additional_tools", "tools": [{"type": "mcp"}]}, HELLO]},
                Reason.SERVER_TOOLS,
                id="additional-tools",
            ),
            pytest.param({"background": False, "conversation": None, "prompt": None}, None, id="nulls"),
        ],
    )
    def test_only_what_the_request_alone_decides_is_cached(self, members, reason):
        assert DIALECT.view({**request("hello"), **members}).bypass is reason

    @pytest.mark.parametrize(
        ("tool", "reason"),
        [
            ({"type": "web_search"}, Reason.SERVER_TOOLS),
            ({"type": "web_search_preview_2025_03_11"}, Reason.SERVER_TOOLS),
            ({"type": "file_search"}, Reason.SERVER_TOOLS),
            ({"type": "code_interpreter"}, Reason.SERVER_TOOLS),
            ({"type": "image_generation"}, Reason.SERVER_TOOLS),
            ({"type": "mcp"}, Reason.SERVER_TOOLS),
            ({"type": "programmatic_tool_calling"}, Reason.SERVER_TOOLS),
            ({"type": "shell", "environment": {"type": "container_auto"}}, Reason.SERVER_TOOLS),
            ({"type": "tool_search"}, Reason.SERVER_TOOLS),
            ({"type": "not_known_yet"}, Reason.SERVER_TOOLS),
            ({"type": "function", "name": "look"}, None),
            ({"name": "look"}, None),
            ({"type": "custom", "name": "look"}, None),
            ({"type": "namespace", "name": "crm", "tools": []}, None),
            ({"type": "computer_use_preview"}, None),
            ({"type": "local_shell"}, None),
            ({"type": "shell", "environment": {"type": "local"}}, None),
            ({"type": "shell"}, None),
            ({"type": "apply_patch"}, None),
            ({"type": "tool_search", "execution": "client"}, None),
        ],
        ids=str,
    )
    def test_tools_that_the_provider_runs_bypass(self, tool, reason):
        assert DIALECT.view(request("hello", tools=[tool])).bypass is reason

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            pytest.param(request({}), "input must be a string or a list of items", id="input"),
            pytest.param(request(["hello"]), r"input\[0\] must be an object", id="item"),
            pytest.param(request([{"role": "user"}]), r"input\[0\]\.content must be", id="no-content"),
            pytest.param(request([user("hello")]), r"input\[0\]\.content\[0\] must be an object", id="part"),
            pytest.param(request([user(text(1))]), r"content\[0\]\.text must be a string", id="text"),
            pytest.param(request("hello", model=[]), "model must be a string", id="model"),
            pytest.param(request("hello", stream=1), "stream must be true or false", id="stream"),
            pytest.param(request("hello", store="no"), "store must be true or false", id="store"),
            pytest.param(request("hello", tools="look"), "tools must be a list", id="tools"),
            pytest.param(request("hello", tools=["look"]), r"tools\[0\] must be an object", id="tool"),
            pytest.param(request("hello", include={}), "include must be a list", id="include"),
        ],
    )
    def test_a_member_of_the_wrong_type_is_named(self, body, message):
        with pytest.raises(BadRequest, match=message):
            DIALECT.view(body)


def said(*parts):
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": list(parts)}


def output_text(words):
    return {"type": "output_text", "text": words, "annotations": []}


def response(*output, **members):
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_741_290_958,
        "completed_at": 1_741_290_961,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "gpt-5-mini-2025-08-07",
        "output": list(output),
        "usage": {
            "input_tokens": 61,
            "input_tokens_details": {"cached_tokens": 32, "cache_write_tokens": 8},
            "output_tokens": 154,
            "output_tokens_details": {"reasoning_tokens": 128},
            "total_tokens": 215,
        },
        **members,
    }


class TestRead:
    def test_texts_are_joined_and_tokens_counted(self):
        read = DIALECT.read(response(THOUGHT, said(output_text("Hi"), output_text(" there"))))
        assert read.usage == Usage(input_tokens=61, output_tokens=154, cache_read_tokens=32, cache_write_tokens=8)
        assert (read.model, read.text) == ("gpt-5-mini-2025-08-07", "Hi there")
        assert (read.storable, read.exact_only) == (True, False)

    def test_usage_may_be_missing(self):
        assert DIALECT.read(response(usage=None)).usage is None

    @pytest.mark.parametrize(
        ("members", "storable", "exact_only"),
        [
            pytest.param(
                {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, True, True, id="cut"
            ),
            pytest.param(
                {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, False, True, id="filter"
            ),
            pytest.param({"status": "incomplete"}, False, True, id="cut-for-no-reason"),
            pytest.param({"status": "failed"}, False, False, id="failed"),
            pytest.param({"status": "cancelled"}, False, False, id="cancelled"),
            pytest.param({"status": "in_progress"}, False, False, id="in-progress"),
            pytest.param({"status": "queued"}, False, False, id="queued"),
            pytest.param({"status": None}, False, False, id="no-status"),
            pytest.param({"error": {"code": "server_error"}}, False, False, id="error"),
            pytest.param({"output": [said({"type": "refusal", "refusal": "no"})]}, False, False, id="refusal"),
            pytest.param({"output": [CALL]}, True, True, id="function-call"),
            pytest.param({"output": [{"type": "custom_tool_call"}]}, True, True, id="custom-call"),
            pytest.param({"output": [{"type": "computer_call"}]}, True, True, id="computer-call"),
            pytest.param({"output": [{"type": "web_search_call"}]}, False, True, id="web-search"),
            pytest.param({"output": [{"type": "mcp_call"}]}, False, True, id="mcp"),
            pytest.param({"output": [{"type": "shell_call_output"}]}, False, True, id="hosted-shell"),
            pytest.param({"moderation": {"input": {}}}, True, True, id="moderation"),
        ],
    )
    def test_natural_finishes_alone_are_stored(self, members, storable, exact_only):
        read = DIALECT.read(response(**members))
        assert (read.storable, read.exact_only) == (storable, exact_only)

    @pytest.mark.parametrize("body", [{}, {"error": {"message": "no"}}, {"output": None}])
    def test_what_is_no_response_is_refused(self, body):
        with pytest.raises(ValueError, match="output items"):
            DIALECT.read(body)


class TestRefresh:
    FRESH = Fresh("abc123", 1_800_000_000)

    def test_id_and_times_are_new_and_items_stay(self):
        before = response(said(output_text("hi")))
        kept = copy.deepcopy(before)
        assert DIALECT.refresh(before, self.FRESH) == {
            **kept,
            "id": "resp_abc123",
            "created_at": 1_800_000_000,
            "completed_at": 1_800_000_003,
        }
        assert before == kept

    @pytest.mark.parametrize("members", [{"completed_at": None}, {"completed_at": None, "created_at": None}])
    def test_a_response_that_never_completed_stays_so(self, members):
        assert DIALECT.refresh(response(**members), self.FRESH)["completed_at"] is None

    def test_a_completion_before_the_creation_is_not_carried_over(self):
        assert DIALECT.refresh(response(completed_at=5), self.FRESH)["completed_at"] == 1_800_000_000
        assert "completed_at" not in DIALECT.refresh({"id": "resp_1"}, self.FRESH)

    def test_a_hit_repeats_its_own_callers_metadata_and_not_the_first_ones(self):
        stored = response(metadata={"user": "first"}, user="first", prompt_cache_key="k1")
        asked = {"metadata": {"user": "second"}, "user": "second"}
        renewed = DIALECT.refresh(stored, Fresh("abc123", 1_800_000_000, asked))
        assert (renewed["metadata"], renewed["user"], renewed["prompt_cache_key"]) == (*asked.values(), None)
        assert DIALECT.refresh(stored, self.FRESH)["metadata"] == {}
        assert "safety_identifier" not in DIALECT.refresh({"id": "resp_1"}, self.FRESH)

    def test_the_usage_can_be_zeroed(self):
        assert DIALECT.refresh(response(), self.FRESH, zero_usage=True)["usage"] == {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        }
        assert DIALECT.refresh(response(usage=None), self.FRESH, zero_usage=True)["usage"] is None


def test_errors_have_openais_shape():
    assert DIALECT.error(429, "cacheproxy_x", "why") == {
        "error": {"message": "why", "type": "rate_limit_error", "param": None, "code": "cacheproxy_x"}
    }


def test_an_error_in_mid_stream_fails_it():
    event = DIALECT.error_event(502, "cacheproxy_upstream_unreachable", "gone")
    assert event.event == "error"
    assembler = DIALECT.assembler()
    assembler.feed(event)
    assert assembler.failed


def test_the_usage_needs_no_asking():
    raw = b'{"stream": true}'
    assert DIALECT.asking_usage(raw) is raw
