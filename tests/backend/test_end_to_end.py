"""The whole chain, on real sockets: official clients, the proxy, the local server, a model that truly answers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager

import anthropic
import openai
import pytest
import pytest_asyncio

from cacheproxy.address import Address
from cacheproxy.backend.loading import ModelOptions
from cacheproxy.backend.running import BackendOptions, open_backend
from cacheproxy.settings import Settings
from cacheproxy.wiring import open_proxy

HAMLET = [{"role": "user", "content": "Who wrote Hamlet?"}]
ANSWER = "Shakespeare wrote Hamlet."
MINI = "sentence-transformers/all-MiniLM-L6-v2"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def backend(model):
    options = BackendOptions(
        ModelOptions(model, device="cpu"), name="tiny", listen=Address("127.0.0.1", 0), embedding_model=MINI
    )
    async with open_backend(options, now=lambda: 1_700_000_000.0) as running:
        yield running


@pytest.fixture
def proxied(tmp_path):
    @asynccontextmanager
    async def proxied(**settings):
        chosen = Settings(
            listen="127.0.0.1:0",
            admin_listen="127.0.0.1:0",
            data_dir=tmp_path / "data",
            deadlines={"store_ms": 20_000, "embedder_ms": 20_000},
            **settings,
        )
        async with open_proxy(chosen) as running:
            yield f"http://{running.data}"

    return proxied


@asynccontextmanager
async def openai_at(url):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-mine", max_retries=0) as client:
        yield client.with_raw_response.chat.completions


async def test_openais_client_through_the_proxy_to_the_model_and_then_the_cache(backend, proxied):
    async with (
        proxied(upstream_url=backend.url, embedder={"url": backend.url}) as url,
        openai_at(url) as completions,
    ):
        ask = {"model": "tiny", "messages": HAMLET, "temperature": 0}
        first = await completions.create(**ask)
        assert first.parse().choices[0].message.content == ANSWER
        assert first.headers["X-Cache-Status"] == "Miss"
        second = await completions.create(**ask)
        assert second.parse().choices[0].message.content == ANSWER
        assert second.headers["X-Cache-Status"] == "Hit"
        assert second.parse().usage == first.parse().usage
        stream = (await completions.create(**ask, stream=True)).parse()
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == ANSWER


async def test_similar_questions_meet_by_the_backends_embeddings(backend, proxied):
    async with (
        proxied(upstream_url=backend.url, embedder={"url": backend.url}, policy="threshold", threshold=0.9) as url,
        openai_at(url) as completions,
    ):
        asked = []
        for question in ("Who wrote Hamlet?", "Who wrote Hamlet ?"):
            messages = [{"role": "user", "content": question}]
            asked.append(await completions.create(model="tiny", messages=messages, temperature=0))
        assert asked[1].headers["X-CacheProxy-Layer"] == "semantic"
        assert asked[1].parse().choices[0].message.content == ANSWER


async def test_anthropics_client_through_the_proxy_to_the_model(backend, proxied):
    async with (
        proxied(upstream_url=backend.url, mode="exact") as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="sk-mine", max_retries=0) as client,
    ):
        ask = {"model": "tiny", "messages": HAMLET, "max_tokens": 40, "extra_body": {"temperature": 0}}
        first = await client.messages.with_raw_response.create(**ask)
        async with client.messages.stream(**ask) as stream:
            assert "".join([text async for text in stream.text_stream]) == ANSWER
            assert stream.response.headers["X-Cache-Status"] == "Hit"
        assert (await first.parse()).content[0].text == ANSWER


async def test_the_local_model_answers_for_a_model_of_the_upstream(backend, proxied):
    local = {"url": backend.url, "model": "tiny", "models": ["gpt-*"], "anyone": True, "usd_per_gpu_hour": 2}
    async with (
        proxied(upstream_url="http://127.0.0.1:9/v1", local=local, mode="exact") as url,
        openai_at(url) as completions,
    ):
        answer = await completions.create(model="gpt-4o-mini", messages=HAMLET, temperature=0)
        assert answer.parse().choices[0].message.content == ANSWER
        assert float(answer.headers["X-CacheProxy-Cost"]) > 0
        with pytest.raises(openai.APIStatusError) as failed:  # the upstream is asked, and is not there
            await completions.create(model="o3", messages=HAMLET)
        assert failed.value.status_code == 502


async def test_a_proxy_that_embeds_elsewhere_starts_without_torch(backend, tmp_path):
    program = """
import asyncio, json, sys
from cacheproxy.settings import Settings
from cacheproxy.wiring import open_proxy

async def main():
    async with open_proxy(Settings(**json.loads(sys.argv[1]))) as running:
        heavy = {"torch", "transformers", "sentence_transformers"} & set(sys.modules)
        print(json.dumps([running.model, sorted(heavy)]))

asyncio.run(main())
"""
    settings = {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "data_dir": str(tmp_path / "data"),
        "embedder": {"url": backend.url},
    }
    process = await told_by([sys.executable, "-c", program, json.dumps(settings)])
    model, heavy = json.loads(process)
    assert model.startswith(f"{MINI} on {backend.url}")
    assert heavy == []


async def told_by(command):
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    told, _ = await process.communicate()
    assert process.returncode == 0
    return told
