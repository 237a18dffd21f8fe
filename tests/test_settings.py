from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from cacheproxy.address import Address
from cacheproxy.model import Mode
from cacheproxy.settings import GUARDS, Policy, Settings, UpstreamSettings


def test_the_defaults_are_the_documented_ones():
    settings = Settings()

    assert settings.listen == Address("127.0.0.1", 8090)
    assert settings.admin_listen == Address("127.0.0.1", 8091)
    assert (settings.mode, settings.policy, settings.threshold) == (Mode.SEMANTIC, Policy.CERTIFIED, 0.95)
    assert (settings.cache.ttl_s, settings.cache.volatile_ttl_s) == (86_400, 300)
    assert (settings.cache.max_entries, settings.cache.max_bytes) == (100_000, 2 * 1024**3)
    assert (settings.limits.body_bytes, settings.cache.max_answer_bytes) == (32 * 1024**2, 4 * 1024**2)
    assert (settings.deadlines.store_ms, settings.deadlines.embedder_ms) == (50, 250)
    assert (settings.deadlines.connect_s, settings.deadlines.first_byte_s) == (5, 120)
    assert (settings.deadlines.between_bytes_s, settings.deadlines.abandon_s) == (60, 2)
    assert (settings.batching.max_items, settings.batching.max_padded_tokens) == (64, 16_384)
    assert settings.cache.responses_ttl_s < 30 * 86_400, "under the provider's retention"
    assert not settings.finish_abandoned
    assert (settings.max_wrong_per_hit, settings.audit_rate, settings.judge_model) == (0.01, 0.05, None)


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().threshold = 0.1


def test_the_database_is_in_the_data_directory_unless_a_store_is_named(tmp_path):
    assert Settings(data_dir=tmp_path).database.parent == tmp_path
    assert Settings(store="sqlite:////var/lib/x.db").database == Path("/var/lib/x.db")
    assert Settings(store="sqlite:///x.db").database == Path("x.db")


def test_a_data_directory_may_start_with_the_home():
    assert Settings(data_dir="~/here").data_dir == Path.home() / "here"


def test_a_threshold_of_zero_is_a_threshold():
    assert Settings(threshold=0).threshold == 0


def test_the_guards_are_those_that_have_a_reason():
    assert {"numbers", "negation", "language"} <= set(GUARDS)
    assert Settings.model_validate({"guards": {"disabled": ["units"]}}).guards.disabled == ("units",)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"threshold": 1.01}, id="threshold-over-one"),
        pytest.param({"threshold": float("nan")}, id="threshold-nan"),
        pytest.param({"threshold": -0.1}, id="threshold-negative"),
        pytest.param({"workers": 0}, id="no-workers"),
        pytest.param({"policy": "static"}, id="unknown-policy"),
        pytest.param({"judge": "llm"}, id="judge-without-its-model"),
        pytest.param({"max_wrong_per_hit": 0}, id="budget-zero"),
        pytest.param({"max_wrong_per_hit": 0.6}, id="budget-over-half"),
        pytest.param({"audit_rate": 0.01}, id="audits-under-a-twentieth"),
        pytest.param({"namespaces": {"legal": {"mode": "loose"}}}, id="namespace-mode"),
        pytest.param({"store": "redis://localhost/name"}, id="redis-without-a-number"),
        pytest.param({"store": "redis+sentinel://localhost"}, id="sentinels-without-a-master"),
        pytest.param({"store": "postgres://localhost"}, id="unknown-store"),
        pytest.param({"store": "sqlite:///"}, id="store-without-path"),
        pytest.param({"upstream_url": "llm.example/v1"}, id="url-without-scheme"),
        pytest.param({"upstream_url": "https://u:p@llm.example/v1"}, id="url-with-password"),
        pytest.param({"upstream_url": "https://llm.example/v1?key=1"}, id="url-with-query"),
        pytest.param({"device": "gpu"}, id="device"),
        pytest.param({"guards": {"disabled": ["colours"]}}, id="guard"),
        pytest.param({"key": {"ignore_patterns": ["a("]}}, id="regular-expression"),
        pytest.param({"key": {"headers": ["x y"]}}, id="header-name"),
        pytest.param({"cache": {"ttl_s": 0}}, id="ttl-zero"),
        pytest.param({"cache": {"ttl_s": float("inf")}}, id="ttl-infinite"),
        pytest.param({"cache": {"max_bytes": -1}}, id="negative-size"),
        pytest.param({"upstreams": {"v1": {"url": "http://h/v1"}}}, id="upstream-name-taken"),
        pytest.param({"upstreams": {"A/B": {"url": "http://h/v1"}}}, id="upstream-name-with-slash"),
        pytest.param({"upstreams": {"mine": {}}}, id="unknown-provider-without-url"),
        pytest.param({"upstreams": {"groq": {"api_key": "k", "api_key_env": "K"}}}, id="two-keys"),
        pytest.param({"upstreams": {"groq": {"api_key_env": "sk-proj-1"}}}, id="key-for-its-variable"),
        pytest.param({"prices": [{"model": "m", "input_per_mtok": -1, "output_per_mtok": 1}]}, id="negative-price"),
        pytest.param({"admin_token": ""}, id="empty-token"),
        pytest.param({"treshold": 0.9}, id="unknown-name"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(ValidationError):
        Settings.model_validate(values)


def test_an_administration_that_others_reach_needs_a_token():
    with pytest.raises(ValidationError, match="set admin_token"):
        Settings(admin_listen=Address("0.0.0.0", 8091))
    assert Settings(admin_listen=Address("0.0.0.0", 8091), admin_token=SecretStr("t")).admin_token


@pytest.mark.parametrize(
    "upstream", [UpstreamSettings(api_key=SecretStr("k")), UpstreamSettings(api_key_env="KEY")], ids=["key", "variable"]
)
def test_a_key_of_ours_behind_an_open_listener_is_refused(upstream):
    everywhere = Address("0.0.0.0", 8090)
    with pytest.raises(ValidationError, match="say allow_open"):
        Settings(listen=everywhere, upstreams={"openai": upstream})

    assert Settings(listen=everywhere, upstreams={"openai": upstream}, allow_open=True).allow_open
    assert Settings(listen=everywhere, upstreams={"openai": upstream}, virtual_keys=True).asks_key
    assert Settings(listen=everywhere, upstreams={"openai": upstream}, proxy_keys=["k" * 16]).asks_key
    assert Settings(upstreams={"openai": upstream}).upstreams["openai"].injects_key
    assert Settings(listen=everywhere, upstreams={"openai": UpstreamSettings()})


def test_secrets_are_not_in_the_repr():
    settings = Settings(admin_token=SecretStr("hush"), upstreams={"groq": UpstreamSettings(api_key=SecretStr("psst"))})

    assert "hush" not in repr(settings)
    assert "psst" not in repr(settings)
