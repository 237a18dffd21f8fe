from __future__ import annotations

import pytest

from cacheproxy.backend.prompts import Prompter
from cacheproxy.errors import BadRequest, ConfigError

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


async def test_a_conversation_becomes_what_the_template_makes_of_it(prompter, tokenizer):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    prompt = await prompter.chat(messages)
    expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(prompt.tokens) == prompt.text == expected


async def test_tools_are_in_the_prompt(prompter):
    assert '"weather"' in (await prompter.chat([{"role": "user", "content": "Hi"}], tools=[TOOL])).text


async def test_what_the_template_does_not_accept_is_told(prompter):
    with pytest.raises(BadRequest, match="no such role"):
        await prompter.chat([{"role": "narrator", "content": "Hi"}])


async def test_a_text_stays_a_text(prompter, tokenizer):
    prompt = await prompter.text("Once upon")
    assert tokenizer.decode(prompt.tokens) == "Once upon"
    assert prompt.text is None


@pytest.mark.parametrize("tokens", [[], [-1], [420]])
def test_tokens_that_there_are_not_are_refused(prompter, tokens):
    with pytest.raises(BadRequest, match="from 0 to 419"):
        prompter.tokens(tokens)


async def test_what_is_too_long_is_refused_with_the_limit(prompter):
    with pytest.raises(BadRequest, match=r"has \d+ tokens; .* takes at most 512"):
        await prompter.text("word " * 600)


async def test_there_is_room_for_what_is_left(prompter):
    prompt = prompter.tokens([5] * 500)
    assert (prompter.room(prompt, None), prompter.room(prompt, 3), prompter.room(prompt, 99)) == (12, 3, 12)


async def test_without_a_template_chats_are_refused(loaded, prompter, monkeypatch):
    monkeypatch.setattr(loaded.tokenizer, "chat_template", None)
    with pytest.raises(BadRequest, match="/v1/completions"):
        await prompter.chat([{"role": "user", "content": "Hi"}])


async def test_tools_that_would_be_ignored_are_refused(loaded, prompter, monkeypatch):
    monkeypatch.setattr(loaded.tokenizer, "chat_template", "{{ messages[0].content }}")
    with pytest.raises(BadRequest, match="cannot call tools"):
        await prompter.chat([{"role": "user", "content": "Hi"}], tools=[TOOL])


def test_a_response_template_that_cannot_be_used_is_told_at_the_start(loaded, monkeypatch):
    monkeypatch.setattr(loaded.tokenizer, "response_template", {"fields": {}})
    with pytest.raises(ConfigError, match="response_template cannot be used"):
        Prompter(loaded, context=512)


def test_sampling_is_what_the_makers_recommend(loaded, prompter, monkeypatch):
    assert prompter.sampling().temperature == 1.0
    monkeypatch.setattr(loaded.model.generation_config, "temperature", 0.6)
    assert prompter.sampling().temperature == 0.6
