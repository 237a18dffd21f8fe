"""The commands against each other, as processes: an upstream, the proxy, questions through it, and what it tells."""

from __future__ import annotations

import json
import signal

import pytest

QUESTIONS = (
    {"text": "Where is my card?", "class": "card_arrival"},
    {"text": "What is the exchange rate?", "class": "exchange_rate"},
    {"text": "Where is my card?", "class": "card_arrival"},
    {"text": "Where is my card?", "class": "card_arrival"},
)


@pytest.fixture
def questions(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    return str(file)


def test_simulate_serve_replay_stats_and_cache_work_on_each_other(spawn, cacheproxy, questions):
    simulated = spawn("simulate", "--questions", questions).line(r"simulated LLM on (\S+)")
    serving = spawn("serve", "--mode", "exact", "--upstream-url", simulated)
    served = serving.served()

    status, told, log = cacheproxy("replay", questions, "--proxy", served.v1, "--concurrency", "1", "--json")
    assert status == 0, log
    report = json.loads(told)
    assert report["requests"] == 4
    assert report["hits"]["exact"] == 2
    assert (report["failed"], report["wrong_per_hit"]["count"]) == (0, 0)

    assert serving.terminate() == 0  # which writes what was booked
    status, told, _ = cacheproxy("stats", "--json")
    total = json.loads(told)["total"]
    assert status == 0
    assert (total["requests"], total["hits"]["exact"], total["hit_rate"]) == (4, 2, 0.5)

    status, told, _ = cacheproxy("cache", "ls", "--json")
    assert status == 0
    entries = {entry["prompt"]: entry["id"] for entry in json.loads(told)}
    assert entries.keys() == {"Where is my card?", "What is the exchange rate?"}

    status, told, _ = cacheproxy("cache", "show", entries["Where is my card?"], "--json")
    assert status == 0
    assert json.loads(told)["answer"]["choices"][0]["message"]["content"].startswith("[card_arrival] ")

    assert cacheproxy("cache", "rm", entries["Where is my card?"])[0] == 0
    status, told, _ = cacheproxy("cache", "purge", "--yes", "--json")
    assert (status, json.loads(told)) == (0, {"removed": 1})


def test_entries_move_from_one_store_to_another(spawn, cacheproxy, questions, simulated, tmp_path):
    serving = spawn("serve", "--mode", "exact", "--upstream-url", f"{simulated}/v1")
    assert cacheproxy("replay", questions, "--proxy", serving.served().v1, "--json")[0] == 0
    serving.terminate()
    file, other = str(tmp_path / "entries.jsonl"), f"sqlite:///{tmp_path / 'other.sqlite3'}"

    assert cacheproxy("cache", "export", file)[0] == 0
    status, told, _ = cacheproxy("cache", "import", file, "--store", other, "--json")
    assert (status, json.loads(told)["entries"]) == (0, 2)
    status, told, _ = cacheproxy("cache", "ls", "--store", other, "--json")
    assert len(json.loads(told)) == 2


FAILURES = {
    "a command that is none": (2, ("fly",), "fly"),
    "a flag that is none": (2, ("serve", "--colour", "red"), "--colour"),
    "a mode that is none": (2, ("serve", "--mode", "turbo"), "mode"),
    "a setting that is none": (2, ("serve",), "the nearest is CACHEPROXY_THRESHOLD"),
    "an address that is taken": (1, ("serve", "--mode", "exact", "--listen", "{taken}"), "choose another address"),
    "a store that is not there": (1, ("cache", "ls"), "--data-dir"),
    "a file that is not there": (1, ("replay", "/nowhere.jsonl"), "/nowhere.jsonl"),
    "a proxy that is not there": (1, ("replay", "{questions}", "--proxy", "http://127.0.0.1:9/v1"), "127.0.0.1:9"),
    "a data directory that cannot be": (1, ("serve", "--mode", "exact", "--data-dir", "/dev/null/x"), "/dev/null/x"),
}


@pytest.mark.parametrize(("status", "command", "says"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_one_line_that_says_what_to_do(cacheproxy, proxy, questions, status, command, says):
    filled = [part.format(taken=proxy.url.removeprefix("http://"), questions=questions) for part in command]
    if command[0] == "serve" and "--listen" not in command:
        filled += ["--listen", "127.0.0.1:0"]
    if command[0] == "serve":
        filled += ["--admin-listen", "127.0.0.1:0"]
    environ = {"CACHEPROXY_TRESHOLD": "0.9"} if "the nearest" in says else {}
    ended, told, log = cacheproxy(*filled, **environ)

    assert ended == status, told + log
    assert says.lower() in " ".join(log.lower().split())
    assert "Traceback" not in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["interrupted", "terminated"])
@pytest.mark.parametrize("command", ["serve", "simulate"])
def test_a_server_ends_quietly_when_it_is_asked_to(spawn, simulated, command, number):
    arguments = ["--mode", "exact", "--upstream-url", f"{simulated}/v1"] if command == "serve" else []
    process = spawn(command, *arguments)
    process.line(r"(curl -i|simulated LLM)")
    process.process.send_signal(number)

    assert process.process.wait(60) == 0
    process.close()
    assert not any("Traceback" in line for line in process.log)
