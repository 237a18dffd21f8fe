"""How requests are read. What is answered: test_server.py."""

from __future__ import annotations

import pytest

from cacheproxy.backend.openai_api import Chat, Completions
from cacheproxy.errors import BadRequest

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def read(prompter):
    async def read(api=None, **body):
        if api is None:
            body = {"messages": HI, **body}
        return await (api or Chat()).read({"model": "m", **body}, prompter, lambda: 77)

    return read


async def test_left_out_members_have_their_defaults(read):
    wanted = await read()
    (choice,) = wanted.choices
    assert (choice.ask.sampling.temperature, choice.ask.sampling.top_p, choice.ask.sampling.seed) == (1.0, 1.0, 77)
    assert choice.ask.max_tokens == 512 - len(choice.prompt.tokens)
    assert (wanted.stream, wanted.with_usage, wanted.stops, choice.ask.logprobs) == (False, True, (), None)


async def test_each_choice_has_a_seed_of_its_own(read):
    wanted = await read(n=3, seed=-5)
    assert [choice.ask.sampling.seed for choice in wanted.choices] == [-5, -4, -3]
    assert wanted.input_tokens == len(wanted.choices[0].prompt.tokens)


async def test_everything_that_is_supported_is_read(read):
    wanted = await read(
        temperature=0.5, top_p=0.9, top_k=7, stop=["a", "b"], stream=True, logprobs=True, top_logprobs=4,
        max_completion_tokens=9, stream_options={"include_usage": False}, user="u", metadata={}, store=False,
        frequency_penalty=0, presence_penalty=None, response_format={"type": "text"},
    )  # fmt: skip
    ask = wanted.choices[0].ask
    assert (ask.sampling.temperature, ask.sampling.top_p, ask.sampling.top_k) == (0.5, 0.9, 7)
    assert (ask.logprobs, ask.max_tokens) == (4, 9)
    assert (wanted.stops, wanted.stream, wanted.with_usage) == (("a", "b"), True, False)


async def test_developers_are_systems_and_parts_are_texts(read):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    wanted = await read(messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
    assert "<|im_start|>system\nBe brief." in wanted.choices[0].prompt.text
    assert "user\na\nb<|im_end|>" in wanted.choices[0].prompt.text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"logprobs": 3}, "logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"n": 129}, "'n'"),
        ({"tools": [{"type": "custom"}]}, "'tools'"),
        ({"messages": [{"role": "user"}]}, "no content"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"type": "custom"}]}]}, "not one of a function"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "are not JSON",
        ),
    ],
)
async def test_what_is_wrong_is_named(read, body, words):
    with pytest.raises(BadRequest, match=words):
        await read(**body)


async def test_completions_give_sixteen_tokens_unless_told_otherwise(read):
    assert (await read(Completions(), prompt="x")).choices[0].ask.max_tokens == 16
    assert len((await read(Completions(), prompt=["x", "y"], n=2)).choices) == 4


@pytest.mark.parametrize("prompt", [None, [], [1.5], [["a"]], {"a": 1}])
async def test_prompts_that_are_none_are_refused(read, prompt):
    with pytest.raises(BadRequest):
        await read(Completions(), prompt=prompt)


async def test_best_of_more_than_n_is_refused(read):
    await read(Completions(), prompt="x", n=2, best_of=2)
    with pytest.raises(BadRequest, match="best_of"):
        await read(Completions(), prompt="x", best_of=2)
