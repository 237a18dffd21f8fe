"""``cacheproxy keys``."""

import json

import pytest

from cacheproxy.cli import run


@pytest.fixture
def keys(tmp_path, capsys):
    def call(*arguments, status=0):
        capsys.readouterr()
        assert run(["keys", *arguments, "--data-dir", str(tmp_path)]) == status
        return capsys.readouterr()

    return call


def listed(keys):
    return json.loads(keys("ls", "--json").out)


def test_a_key_is_printed_alone_and_once(keys):
    told = keys("create", "alice")
    (key,) = told.out.split()
    assert key.startswith("cpk_")
    assert key not in told.err
    assert "not shown again" in told.err
    assert "virtual_keys is off" in told.err
    shown = keys("ls").out
    assert key not in shown
    assert key[:9] in shown


def test_where_keys_are_asked_for_no_note_is_needed(keys, monkeypatch):
    monkeypatch.setenv("CACHEPROXY_VIRTUAL_KEYS", "true")
    assert "virtual_keys" not in keys("create", "alice").err


def test_a_key_made_for_programs(keys):
    told = json.loads(keys("create", "alice", "--tenant", "research", "--expires", "90d", "--json").out)
    assert told["key"].startswith(told["hint"])
    assert (told["name"], told["tenant"]) == ("alice", "research")
    assert told["expires_at"] - told["created_at"] == 90 * 86_400
    assert listed(keys) == [{name: value for name, value in told.items() if name != "key"}]


def test_keys_are_listed_for_people(keys):
    keys("create", "alice")
    keys("create", "bob", "--expires", "33h")
    keys("create", "carol", "--expires", "0s")
    rows = [line.split() for line in keys("ls").out.splitlines()[1:]]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("alice", "alice", "never"),
        ("bob", "bob", "1d"),
        ("carol", "carol", "expired"),
    ]


def test_a_revoked_key_is_gone(keys):
    keys("create", "alice")
    keys("create", "bob")
    assert keys("revoke", "alice").out == "revoked alice\n"
    assert [key["name"] for key in listed(keys)] == ["bob"]


def test_a_name_is_given_once(keys):
    keys("create", "alice")
    assert "revoke it first" in keys("create", "alice", status=1).err


def test_what_is_not_there_cannot_be_revoked(keys):
    keys("create", "alice")
    assert "keys ls" in keys("revoke", "bob", status=1).err


@pytest.mark.parametrize("command", [["ls"], ["revoke", "alice"]])
def test_a_wrong_directory_is_told(keys, command):
    assert "no store" in keys(*command, status=1).err


@pytest.mark.parametrize(
    "wrong", [["Alice"], ["anonymous"], ["alice", "--tenant", "A B"], ["alice", "--expires", "soon"]]
)
def test_wrong_names_and_ages_are_misuse(keys, wrong):
    keys("create", *wrong, status=2)
