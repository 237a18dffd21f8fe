"""What the settings mean to each part."""

import numpy as np
import pytest

from cacheproxy import derive
from cacheproxy.config import load
from cacheproxy.core.likelihood import WEIGHTS, Likelihood
from cacheproxy.core.policy import CertifiedPolicy
from cacheproxy.core.vcache import VCachePolicy
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
        policy="threshold",
        threshold=0.0,
        guards={"disabled": ["dates"]},
        deadlines={"connect_s": 1, "first_byte_s": 2, "between_bytes_s": 3},
        prices=[{"model": "own-*", "input_per_mtok": 1, "output_per_mtok": 2}],
    )
    deadlines = derive.deadlines(settings)
    assert (deadlines.connect_s, deadlines.first_byte_s, deadlines.between_bytes_s) == (1, 2, 3)
    price = derive.price(settings.prices[0])
    assert (price.model, price.usd_per_million_input, price.usd_per_million_output) == ("own-*", 1, 2)
    policy = derive.policy(settings, prior=None)
    assert policy.threshold == 0.0
    assert Reason.GUARD_DATES in policy.disabled_guards


def test_each_policy_gets_the_budget_and_the_guards():
    settings = _settings(max_wrong_per_hit=0.02, guards={"disabled": ["dates"]}, decision={"certified_only": True})
    certified = derive.policy(settings, prior=Likelihood(np.zeros(WEIGHTS)))
    assert isinstance(certified, CertifiedPolicy)
    assert (certified.budget, certified.certified_only) == (0.02, True)
    assert Reason.GUARD_DATES in certified.disabled_guards
    assert certified.prior is not None
    vcache = derive.policy(_settings(policy="vcache", max_wrong_per_hit=0.02), prior=None)
    assert isinstance(vcache, VCachePolicy)
    assert vcache.delta == 0.02


def test_a_namespace_has_its_own_mode_and_budget():
    settings = _settings(
        mode="exact", namespaces={"legal": {"mode": "shadow"}, "chat": {"max_wrong_per_hit": 0.05}, "plain": {}}
    )
    assert derive.rules(settings, secret=SECRET).cache.modes == {"legal": Mode.SHADOW}
    assert derive.budgets(settings) == {"chat": 0.05}
    assert derive.needs_model(settings)
    assert not derive.needs_model(_settings(mode="exact", namespaces={"legal": {"mode": "off"}}))


@pytest.mark.parametrize(("policy", "keeps"), [("certified", True), ("threshold", False), ("vcache", False)])
def test_only_the_certified_policy_knows_what_a_budget_means(policy, keeps):
    assert derive.rules(_settings(policy=policy), secret=SECRET).cache.keeps_budgets is keeps


def test_the_judge_model_is_asked_at_the_default_upstream_with_its_key():
    settings = _settings(
        upstream_url="https://llm.example/v1",
        upstreams={"default": {"url": "https://llm.example/v1", "api_key": "k"}},
        judge_model="gpt-4o-mini",
    )
    model = derive.judge_model(settings)
    assert (model.name, model.url) == ("gpt-4o-mini", "https://llm.example/v1/chat/completions")
    assert ("Authorization", "Bearer k") in model.headers
    assert derive.judge_model(_settings()) is None


def test_proxy_keys_come_with_their_tenants():
    settings = _settings(proxy_keys=["k" * 16, "research:" + "r" * 16])
    assert derive.proxy_keys(settings) == [("", "k" * 16), ("research", "r" * 16)]
