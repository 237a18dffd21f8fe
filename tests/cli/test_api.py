"""``cacheproxy api`` asks a running proxy, and says what is wrong in one line."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
from support.panel import open_panel
from support.servers import Host

from cacheproxy.cli import run

ASKED = "What does a reverse proxy do?"


@pytest.fixture
def host():
    host = Host()
    yield host
    host.close()


@pytest.fixture
def serving(host, tmp_path, monkeypatch, capfdbinary):
    """``serving(*arguments)``: exit status, and what was printed, of a command against a running admin plane."""
    monkeypatch.chdir(tmp_path)
    with host.open(open_panel(tmp_path)) as panel:
        host.run(panel.ask(ASKED))

        def ask(*arguments):
            status = run(["api", *arguments, "--url", panel.url])
            captured = capfdbinary.readouterr()
            return status, captured.out.decode(), captured.err.decode()

        yield ask


def test_what_the_running_proxy_knows_is_printed(serving):
    status, out, _ = serving("/requests?limit=1")
    assert status == 0
    assert json.loads(out)["requests"][0]["status"] == "Miss"


def test_a_body_is_posted(serving, monkeypatch):
    assert json.loads(serving("purge", "--body", '{"text": "proxy"}')[1])["selected"] == 1
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"everything": true, "dry_run": false}')))
    assert json.loads(serving("purge", "--body", "-")[1])["removed"] == 1


def test_an_entry_is_deleted(serving):
    (entry,) = json.loads(serving("/entries")[1])["entries"]
    assert json.loads(serving(f"/entries/{entry['id']}", "--delete")[1]) == {"removed": 1}


def test_a_refusal_is_told_in_the_planes_own_words(serving):
    status, _, err = serving("/explain?request=unknown")
    assert status == 1
    assert err.startswith("cacheproxy: 404: no decision is remembered")


def test_where_no_proxy_runs_it_is_said_what_to_do(capsys):
    assert run(["api", "/health", "--url", "http://127.0.0.1:1"]) == 1
    assert "no proxy answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_two_methods_at_once_are_wrong(capsys):
    assert run(["api", "/purge", "--body", "{}", "--delete"]) == 2


def test_the_token_of_the_settings_is_sent(host, tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setenv("CACHEPROXY_ADMIN_TOKEN", "s3cret")
    monkeypatch.chdir(tmp_path)
    with host.open(open_panel(tmp_path, token="s3cret")) as panel:
        assert run(["api", "/health", "--url", panel.url]) == 0
    assert json.loads(capfdbinary.readouterr().out)["ready"]
