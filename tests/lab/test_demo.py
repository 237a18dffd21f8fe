from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from io import StringIO

import psutil
import pytest
from rich.console import Console

from cacheproxy.errors import ProxyError
from cacheproxy.lab.demo import DemoOptions, curl_line, demo, free_port
from cacheproxy.lab.questions import SAMPLE, draw, read_questions

QUICK = DemoOptions(requests=60, zipf=1.2, delay_ms=1, tokens_per_s=0, data_port=0, admin_port=0, upstream_port=0)
RUN = [sys.executable, "-m", "cacheproxy.lab.demo", "--requests", "8"]


@pytest.fixture
def offspring():
    """The processes that came since the test began. A server that tests share is older."""
    before = psutil.Process().children(recursive=True)
    return lambda: [process for process in psutil.Process().children(recursive=True) if process not in before]


@pytest.fixture
def tmp(tmp_path, monkeypatch):
    """Where the demo's own temporary folder goes. The exact layer alone starts fast."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("CACHEPROXY_MODE", "exact")
    return tmp_path


async def test_it_sends_questions_and_leaves_nothing_behind(tmp, offspring):
    page = StringIO()
    report = await demo(QUICK, Console(file=page, width=100))

    told = page.getvalue()
    assert report.requests == 60
    assert report.failed == 0
    assert report.hits["exact"] > 0
    assert "SIMULATED UPSTREAM" in told
    assert list(tmp.iterdir()) == []
    assert offspring() == []


async def test_a_cancelled_demo_ends_what_it_started(tmp, offspring):
    page = StringIO()
    running = asyncio.ensure_future(demo(replace(QUICK, keep=True), Console(file=page, width=100)))
    while "stay up" not in page.getvalue():
        assert not running.done(), running.exception()
        await asyncio.sleep(0.01)
    assert len(offspring()) == 2
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert offspring() == []
    assert list(tmp.iterdir()) == []


async def test_a_proxy_that_cannot_start_says_why(tmp, offspring, monkeypatch):
    monkeypatch.setenv("CACHEPROXY_THRESHOLD", "2")
    with pytest.raises(ProxyError, match="CACHEPROXY_THRESHOLD"):
        await demo(QUICK, Console(file=StringIO()))
    assert offspring() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_kept_demo_ends_well_when_it_is_told_to(number, tmp):
    environ = os.environ | {"TMPDIR": str(tmp), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([*RUN, "--keep"], stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "curl -i" in line)
        started = psutil.Process(process.pid).children()
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
    assert len(started) == 2
    assert not any(child.is_running() for child in started)
    assert "/v1/chat/completions" in line


def test_a_port_in_use_is_replaced_by_a_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) == 0
    assert free_port(port) == port


def test_the_line_to_paste_is_a_shell_command_with_a_body():
    words = shlex.split(curl_line("http://127.0.0.1:8090/v1", "How do I cancel?", api_key="sk-x"))
    assert words[:3] == ["curl", "-i", "http://127.0.0.1:8090/v1/chat/completions"]
    assert json.loads(words[-1])["messages"] == [{"role": "user", "content": "How do I cancel?"}]


def test_the_line_asks_what_is_near_to_a_question_of_the_demo():
    usual = DemoOptions()
    asked = {q.text for q in draw(read_questions(SAMPLE), usual.requests, zipf=usual.zipf, seed=usual.seed)}
    assert "How do I cancel a transfer?" in asked
    assert "Can you tell me how to cancel a transfer?" not in asked
