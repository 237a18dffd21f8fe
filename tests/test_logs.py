from __future__ import annotations

import json
import logging
import re

import pytest

from cacheproxy.events import Served
from cacheproxy.flow.request_log import LOGGER, RequestLog
from cacheproxy.log_settings import LogSettings
from cacheproxy.logs import set_up_log
from cacheproxy.model import CacheStatus


@pytest.fixture(autouse=True)
def _as_before():
    root, ours, requests = logging.getLogger(), logging.getLogger("cacheproxy"), logging.getLogger(LOGGER)
    before = root.handlers[:], root.level, ours.level, requests.level
    root.handlers[:] = []  # set_up_log closes what it replaces, and pytest's own must stay open
    yield
    root.handlers[:], root.level, ours.level, requests.level = before


def logged(settings: LogSettings, capsys) -> list[str]:
    set_up_log(settings)
    logging.getLogger("cacheproxy.flow").info("a model of %s dimensions", 384)
    logging.getLogger("somebody.else").info("chatter")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logging.getLogger("cacheproxy.flow").exception("it broke")
    return capsys.readouterr().err.splitlines()


def test_people_get_lines(capsys):
    lines = logged(LogSettings(), capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO a model of 384 dimensions", lines[0])
    assert lines[1].endswith("ERROR it broke")
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_programs_get_one_json_object_a_line(capsys):
    told, broken = map(json.loads, logged(LogSettings(format="json"), capsys))
    assert told.pop("time").endswith("+00:00")
    assert told == {"level": "info", "logger": "cacheproxy.flow", "message": "a model of 384 dimensions"}
    assert broken["exception"].endswith("ZeroDivisionError: division by zero")


def test_less_serious_messages_are_left_out(capsys):
    assert "384" not in "".join(logged(LogSettings(level="warning"), capsys))


SERVED = Served(
    at=1.0,
    dialect="openai-chat",
    upstream="openai",
    tenant="t1",
    model="gpt-4o",
    http_status=200,
    status=CacheStatus.MISS,
    duration_ms=8.0,
    request_id="req_1",
    prompt="What is my balance?",
)


def requests_logged(capsys, **settings):
    set_up_log(LogSettings(**settings))
    RequestLog().served(SERVED)
    return capsys.readouterr().err.splitlines()


def test_requests_are_logged_only_where_that_is_asked_for(capsys):
    assert requests_logged(capsys) == []


@pytest.mark.parametrize("level", ["info", "error"])
def test_a_request_is_a_line_of_members_whatever_the_level(capsys, level):
    (line,) = requests_logged(capsys, requests=True, format="json", level=level)
    told = json.loads(line)
    assert (told["request_id"], told["model"], told["duration_ms"]) == ("req_1", "gpt-4o", 8.0)
    assert "message" not in told


def test_people_get_a_requests_members_too(capsys):
    (line,) = requests_logged(capsys, requests=True)
    assert "INFO request_id=req_1 tenant=t1 dialect=openai-chat" in line


def test_that_questions_are_logged_is_said_at_the_start(capsys):
    lines = requests_logged(capsys, requests=True, prompts=True)
    assert "questions are logged" in lines[0]
    assert lines[1].endswith("prompt='What is my balance?'")
