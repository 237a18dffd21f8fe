"""How requests are read, and reasoning is told. What is answered otherwise: test_server.py."""

from __future__ import annotations

import pytest

from cacheproxy.backend.anthropic_api import Messages
from cacheproxy.backend.speech import End, EndReason, Said
from cacheproxy.errors import BadRequest
from cacheproxy.wire.dialect import Fresh

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def read(prompter):
    async def read(**body):
        return await Messages().read({"model": "m", "messages": HI, "max_tokens": 9, **body}, prompter, lambda: 77)

    return read


async def test_the_system_prompt_comes_first(read):
    for system in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
        wanted = await read(system=system)
        assert wanted.choices[0].prompt.text.startswith("<|im_start|>system\nBe brief.<|im_end|>")


async def test_everything_that_is_supported_is_read(read):
    wanted = await read(
        temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["a"], stream=True, metadata={"user_id": "u"}
    )
    sampling = wanted.choices[0].ask.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.5, 0.9, 7, 77)
    assert (wanted.stops, wanted.stream, wanted.choices[0].ask.max_tokens) == (("a",), True, 9)


async def test_earlier_thoughts_are_left_out(read):
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    turns = [*HI, {"role": "assistant", "content": [thought, {"type": "text", "text": "Ho"}]}, *HI]
    text = (await read(messages=turns)).choices[0].prompt.text
    assert "hm" not in text
    assert "assistant\nHo<|im_end|>" in text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": [{"role": "system", "content": "x"}]}, "'system'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "no text"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use", "name": "f", "input": {}}]}]}, "no text"),
        ({"tool_choice": {"type": "any"}}, "'tool_choice'"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "'tools'"),
        ({"mcp_servers": []}, "'mcp_servers'"),
    ],
)
async def test_what_cannot_be_done_is_named(read, body, words):
    with pytest.raises(BadRequest, match=words):
        await read(**body)


async def test_reasoning_is_a_block_in_front_of_the_text(read, prompter):
    api = Messages()
    writer = api.writer({"model": "m"}, await read(), prompter, Fresh("t", 1))
    assembler = api.dialect.assembler()
    parts = [Said(reasoning="Let "), Said(reasoning="me."), Said(text="Ho")]
    events = [*writer.begin(), *(event for part in parts for event in writer.say(0, part))]
    events += [*writer.end(0, End(EndReason.STOP, 4)), *writer.finish()]
    for event in events:
        assembler.feed(event)
    thought, text = assembler.answer()["content"]
    assert (thought["type"], thought["thinking"], text["text"]) == ("thinking", "Let me.", "Ho")
