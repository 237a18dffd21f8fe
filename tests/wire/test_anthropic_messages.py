import copy

import pytest

from cacheproxy.errors import BadRequest
from cacheproxy.model import Reason, Usage
from cacheproxy.wire.anthropic_messages import AnthropicMessages
from cacheproxy.wire.dialect import Fresh

DIALECT = AnthropicMessages()


def request(*messages, **members):
    return {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": list(messages), **members}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def text(words):
    return {"type": "text", "text": words}


HELLO = user(text("hello"))
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"}
IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}}


class TestView:
    def test_a_plain_string_is_one_text(self):
        body = request({"role": "user", "content": "hello"}, system="be brief", stream=True)
        before = copy.deepcopy(body)
        view = DIALECT.view(body)
        assert body == before
        assert (view.model, view.stream, view.texts) == ("claude-sonnet-4-5", True, ("hello",))
        assert view.skeleton == {**body, "messages": [{"role": "user", "content": None}]}
        assert (view.bypass, view.exact_only, view.asks_usage, view.retained_upstream) == (None, None, True, False)

    def test_each_text_block_is_a_text_and_keeps_its_other_members(self):
        cached = {**text("context"), "cache_control": {"type": "ephemeral"}}
        body = request(user(text("before")), assistant(text("yes?")), user(cached, text("question")))
        before = copy.deepcopy(body)
        view = DIALECT.view(body)
        assert body == before
        assert view.texts == ("context", "question")
        assert view.skeleton["messages"][:2] == body["messages"][:2]
        assert view.skeleton["messages"][2]["content"] == [{**cached, "text": None}, text(None)]

    def test_what_does_not_change_is_shared_not_copied(self):
        body = request(user(text("before")), assistant(text("yes?")), HELLO, tools=[{"name": "look"}])
        skeleton = DIALECT.view(body).skeleton
        assert skeleton["messages"][0] is body["messages"][0]
        assert skeleton["tools"] is body["tools"]

    def test_a_prefilled_answer_belongs_to_the_skeleton(self):
        view = DIALECT.view(request(HELLO, assistant(text("The answer is ("))))
        assert view.texts == ("hello",)
        assert view.skeleton["messages"][1] == assistant(text("The answer is ("))

    @pytest.mark.parametrize(
        ("messages", "reason"),
        [
            pytest.param([user(RESULT)], Reason.TOOL_RESULT, id="tool-result"),
            pytest.param([user(RESULT, text("and now?"))], Reason.TOOL_RESULT, id="tool-result-and-text"),
            pytest.param([user(text("see"), RESULT)], Reason.TOOL_RESULT, id="text-and-tool-result"),
            pytest.param([HELLO, assistant(CALL)], Reason.TOOL_RESULT, id="tool-use-after"),
            pytest.param([user(text("what is this?"), IMAGE)], Reason.NOT_PLAIN_TEXT, id="image"),
            pytest.param([user({"type": "document"})], Reason.NOT_PLAIN_TEXT, id="document"),
            pytest.param([user()], Reason.NOT_PLAIN_TEXT, id="no-blocks"),
            pytest.param([assistant(text("hi"))], Reason.NOT_PLAIN_TEXT, id="no-user-turn"),
            pytest.param([], Reason.NOT_PLAIN_TEXT, id="no-messages"),
        ],
    )
    def test_any_other_last_turn_is_exact_only(self, messages, reason):
        body = request(*messages)
        view = DIALECT.view(body)
        assert (view.texts, view.skeleton, view.exact_only) == ((), body, reason)
        assert view.bypass is None

    def test_tools_and_images_before_the_last_turn_are_part_of_the_skeleton(self):
        view = DIALECT.view(request(user(IMAGE), assistant(CALL), user(RESULT), assistant(text("42")), HELLO))
        assert (view.texts, view.exact_only) == (("hello",), None)

    @pytest.mark.parametrize(
        ("members", "reason"),
        [
            pytest.param({"tools": [{"type": "web_search_20250305"}]}, Reason.SERVER_TOOLS, id="web-search"),
            pytest.param({"tools": [{"type": "web_fetch_20250910"}]}, Reason.SERVER_TOOLS, id="web-fetch"),
            pytest.param({"tools": [{"type": "code_execution_20250825"}]}, Reason.SERVER_TOOLS, id="code"),
            pytest.param({"tools": [{"type": "bash_code_execution"}]}, Reason.SERVER_TOOLS, id="looks-like-bash"),
            pytest.param({"tools": [{"type": "mcp_toolset"}]}, Reason.SERVER_TOOLS, id="mcp-toolset"),
            pytest.param({"tools": [{"type": "not_known_yet"}]}, Reason.SERVER_TOOLS, id="unknown"),
            pytest.param({"tools": [{"type": 7}]}, Reason.SERVER_TOOLS, id="type-no-string"),
            pytest.param({"mcp_servers": [{"type": "url"}]}, Reason.SERVER_TOOLS, id="mcp-servers"),
            pytest.param({"container": "container_1"}, Reason.SERVER_TOOLS, id="container"),
            pytest.param({"thread": {"type": "create"}}, Reason.CONVERSATION, id="thread"),
            pytest.param({"tools": [{"name": "look", "input_schema": {}}]}, None, id="untyped"),
            pytest.param({"tools": [{"type": "custom", "name": "look"}]}, None, id="custom"),
            pytest.param({"tools": [{"type": "bash_20250124"}]}, None, id="bash"),
            pytest.param({"tools": [{"type": "text_editor_20250728"}]}, None, id="text-editor"),
            pytest.param({"tools": [{"type": "computer_20250124"}]}, None, id="computer"),
            pytest.param({"tools": [{"type": "memory_20250818"}]}, None, id="memory"),
            pytest.param({"tools": None, "mcp_servers": [], "container": None}, None, id="nulls"),
        ],
    )
    def test_only_what_the_request_alone_decides_is_cached(self, members, reason):
        assert DIALECT.view(request(HELLO, **members)).bypass is reason

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            pytest.param({"model": "m"}, "messages must be a list", id="no-messages"),
            pytest.param(request("hello"), r"messages\[0\] must be an object", id="message"),
            pytest.param(request({"role": "user"}), r"messages\[0\]\.content must be", id="no-content"),
            pytest.param(request(user("hello")), r"messages\[0\]\.content\[0\] must be an object", id="block"),
            pytest.param(request(user(text(None))), r"content\[0\]\.text must be a string", id="text"),
            pytest.param(request(HELLO, model=4), "model must be a string", id="model"),
            pytest.param(request(HELLO, stream="true"), "stream must be true or false", id="stream"),
            pytest.param(request(HELLO, tools={}), "tools must be a list", id="tools"),
            pytest.param(request(HELLO, tools=["look"]), r"tools\[0\] must be an object", id="tool"),
        ],
    )
    def test_a_member_of_the_wrong_type_is_named(self, body, message):
        with pytest.raises(BadRequest, match=message):
            DIALECT.view(body)


