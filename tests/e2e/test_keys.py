"""Keys of the proxy's own, with the official clients: who is let in, what goes upstream, who shares a cache."""

from __future__ import annotations

import json
import time

import anthropic
import openai
import pytest
from aiohttp import web
from support.gated import completion, question_in, said
from support.servers import PATIENCE_S

from cacheproxy.cli import run

FIXED = "made-up-by-an-operator"
UPSTREAM_KEY = "sk-of-the-operator"


async def answer(_request, recorded):
    return web.json_response(completion(said(question_in(recorded))))


async def message(_request, recorded):
    content = [{"type": "text", "text": said(question_in(recorded))}]
    usage = {"input_tokens": 1, "output_tokens": 1}
    return web.json_response(
        {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content}
        | {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
    )


@pytest.fixture
def upstream(record):
    return record(answer)


@pytest.fixture
def injecting(upstream):
    return {"upstreams": {"default": {"url": upstream.v1, "api_key": UPSTREAM_KEY}}}


@pytest.fixture
def created(tmp_path, capsys):
    """``created(name, ...)``: a new virtual key of the proxy over ``tmp_path/data``."""

    def create(name, *flags):
        capsys.readouterr()
        assert run(["keys", "create", name, *flags, "--json", "--data-dir", str(tmp_path / "data")]) == 0
        return json.loads(capsys.readouterr().out)["key"]

    return create


def ask(served, key, question="What is a cache?"):
    client = openai.OpenAI(base_url=served.v1, api_key=key, max_retries=0)
    raw = client.chat.completions.with_raw_response.create(
        model="m", messages=[{"role": "user", "content": question}], timeout=PATIENCE_S
    )
    return raw.headers["X-Cache-Status"], raw.headers.get("X-CacheProxy-Reason")


def test_the_caller_s_key_stays_here_and_the_operator_s_goes_out(serve_proxy, upstream, injecting):
    served = serve_proxy(upstream.v1, proxy_keys=[FIXED], **injecting)
    assert ask(served, FIXED)[0] == "Miss"
    assert ask(served, FIXED)[0] == "Hit"
    (sent,) = upstream.requests
    assert sent.headers["Authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert FIXED not in str((sent.target, list(sent.headers.items()), sent.body))


def test_openai_s_client_without_the_key_is_told_so(serve_proxy, upstream, injecting):
    served = serve_proxy(upstream.v1, proxy_keys=[FIXED], **injecting)
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(served, "sk-something-else")
    assert refused.value.code == "cacheproxy_unauthorized"
    assert upstream.requests == []


def test_anthropic_s_client_shows_its_key_too_and_is_told_in_its_own_dialect(serve_proxy, record):
    upstream = record(message)
    served = serve_proxy(
        upstream.v1, proxy_keys=[FIXED], upstreams={"anthropic": {"url": upstream.v1, "api_key": UPSTREAM_KEY}}
    )

    def client(**key):
        return anthropic.Anthropic(base_url=served.url, max_retries=0, **key).messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
        )

    assert client(api_key=FIXED).content[0].text == said("Hi")
    assert client(auth_token=FIXED, api_key=None).content[0].text == said("Hi")
    assert all(FIXED not in str(list(sent.headers.items())) for sent in upstream.requests)
    with pytest.raises(anthropic.AuthenticationError) as refused:
        client(api_key="sk-something-else")
    assert refused.value.body["error"]["code"] == "cacheproxy_unauthorized"


def test_another_key_of_the_same_tenant_finds_the_same_cache(serve_proxy, upstream, injecting, created):
    old, new, other = created("old", "--tenant", "research"), created("new", "--tenant", "research"), created("bob")
    served = serve_proxy(upstream.v1, virtual_keys=True, **injecting)
    assert ask(served, old)[0] == "Miss"
    assert ask(served, new)[0] == "Hit"
    assert ask(served, other)[0] == "Miss"


def test_keys_that_come_and_go_count_in_a_running_proxy(serve_proxy, upstream, injecting, created, tmp_path, capsys):
    served = serve_proxy(upstream.v1, virtual_keys=True, **injecting)
    key = created("alice")
    eventually(lambda: opens(served, key))
    assert run(["keys", "revoke", "alice", "--data-dir", str(tmp_path / "data")]) == 0
    eventually(lambda: not opens(served, key))


def test_neither_files_nor_metrics_hold_a_key(serve_proxy, upstream, injecting, created, tmp_path, caplog):
    key = created("alice")
    served = serve_proxy(upstream.v1, virtual_keys=True, **injecting)
    ask(served, key)
    with pytest.raises(openai.AuthenticationError):
        ask(served, key + "x")
    assert key not in str(served.metrics())
    assert key not in caplog.text
    held = b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir())
    assert key.encode() not in held


def opens(served, key):
    try:
        return bool(ask(served, key))
    except openai.AuthenticationError:
        return False


def eventually(condition):
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)
