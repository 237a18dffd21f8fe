"""What the settings mean to each part."""

from cacheproxy import derive
from cacheproxy.config import load
from cacheproxy.model import Mode, Reason

SECRET = b"s" * 32


def _settings(**flags):
    return load(flags=flags, environ={}).settings


def test_without_an_upstream_url_each_api_goes_to_its_own_provider():
    targets = derive.targets(_settings())
    assert targets["default"].base_url == "https://api.openai.com/v1"
    assert targets["anthropic"].base_url == "https://api.anthropic.com/v1"
    assert targets["default"].inject is None


def test_one_upstream_url_sets_both_apis():
    targets = derive.targets(_settings(upstream_url="http://llm.example/v1/"))
    assert targets["default"].base_url == targets["anthropic"].base_url == "http://llm.example/v1"


def test_a_configured_upstream_gets_the_key_in_its_own_style():
    settings = _settings(
        upstreams={"anthropic": {"api_key": "k1"}, "own": {"url": "http://own.example/v1", "api_key": "k2"}}
    )
    targets = derive.targets(settings)
    assert targets["anthropic"].inject == ("x-api-key", "k1")
    assert targets["own"].inject == ("Authorization", "Bearer k2")


def test_the_default_upstream_can_get_a_key_and_keep_its_url():
    target = derive.targets(_settings(upstreams={"default": {"api_key": "k"}}))["default"]
    assert (target.name, target.base_url) == ("openai", "https://api.openai.com/v1")
    assert target.inject == ("Authorization", "Bearer k")


def test_rules_carry_what_was_set():
    settings = _settings(
        mode="exact",
        key={
            "neutral": ["trace"],
            "headers": ["X-Persona"],
            "ignore_patterns": [r"\d+"],
            "volatile_patterns": ["menu"],
        },
        cache={"ttl_s": 7, "isolate_by": "user", "tenant_header": "X-Team", "shared": True},
        limits={"body_bytes": 1000},
    )
    rules = derive.rules(settings, secret=SECRET)
    assert rules.cache.mode is Mode.EXACT
    assert rules.cache.ttl_s == 7
    assert [pattern.pattern for pattern in rules.cache.volatile_patterns] == ["menu"]
    assert "trace" in rules.keys.neutral
    assert "stream" in rules.keys.neutral
    assert rules.keys.headers[-1] == "x-persona"
    assert rules.keys.secret == SECRET
    assert rules.keys.isolate_by_user
    assert rules.tenants.shared
    assert rules.tenants.header == "x-team"
    assert rules.max_body_bytes == 1000


def test_deadlines_prices_and_the_policy_are_passed_on():
    settings = _settings(
        threshold=0.0,
        guards={"disabled": ["dates"]},
        deadlines={"connect_s": 1, "first_byte_s": 2, "between_bytes_s": 3},
        prices=[{"model": "own-*", "input_per_mtok": 1, "output_per_mtok": 2}],
    )
    deadlines = derive.deadlines(settings)
    assert (deadlines.connect_s, deadlines.first_byte_s, deadlines.between_bytes_s) == (1, 2, 3)
    price = derive.price(settings.prices[0])
    assert (price.model, price.usd_per_million_input, price.usd_per_million_output) == ("own-*", 1, 2)
    policy = derive.policy(settings)
    assert policy.floor == 0.0
    assert Reason.GUARD_DATES in policy.disabled_guards
