"""What the settings mean to each part: settings in, the parts' own rules out. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cacheproxy.core import scope
from cacheproxy.core.economics import Span, Tier
from cacheproxy.core.eligibility import CacheRules
from cacheproxy.core.keys import named_key
from cacheproxy.core.policy import Bootstrap, CertifiedPolicy, ThresholdPolicy
from cacheproxy.core.pool import Rule
from cacheproxy.core.pricing import PriceOverride
from cacheproxy.core.searching import SearchingModels
from cacheproxy.core.vcache import VCachePolicy
from cacheproxy.flow.asked import Rules, TenantRules
from cacheproxy.flow.local import LOCAL, LocalRules
from cacheproxy.flow.routing import ANTHROPIC, DEFAULT, Target
from cacheproxy.judge.llm import JudgeModel
from cacheproxy.model import Mode
from cacheproxy.settings import Policy as PolicyName
from cacheproxy.store.redis_url import Dialled
from cacheproxy.store.secret import secret_from
from cacheproxy.upstream.http import Deadlines
from cacheproxy.upstream.providers import PROVIDERS

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cacheproxy.core.likelihood import Likelihood
    from cacheproxy.core.policy import Policy
    from cacheproxy.model import Reason
    from cacheproxy.redis_settings import RedisSettings
    from cacheproxy.settings import PriceSettings, Settings, UpstreamSettings


def rules(settings: Settings, *, secret: bytes, secret_lasts: bool = True, bypass: Reason | None = None) -> Rules:
    """How requests are understood. ``bypass`` says why none of them may touch the cache."""
    return Rules(
        cache=CacheRules(
            mode=settings.mode,
            ttl_s=settings.cache.ttl_s,
            volatile_ttl_s=settings.cache.volatile_ttl_s,
            retained_ttl_s=settings.cache.responses_ttl_s,
            volatile_patterns=[re.compile(pattern) for pattern in settings.key.volatile_patterns],
            modes={name: own.mode for name, own in settings.namespaces.items() if own.mode is not None},
            bypass=bypass,
            keeps_budgets=settings.policy is PolicyName.CERTIFIED,
            searching_models=SearchingModels(settings.cache.searching_models),
        ),
        keys=scope.KeyRules(
            secret=secret,
            neutral=scope.NEUTRAL | set(settings.key.neutral),
            headers=(*scope.KEY_HEADERS, *settings.key.headers),
            ignore_patterns=tuple(re.compile(pattern) for pattern in settings.key.ignore_patterns),
            isolate_by_user=settings.cache.isolate_by == "user",
        ),
        tenants=TenantRules(settings.cache.shared, settings.cache.tenant_header or "", hashed=secret_lasts),
        max_body_bytes=settings.limits.body_bytes,
    )


def judge_name(settings: Settings) -> str:
    """Which judge the settings name, with the models that it may ask: it is another one with another model."""
    return " ".join(part for part in (settings.judge, settings.embedding_model, settings.judge_model) if part)


def given_secret(settings: Settings) -> bytes | None:
    """The secret of a shared store that the settings name; None where the store has its own."""
    given = plain(settings.redis.secret)
    return secret_from(given) if given else None


def dialled(settings: RedisSettings) -> Dialled:
    """How the nodes of a Redis are spoken to."""
    return Dialled(
        connections=settings.connections,
        connect_s=settings.connect_s,
        answer_s=settings.answer_s,
        health_check_s=settings.health_check_s,
        retries=settings.retries,
        username=settings.username,
        password=plain(settings.password),
    )


def targets(settings: Settings) -> dict[str, Target]:
    """Every upstream: the presets, with what the settings say on top."""
    targets = {name: Target(name, provider.base_url) for name, provider in PROVIDERS.items()}
    targets[DEFAULT] = Target("openai", PROVIDERS["openai"].base_url)
    if settings.upstream_url is not None:
        # One base for both APIs, under its own name: prices are then looked up by the model alone.
        targets[DEFAULT] = Target(DEFAULT, settings.upstream_url)
        targets[ANTHROPIC] = Target(ANTHROPIC, settings.upstream_url)
    for name, upstream in settings.upstreams.items():
        targets[name] = _target(name, upstream, targets.get(name))
    return targets


def _target(name: str, upstream: UpstreamSettings, preset: Target | None) -> Target:
    url = upstream.url or (preset.base_url if preset else "")  # settings refuse an unknown name without a URL
    named = preset.name if preset and not upstream.url else name
    if upstream.api_key is None:
        return Target(named, url)
    key = upstream.api_key.get_secret_value()
    provider = PROVIDERS.get(named)
    return Target(named, url, provider.credential(key) if provider else ("Authorization", f"Bearer {key}"))


def deadlines(settings: Settings) -> Deadlines:
    """How long upstreams are waited for."""
    limits = settings.deadlines
    return Deadlines(limits.connect_s, limits.first_byte_s, limits.between_bytes_s)


def price(price: PriceSettings) -> PriceOverride:
    """What a private model costs."""
    return PriceOverride(
        price.model,
        price.input_per_mtok,
        price.output_per_mtok,
        price.cached_input_per_mtok,
        price.cache_write_per_mtok,
        price.upstream,
    )


def prices(settings: Settings) -> list[PriceOverride]:
    """Every price that the table does not know: those of private models, and of the local server's tokens."""
    told = [price(one) for one in settings.prices]
    local = settings.local
    if local.url is None:
        return told
    usd_per_s = local.usd_per_gpu_hour / 3600
    return [
        *told,
        PriceOverride(
            "*",
            1e6 * usd_per_s / local.input_tokens_per_s,
            1e6 * usd_per_s / local.output_tokens_per_s,
            upstream=LOCAL,
        ),
    ]


