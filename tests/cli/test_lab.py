from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from cacheproxy.cli import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def simulated(*flags: str) -> Iterator[str]:
    """The base URL of a simulated LLM in a process of its own."""
    command = [sys.executable, "-m", "cacheproxy", "simulate", "--listen", "127.0.0.1:0", *flags]
    environ = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("simulated LLM on http://127.0.0.1:"), line
            yield line.split()[-1]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.jsonl"
    asked = [{"text": f"Question {number}?", "class": "odd" if number % 2 else "even"} for number in range(6)]
    file.write_text("".join(json.dumps(question) + "\n" for question in asked))
    return file


def test_questions_are_sent_and_reported(questions, capsys):
    with simulated("--questions", str(questions)) as url:
        assert run(["replay", str(questions), "--proxy", url, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert run(["replay", str(questions), "--proxy", url, "--limit", "2"]) == 0
        told = capsys.readouterr().out

    assert report["requests"] == 6
    assert "2 requests" in told


def test_answers_worded_anew_are_still_told_apart(questions, capsys):
    with simulated("--answers", str(questions), "--seed", "1") as url:
        assert run(["replay", str(questions), "--proxy", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["wrong_per_request"] | {"low": 0, "high": 0} == {
        "count": 0,
        "of": 6,
        "rate": 0.0,
        "low": 0,
        "high": 0,
    }


def test_questions_can_be_drawn_so_that_some_come_again(questions, capsys):
    with simulated("--questions", str(questions)) as url:
        assert run(["replay", str(questions), "--proxy", url, "--requests", "9", "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 9


def test_a_replay_without_a_proxy_fails(questions, capsys):
    assert run(["replay", str(questions), "--proxy", "http://127.0.0.1:1/v1"]) == 1
    assert "every request failed" in capsys.readouterr().err


def test_a_replay_of_no_questions_fails(tmp_path, capsys):
    assert run(["replay", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["simulate", "--listen", "8099"], "--listen: must be HOST:PORT", id="address"),
        pytest.param(["simulate", "--questions", "FILE", "--answers", "FILE"], "give one of them", id="two-ways"),
        pytest.param(["simulate", "--error-rate", "2"], "--error-rate", id="rate"),
        pytest.param(["replay", "FILE", "--api-key-env", "sk-1"], "--api-key-env", id="no-such-variable"),
        pytest.param(["replay", "FILE", "--requests", "9", "--speed", "2"], "--speed", id="drawn-at-recorded-times"),
        pytest.param(["replay", "FILE", "--concurrency", "0"], "--concurrency", id="concurrency"),
    ],
)
def test_wrong_flags_are_misuse(arguments, said, questions, capsys):
    assert run([str(questions) if argument == "FILE" else argument for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "sk-1" not in told
