from __future__ import annotations

import json
import logging
import re

import pytest

from cacheproxy.logs import set_up_log
from cacheproxy.settings import LogSettings


@pytest.fixture(autouse=True)
def _as_before():
    root, ours = logging.getLogger(), logging.getLogger("cacheproxy")
    before = root.handlers[:], root.level, ours.level
    root.handlers[:] = []  # set_up_log closes what it replaces, and pytest's own must stay open
    yield
    root.handlers[:], root.level, ours.level = before


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