def local_rules(settings: Settings) -> LocalRules | None:
    """What the local server may answer; None without one."""
    local = settings.local
    if local.url is None:
        return None
    return LocalRules(local.url, local.models, local.model, local.anyone, plain(local.api_key))


def local_deadlines(settings: Settings) -> Deadlines:
    """How long the local server is waited for."""
    return Deadlines(settings.local.connect_s, settings.local.first_byte_s, settings.deadlines.between_bytes_s)


def proxy_keys(settings: Settings) -> list[tuple[str, str]]:
    """The keys that callers may show, each with its tenant."""
    return [named_key(key.get_secret_value()) for key in settings.proxy_keys]


def plain(secret: SecretStr | None) -> str:
    """A secret to be used; empty without one."""
    return secret.get_secret_value() if secret else ""


def policy(settings: Settings, *, prior: Likelihood | None) -> Policy:
    """What decides on similar questions. ``prior`` is what is believed before verdicts."""
    disabled = settings.guards.disabled_reasons
    match settings.policy:
        case PolicyName.CERTIFIED:
            return CertifiedPolicy(
                settings.max_wrong_per_hit,
                disabled,
                Bootstrap(settings.decision.bootstrap_similarity),
                prior=None if prior is None else Rule(prior),
                certified_only=settings.decision.certified_only,
                guards_final=settings.guards.final,
            )
        case PolicyName.THRESHOLD:
            return ThresholdPolicy(settings.threshold, disabled)
        case PolicyName.VCACHE:
            return VCachePolicy(settings.max_wrong_per_hit, disabled)


def judge_model(settings: Settings) -> JudgeModel | None:
    """The model that compares answers, at the default upstream and with its key."""
    if settings.judge_model is None:
        return None
    target = targets(settings)[DEFAULT]
    headers = () if target.inject is None else (target.inject,)
    return JudgeModel(settings.judge_model, f"{target.base_url}/chat/completions", target.name, headers)


def budgets(settings: Settings) -> dict[str, float]:
    """The error budgets of namespaces that have their own."""
    return {
        name: own.max_wrong_per_hit for name, own in settings.namespaces.items() if own.max_wrong_per_hit is not None
    }


def needs_process_for_model(settings: Settings) -> bool:
    """Whether workers share a model that has to be loaded on this machine."""
    return needs_model(settings) and settings.embedder.url is None


def tiers(settings: Settings) -> list[Tier]:
    """The classes of models to compare with."""
    return [
        Tier(tier.name, Span(*tier.input_usd_per_mtok), Span(*tier.output_usd_per_mtok), Span(*tier.latency_s))
        for tier in settings.economics.tiers
    ]


def needs_model(settings: Settings) -> bool:
    """Whether any request may be answered by similarity, or counted as if."""
    modes = {settings.mode, *(own.mode for own in settings.namespaces.values())}
    return not modes.isdisjoint({Mode.SEMANTIC, Mode.SHADOW})
