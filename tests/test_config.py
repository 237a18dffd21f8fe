from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.config import KNOWN, effective, load, settings_schema
from cacheproxy.errors import ConfigError
from cacheproxy.model import Mode


def reading(
    tmp_path: Path, *, yaml: str | None = None, environ: dict[str, str] | None = None, **flags: Any
) -> dict[str, tuple[Any, str]]:
    if yaml is not None:
        (tmp_path / "cacheproxy.yaml").write_text(yaml)
    loaded = load(flags=flags, environ=environ or {}, cwd=tmp_path)
    return {name: (value, origin) for name, value, origin in effective(loaded)}


def mistake(tmp_path: Path, **sources: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        reading(tmp_path, **sources)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(tmp_path):
    yaml = "threshold: .91\nmode: exact\ndevice: cpu\n"
    environ = {"CACHEPROXY_THRESHOLD": ".92", "CACHEPROXY_MODE": "shadow"}

    rows = reading(tmp_path, yaml=yaml, environ=environ, threshold=0.93)

    assert rows["threshold"] == (0.93, "--threshold")
    assert rows["mode"] == ("shadow", "CACHEPROXY_MODE")
    assert rows["device"] == ("cpu", f"device in {tmp_path / 'cacheproxy.yaml'}")
    assert rows["hit_usage"] == ("original", "default")


def test_sections_of_several_sources_are_merged_member_by_member(tmp_path):
    yaml = "cache:\n  ttl_s: 60\n  samples: 2\nlog:\n"
    rows = reading(tmp_path, yaml=yaml, environ={"CACHEPROXY_CACHE__TTL_S": "70"})

    assert rows["cache.ttl_s"][0] == 70
    assert rows["cache.samples"][0] == 2
    assert rows["log.level"] == ("info", "default")


@pytest.mark.parametrize("named_by", ["flag", "environment"])
def test_the_file_can_be_named(tmp_path, named_by):
    (tmp_path / "cacheproxy.yaml").write_text("threshold: .5")
    (tmp_path / "other.yaml").write_text("threshold: .6")
    flags = {"config": "other.yaml"} if named_by == "flag" else {"config": None}
    environ = {"CACHEPROXY_CONFIG": "other.yaml"} if named_by == "environment" else {}

    assert load(flags=flags, environ=environ, cwd=tmp_path).settings.threshold == 0.6


def test_a_named_file_that_is_missing_is_an_error(tmp_path):
    assert "cannot read the settings file" in mistake(tmp_path, config="nowhere.yaml")


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        pytest.param("CACHEPROXY_LISTEN", ":9000", "listen", "0.0.0.0:9000", id="address"),
        pytest.param("CACHEPROXY_CACHE__MAX_BYTES", "1GiB", "cache.max_bytes", 1024**3, id="size"),
        pytest.param("CACHEPROXY_EXPOSE_HEADERS", "false", "expose_headers", False, id="boolean"),
        pytest.param("CACHEPROXY_GUARDS__DISABLED", "units, dates", "guards.disabled", ["units", "dates"], id="commas"),
        pytest.param("CACHEPROXY_KEY__NEUTRAL", '["a,b"]', "key.neutral", ["a,b"], id="json-list"),
        pytest.param("CACHEPROXY_CACHE", '{"ttl_s": 5}', "cache.ttl_s", 5, id="json-section"),
        pytest.param("CACHEPROXY_UPSTREAMS__GROQ__URL", "http://h/v1", "upstreams.groq.url", "http://h/v1", id="named"),
        pytest.param("CACHEPROXY_THRESHOLD", "0", "threshold", 0, id="zero"),
        pytest.param("CACHEPROXY_THRESHOLD", "", "threshold", 0.95, id="empty-is-unset"),
        pytest.param("XDG_DATA_HOME", "/xdg", "data_dir", "/xdg/cacheproxy", id="xdg"),
    ],
)
def test_variables_are_read(tmp_path, variable, value, name, expected):
    assert reading(tmp_path, environ={variable: value})[name][0] == expected


def test_variables_of_others_are_not_read(tmp_path):
    others = {"CACHEPROXY_TEST_DATA": "/x", "LISTEN": ":1", "OPENAI_API_KEY": "sk-1", "cacheproxy_listen": ":1"}
    assert load(flags={}, environ=others, cwd=tmp_path).settings == load(flags={}, environ={}, cwd=tmp_path).settings


