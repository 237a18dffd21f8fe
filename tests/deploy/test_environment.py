"""Files of variables: each is a setting, or belongs to compose, and the examples work."""

from __future__ import annotations

import re

import pytest
from support.deployed import DEPLOY, ROOT, compose, env_file

from cacheproxy.config import load

FILES = (".env.example", "demo.env")
EXAMPLE = env_file(".env.example")


def used():
    """The variables that the compose file asks for."""
    return set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", FILES)
def test_every_variable_of_ours_is_a_setting(name):
    given = env_file(name) | {"CACHEPROXY_PROXY_KEYS": "k" * 16}
    # An empty variable counts as unset: with a value its name is looked at.
    given |= {variable: "OPENAI_API_KEY" for variable in given if variable.endswith("__API_KEY_ENV")}
    given |= {"CACHEPROXY_LOCAL__URL": "http://h/v1", "CACHEPROXY_LOCAL__MODEL": "m", "OPENAI_API_KEY": "sk-1"}
    given |= {"CACHEPROXY_UPSTREAM_URL": "http://h/v1", "CACHEPROXY_STORE": "sqlite:///c.sqlite3"}
    assert load(flags={}, environ=given).settings.asks_key


def test_the_example_has_everything_that_compose_asks_for_and_nothing_else():
    assert set(EXAMPLE) == used()


def test_the_demo_sets_nothing_that_compose_does_not_ask_for():
    assert env_file("demo.env").keys() <= used()


def test_the_example_holds_no_secret():
    assert [name for name, value in EXAMPLE.items() if value and re.search("TOKEN|KEY|PASSWORD", name)] == [
        "CACHEPROXY_VIRTUAL_KEYS"
    ]
    assert EXAMPLE["CACHEPROXY_VIRTUAL_KEYS"] == "false"


def test_the_demo_stands_alone():
    assert compose(env_file("demo.env"))


def test_filled_in_variables_stay_out_of_version_control():
    assert "\n.env\n" in (ROOT / ".gitignore").read_text(encoding="utf-8")
    assert (DEPLOY / ".env.example").is_file()