def answer(*blocks, **members):
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(blocks),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 200,
            "cache_read_input_tokens": 3000,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 40,
            "service_tier": "standard",
        },
        **members,
    }


class TestRead:
    def test_all_input_counts_as_input(self):
        read = DIALECT.read(answer(text("Hi"), text(" there")))
        assert read.usage == Usage(input_tokens=3210, output_tokens=40, cache_read_tokens=3000, cache_write_tokens=200)
        assert (read.model, read.text) == ("claude-sonnet-4-5-20250929", "Hi there")
        assert (read.storable, read.exact_only) == (True, False)

    def test_usage_may_be_missing(self):
        assert DIALECT.read(answer(usage=None)).usage is None

    def test_thinking_is_not_the_answers_text(self):
        assert DIALECT.read(answer({"type": "thinking", "thinking": "hm", "signature": "s"}, text("yes"))).text == "yes"

    @pytest.mark.parametrize(
        ("members", "storable", "exact_only"),
        [
            pytest.param({"stop_reason": "end_turn"}, True, False, id="end-turn"),
            pytest.param({"stop_reason": "stop_sequence"}, True, False, id="stop-sequence"),
            pytest.param({"stop_reason": "max_tokens"}, True, True, id="max-tokens"),
            pytest.param({"stop_reason": "tool_use"}, True, True, id="tool-use"),
            pytest.param({"content": [CALL]}, True, True, id="tool-block"),
            pytest.param({"stop_reason": "refusal"}, False, False, id="refusal"),
            pytest.param({"stop_reason": "pause_turn"}, False, False, id="pause"),
            pytest.param({"stop_reason": "model_context_window_exceeded"}, False, False, id="window"),
            pytest.param({"stop_reason": None}, False, False, id="unfinished"),
            pytest.param({"stop_reason": "new_one"}, False, False, id="unknown-reason"),
            pytest.param({"type": "error"}, False, False, id="no-message"),
            pytest.param({"content": [{"type": "server_tool_use"}]}, False, False, id="server-tool"),
            pytest.param({"content": [{"type": "web_search_tool_result"}]}, False, False, id="search-result"),
        ],
    )
    def test_natural_finishes_alone_are_stored(self, members, storable, exact_only):
        read = DIALECT.read(answer(**members))
        assert (read.storable, read.exact_only) == (storable, exact_only)

    @pytest.mark.parametrize("body", [{}, {"type": "error", "error": {}}, {"content": "text"}])
    def test_what_is_no_message_is_refused(self, body):
        with pytest.raises(ValueError, match="content blocks"):
            DIALECT.read(body)


class TestRefresh:
    FRESH = Fresh("abc123", 1_700_000_000)

    @pytest.mark.parametrize(
        ("known", "renewed"),
        [
            ("msg_01XFDUDYJgAACzvnptvVoYEL", "msg_abc123"),
            ("msg_bdrk_01XFDUDY", "msg_bdrk_abc123"),
            ("42", "msg_abc123"),
            (None, "msg_abc123"),
        ],
    )
    def test_the_id_is_new_and_tells_the_provider(self, known, renewed):
        before = answer(text("hi"), id=known)
        kept = copy.deepcopy(before)
        assert DIALECT.refresh(before, self.FRESH) == {**kept, "id": renewed}
        assert before == kept

    def test_the_usage_can_be_zeroed(self):
        zeroed = DIALECT.refresh(answer(), self.FRESH, zero_usage=True)["usage"]
        assert zeroed == {
            "input_tokens": 0,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 0,
            "service_tier": "standard",
        }

    def test_no_usage_stays_no_usage(self):
        assert "usage" not in DIALECT.refresh({"id": "msg_1"}, self.FRESH, zero_usage=True)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_have_the_apis_types(status, kind):
    body = DIALECT.error(status, "cacheproxy_x", "why")
    assert body == {"type": "error", "error": {"type": kind, "message": "why", "code": "cacheproxy_x"}}


def test_an_error_in_mid_stream_fails_it():
    event = DIALECT.error_event(502, "cacheproxy_upstream_unreachable", "gone")
    assert event.event == "error"
    assembler = DIALECT.assembler()
    assembler.feed(event)
    assert assembler.failed


def test_the_usage_needs_no_asking():
    raw = b'{"stream": true}'
    assert DIALECT.asking_usage(raw) is raw
