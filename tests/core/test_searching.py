"""Models of which the name alone tells that they look things up."""

import pytest

from cacheproxy.core.searching import SearchingModels

SEARCH = [
    "gpt-4o-search-preview",
    "gpt-4o-mini-search-preview-2025-03-11",
    "gpt-5-search-api",
    "gpt-5-search-api-2025-10-14",
    "o3-deep-research",
    "o4-mini-deep-research-2025-06-26",
    "openai/gpt-4o-search-preview",
    "sonar",
    "sonar-pro",
    "sonar-reasoning-pro",
    "perplexity/sonar",
    "Sonar-Deep-Research",
    "llama-3.1-sonar-large-128k-online",
    "anthropic/claude-sonnet-4.5:online",
    "groq/compound",
    "compound-beta-mini",
    "openrouter/perplexity/sonar-pro",
]
DO_NOT = [
    "gpt-4o",
    "gpt-4o-mini",
    "claude-sonnet-4-5",
    "o3",
    "text-search-ada",
    "r1-1776",
    "my/model",
    "online",
    "",
    "a\nb",
]


@pytest.mark.parametrize("model", SEARCH)
def test_it_searches(model):
    assert model in SearchingModels()


@pytest.mark.parametrize("model", DO_NOT)
def test_it_does_not(model):
    assert model not in SearchingModels()


def test_an_operator_names_more():
    models = SearchingModels(["My-Agent-*", "oracle"])
    named = ["my-agent-7", "house/my-agent-", "Oracle", "sonar"]
    assert [model for model in [*named, "my-agent", "oracle-2"] if model in models] == named


def test_a_name_without_end_is_read_in_no_time():
    assert "a-search-" * 10_000 not in SearchingModels()
    assert "/" * 100_000 not in SearchingModels()
