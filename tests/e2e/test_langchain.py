"""LangChain's chat model, with nothing changed but its base URL."""

from __future__ import annotations

import pytest
from langchain_openai import ChatOpenAI


@pytest.fixture
def model(proxy, api_key):
    return ChatOpenAI(model="gpt-4o-mini", base_url=proxy.v1, api_key=api_key, max_retries=0)


def test_a_repeated_call_hits_and_says_the_same(model, calls):
    first = model.invoke("Why is the sky blue?")
    before = calls()
    second = model.invoke("Why is the sky blue?")

    assert calls() == before
    assert second.content == first.content
    assert second.usage_metadata == first.usage_metadata


def test_a_stream_hits_what_was_invoked(model, calls):
    first = model.invoke("Why is grass green?")
    before = calls()
    parts = [part.content for part in model.stream("Why is grass green?")]

    assert calls() == before
    assert "".join(parts) == first.content


async def test_the_asynchronous_call_shares_the_entry(model, calls):
    first = model.invoke("Why is blood red?")
    before = calls()
    second = await model.ainvoke("Why is blood red?")

    assert calls() == before
    assert second.content == first.content
