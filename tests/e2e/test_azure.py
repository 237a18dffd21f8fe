"""Azure's two ways to the same APIs, by the official client: below a deployment, and below ``/openai/v1``."""

from __future__ import annotations

import pytest
from aiohttp import web
from openai import AzureOpenAI, OpenAI
from support.gated import completion, question_in


@pytest.fixture
def azure(record):
    """An Azure resource."""

    async def answer(request, recorded):
        return web.json_response(completion(f"{request.path}: {question_in(recorded)}"))

    return record(answer)


@pytest.fixture
def served(azure, serve_proxy):
    return serve_proxy(azure.v1, upstreams={"azure": {"url": azure.url}})


def ask(client, deployment, question="Why is the sky blue?"):
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(model=deployment, messages=messages).choices[0].message.content


def deployments(served, api_key):
    return AzureOpenAI(
        azure_endpoint=f"{served.url}/azure", api_key=api_key, api_version="2024-10-21", max_retries=0, timeout=60
    )


def test_a_deployments_answer_is_cached(served, azure, api_key):
    with deployments(served, api_key) as client:
        assert ask(client, "one") == ask(client, "one")

    (request,) = azure.requests
    assert request.target == "/openai/deployments/one/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == api_key


def test_deployments_share_nothing(served, azure, api_key):
    with deployments(served, api_key) as client:
        assert ask(client, "one") != ask(client, "two")

    assert len(azure.requests) == 2


def test_the_version_one_api_is_cached(served, azure, api_key):
    with OpenAI(base_url=f"{served.url}/azure/openai/v1/", api_key=api_key, max_retries=0, timeout=60) as client:
        assert ask(client, "one") == ask(client, "one")

    (request,) = azure.requests
    assert request.target == "/openai/v1/chat/completions"