def test_null_sets_nothing(tmp_path):
    assert load(flags={}, environ={}, cwd=tmp_path).settings.mode is Mode.SEMANTIC
    assert reading(tmp_path, yaml="mode: null\ncache: null\n")["mode"] == ("semantic", "default")


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        pytest.param({"yaml": "treshold: 1"}, "treshold in FILE is no setting; the nearest is threshold", id="file"),
        pytest.param(
            {"yaml": "cache: {tll_s: 1}"}, "cache.tll_s in FILE is no setting; the nearest is cache.ttl_s", id="nested"
        ),
        pytest.param({"yaml": "ttl_s: 1"}, "the nearest is cache.ttl_s", id="section-forgotten"),
        pytest.param(
            {"environ": {"CACHEPROXY_LISTENS": "1"}},
            "CACHEPROXY_LISTENS is no setting; the nearest is CACHEPROXY_LISTEN",
            id="environment",
        ),
        pytest.param(
            {"environ": {"CACHEPROXY_CACHE__TTL": "1"}},
            "the nearest is CACHEPROXY_CACHE__TTL_S",
            id="nested-environment",
        ),
        pytest.param({"yaml": "upstreams: {a: {uri: x}}"}, "the nearest is upstreams.<name>.url", id="upstream"),
    ],
)
def test_an_unknown_setting_is_an_error_that_names_the_nearest(tmp_path, sources, said):
    assert said.replace("FILE", str(tmp_path / "cacheproxy.yaml")) in mistake(tmp_path, **sources)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        pytest.param({"threshold": "high"}, "--threshold: must be a valid number", id="flag"),
        pytest.param({"yaml": "cache: {samples: 0}"}, "must be greater than 0 (got '0')", id="file"),
        pytest.param({"environ": {"CACHEPROXY_POLICY": "static"}}, "'certified', 'threshold' or 'vcache'", id="policy"),
        pytest.param({"yaml": "cache: 5"}, "must hold settings of its own", id="section"),
        pytest.param({"yaml": "prices: [{model: m}]"}, "prices.0.input_per_mtok in prices", id="missing-member"),
        pytest.param({"yaml": "- a"}, "must hold settings, each as NAME: VALUE", id="no-mapping"),
        pytest.param({"yaml": "a: [1"}, "is not valid YAML", id="no-yaml"),
        pytest.param(
            {"environ": {"CACHEPROXY_CACHE": "{a"}}, "CACHEPROXY_CACHE is neither JSON nor YAML", id="no-json"
        ),
        pytest.param({"admin_listen": ":80"}, "set admin_token", id="between-settings"),
    ],
)
def test_a_mistake_is_told_with_its_origin(tmp_path, sources, said):
    assert said in mistake(tmp_path, **sources)


def test_every_mistake_is_told_at_once(tmp_path):
    told = mistake(tmp_path, yaml="threshold: 2\nmode: fast\n", environ={"CACHEPROXY_LISTEN": "x"})
    assert all(name in told for name in ("threshold", "mode", "CACHEPROXY_LISTEN"))


def test_a_key_in_the_environment_is_used_only_where_an_upstream_names_it(tmp_path):
    environ = {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2"}
    (tmp_path / "cacheproxy.yaml").write_text(
        "upstreams: {default: {api_key_env: OPENAI_API_KEY}, anthropic: {url: 'https://llm.example/v1'}}"
    )
    upstreams = load(flags={}, environ=environ, cwd=tmp_path).settings.upstreams

    assert upstreams["default"].api_key is not None
    assert upstreams["default"].api_key.get_secret_value() == "sk-1"
    assert upstreams["anthropic"].api_key is None


def test_a_named_key_that_is_not_there_is_an_error(tmp_path):
    assert "not set" in mistake(tmp_path, yaml="upstreams: {groq: {api_key_env: NO_KEY}}")


@pytest.mark.parametrize(
    "sources",
    [
        pytest.param({"environ": {"CACHEPROXY_STORE": "redis://user:s3cret@h/name"}}, id="url"),
        pytest.param({"environ": {"CACHEPROXY_STORE": "redis://user:s3cret/@h"}}, id="url-with-slash"),
        pytest.param({"environ": {"CACHEPROXY_UPSTREAM_URL": "http://user:s3cret@h/v1"}}, id="upstream-url"),
        pytest.param({"yaml": "admin_token: [s3cret]"}, id="wrong-type"),
        pytest.param({"environ": {"CACHEPROXY_PROXY_KEYS": "s3cret"}}, id="short-key"),
        pytest.param({"environ": {"CACHEPROXY_PROXY_KEYS": "Not A Tenant:s3cret-s3cret-s3cret"}}, id="key-of-nobody"),
        pytest.param({"environ": {"CACHEPROXY_PROXY_KEYS": "[s3cret-s3cret-s3cret"}}, id="keys-that-are-no-list"),
        pytest.param({"yaml": "upstreams: {groq: {api_key_env: s3cret-}}"}, id="key-for-its-variable"),
        pytest.param({"yaml": "upstreams: {groq: {api_key_env: s3cret}}"}, id="key-like-a-variable"),
        pytest.param({"yaml": "upstreams: {a: {api_kay: s3cret}}"}, id="misspelt"),
        pytest.param({"yaml": "upstreams: {a: {api_key: s3cret}\n b: ["}, id="broken-file"),
        pytest.param({"environ": {"CACHEPROXY_UPSTREAMS": '{"a": {"api_key": "s3cret"'}}, id="broken-variable"),
    ],
)
def test_secrets_are_not_in_errors(tmp_path, sources):
    assert "s3cret" not in mistake(tmp_path, **sources)


def test_secrets_are_masked_where_settings_are_shown(tmp_path):
    environ = {
        "KEY": "s3cret",
        "CACHEPROXY_UPSTREAMS__GROQ__API_KEY_ENV": "KEY",
        "CACHEPROXY_ADMIN_TOKEN": "s3cret",
        "CACHEPROXY_PROXY_KEYS": "s3cret-s3cret-s3cret, research:s3cret-s3cret-s3cret",
    }

    rows = reading(tmp_path, environ=environ)

    assert "s3cret" not in str(rows)
    assert rows["upstreams.groq.api_key"] == ("**********", "KEY")


def test_the_schema_is_json_and_refuses_unknown_names():
    schema = json.loads(json.dumps(settings_schema()))

    assert schema["additionalProperties"] is False
    assert schema["properties"]["listen"]["type"] == "string"


def test_every_setting_is_described():
    assert [known.name for known in KNOWN.values() if not known.description] == []


@given(st.dictionaries(st.sampled_from(sorted(KNOWN)), st.text(max_size=20).filter(lambda text: "\x00" not in text)))
def test_whatever_the_environment_says_there_are_settings_or_one_error(texts):
    environ = {KNOWN[name].environment.replace("<NAME>", "GROQ"): text for name, text in texts.items()}
    with suppress(ConfigError):
        load(flags={}, environ=environ, cwd=Path("/nonexistent"))
