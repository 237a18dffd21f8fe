"""The simulated streams against the proxy's own reading of them, which was written apart from them."""

from __future__ import annotations

import pytest

from cacheproxy.lab.sim_chat import CHAT, COMPLETIONS
from cacheproxy.lab.sim_messages import MESSAGES
from cacheproxy.lab.sim_responses import RESPONSES
from cacheproxy.upstream.simulated import generate
from cacheproxy.wire.dialect import Fresh
from cacheproxy.wire.dialects import DIALECTS
from cacheproxy.wire.sse import SseParser

APIS = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TEXT, CALLS = "Where is my card?", "get_weather and get_time"
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def messages(text):
    return [{"role": "user", "content": text}]


def tools(write):
    return [write(name) for name in ("get_weather", "get_time")]


CHAT_TOOLS = tools(lambda name: {"type": "function", "function": {"name": name, "parameters": SCHEMA}})
CASES = {
    "chat": ("/v1/chat/completions", USAGE | {"messages": messages(TEXT)}),
    "chat, two choices": ("/v1/chat/completions", USAGE | {"messages": messages(TEXT), "n": 2}),
    "chat, cut": ("/v1/chat/completions", USAGE | {"messages": messages(TEXT), "max_tokens": 3}),
    "chat, tools": ("/v1/chat/completions", USAGE | {"messages": messages(CALLS), "tools": CHAT_TOOLS}),
    "completions": ("/v1/completions", USAGE | {"prompt": ["a", "b"]}),
    "responses": ("/v1/responses", {"input": TEXT}),
    "responses, cut": ("/v1/responses", {"input": TEXT, "max_output_tokens": 3}),
    "responses, tools": (
        "/v1/responses",
        {"input": CALLS, "tools": tools(lambda name: {"type": "function", "name": name, "parameters": SCHEMA})},
    ),
    "messages": ("/v1/messages", {"messages": messages(TEXT), "max_tokens": 900}),
    "messages, thinking": (
        "/v1/messages",
        {"messages": messages(TEXT), "max_tokens": 900, "thinking": {"type": "enabled", "budget_tokens": 1024}},
    ),
    "messages, tools": (
        "/v1/messages",
        {
            "messages": messages(CALLS),
            "max_tokens": 900,
            "tools": tools(lambda name: {"name": name, "input_schema": SCHEMA}),
        },
    ),
}


@pytest.mark.parametrize(("path", "request_body"), CASES.values(), ids=CASES)
def test_a_stream_put_together_is_the_whole_answer(path, request_body):
    api, dialect, body = APIS[path], DIALECTS[path], {"model": "m"} | request_body
    asked = api.read(body)
    said = [generate(prompt, {}, choice=choice) for prompt in asked.prompts for choice in range(asked.choices)]
    told = (body, said, 7, Fresh("abc", 1_700_000_000))

    parser, assembler = SseParser(), dialect.assembler()
    tokens = 0
    for event in api.stream(*told):
        tokens += event.tokens
        for parsed in parser.feed(event.data):
            assembler.feed(parsed)
    whole = api.whole(*told)
    if path == "/v1/chat/completions":  # the stream has no place for them
        for choice in whole["choices"]:
            del choice["message"]["annotations"]
    assert assembler.answer() == whole
    generated = sum(generation.output_tokens for generation in said)
    assert 0 < tokens <= generated
    usage = dialect.read(whole).usage
    assert (usage.input_tokens, usage.output_tokens) == (7, generated)
