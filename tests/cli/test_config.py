from __future__ import annotations

import json

import pytest

from cacheproxy.cli import run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_good_file_is_fine(tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("threshold: .9")
    assert run(["config", "check", "my.yaml"]) == 0
    assert capsys.readouterr().out == "my.yaml: every setting is fine\n"


def test_a_bad_file_fails_with_the_reason(tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("treshold: .9")
    assert run(["config", "check", "my.yaml"]) == 1
    assert "the nearest is threshold" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_misuse(capsys):
    assert run(["config", "check", "my.yaml"]) == 2
    assert "my.yaml" in capsys.readouterr().err


def test_what_is_in_force_is_shown_with_its_origin_and_without_secrets(monkeypatch, capsys):
    monkeypatch.setenv("CACHEPROXY_ADMIN_TOKEN", "s3cret")
    monkeypatch.setenv("CACHEPROXY_THRESHOLD", "0.97")

    assert run(["config", "show"]) == 0
    table = capsys.readouterr().out
    assert run(["config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)

    assert shown["threshold"] == {"value": 0.97, "origin": "CACHEPROXY_THRESHOLD"}
    assert "CACHEPROXY_THRESHOLD" in table
    assert "s3cret" not in table + str(shown)


def test_the_schema_is_json(capsys):
    assert run(["config", "schema"]) == 0
    assert "threshold" in json.loads(capsys.readouterr().out)["properties"]


def test_the_schema_for_people_is_a_table(capsys):
    assert run(["config", "schema", "--markdown"]) == 0
    assert "| `threshold` | `CACHEPROXY_THRESHOLD` | `0.95` |" in capsys.readouterr().out
