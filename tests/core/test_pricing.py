"""The arithmetic is held against the library's own; the rest is which model is meant."""

from datetime import UTC, datetime

import genai_prices
import pytest
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from cacheproxy.core.pricing import GenaiPrices, PriceOverride, estimate_tokens, total_usd
from cacheproxy.model import Usage

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC).timestamp()
MILLION = 1_000_000


def price(model, upstream="openai", usage=None, *, overrides=()):
    prices = GenaiPrices(clock=lambda: NOW, overrides=overrides)
    return prices.usd(model=model, upstream=upstream, usage=usage or Usage(MILLION, MILLION))


@st.composite
def usages(draw):
    total = draw(st.integers(0, 2 * MILLION))
    read = draw(st.integers(0, total))
    written = draw(st.integers(0, total - read))
    return Usage(total, draw(st.integers(0, MILLION)), read, written)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-mini"),
        ("openai", "text-embedding-3-small"),
        ("anthropic", "claude-sonnet-4-5"),
        ("google", "gemini-2.5-pro"),
        ("groq", "llama-3.3-70b-versatile"),
        ("perplexity", "sonar-pro"),
    ],
)
@given(usage=usages())
def test_an_answer_costs_what_the_library_says(provider, model, usage):
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        ),
        model,
        provider_id=provider,
        genai_request_timestamp=datetime.fromtimestamp(NOW, UTC),
    ).total_price
    assert PRICES.usd(model=model, upstream=provider, usage=usage) == pytest.approx(float(theirs), rel=1e-9, abs=1e-12)


PRICES = GenaiPrices(clock=lambda: NOW)


def test_every_model_of_the_table_has_a_price_or_none():
    prices = GenaiPrices(clock=lambda: NOW)
    priced = [
        prices.usd(model=model.id, upstream=provider.id, usage=Usage(10, 10, 5, 5))
        for provider in providers
        for model in provider.models
    ]
    assert all(usd is None or usd >= 0 for usd in priced)
    assert sum(usd is not None for usd in priced) > 1000


def test_cached_input_costs_its_own_rate():
    plain = price("gpt-4o-mini", usage=Usage(input_tokens=MILLION))
    cached = price("gpt-4o-mini", usage=Usage(input_tokens=MILLION, cache_read_tokens=MILLION))
    assert cached == pytest.approx(plain / 2)


@pytest.mark.parametrize(
    ("model", "upstream"),
    [
        pytest.param("gpt-4o-mini", "openai", id="at the provider"),
        pytest.param("GPT-4o-mini", "openai", id="in other case"),
        pytest.param("gpt-4o-mini", "default", id="at an upstream with a name of its own"),
        pytest.param("gpt-4o-mini", "groq", id="at a provider that does not list it"),
        pytest.param("openai/gpt-4o-mini", "default", id="with the provider in front"),
        pytest.param("openrouter/openai/gpt-4o-mini", "default", id="with two of them in front"),
        pytest.param("my-gateway/gpt-4o-mini", "default", id="with an unknown provider in front"),
    ],
)
def test_a_model_is_known_by_any_of_its_names(model, upstream):
    assert price(model, upstream) == pytest.approx(0.15 + 0.60)


@pytest.mark.parametrize("model", ["", "/", "nobody/knows-this", "simulated"])
def test_an_unknown_model_has_no_price(model):
    assert price(model, "default") is None


def test_the_log_names_a_model_without_a_price_once(caplog):
    now = [1_800_000_000.0]
    prices = GenaiPrices(clock=lambda: now[0])
    for _ in range(3):
        prices.usd(model="my\nhorse", upstream="local", usage=Usage(1, 1))
        prices.usd(model="gpt-4o-mini", upstream="openai", usage=Usage(1, 1))
        now[0] += 3600
    (line,) = caplog.messages
    assert "'my\\nhorse' at upstream local" in line


@pytest.mark.parametrize(
    ("amounts", "total"), [([], 0.0), ([0.25, 0.5], 0.75), ([0.25, None], None), ([None], None)], ids=str
)
def test_a_sum_with_an_unknown_amount_is_unknown(amounts, total):
    assert total_usd(iter(amounts)) == total


def test_an_embedding_model_has_its_price_behind_an_upstream_of_any_name():
    assert price("text-embedding-3-small", "default") == price("text-embedding-3-small", "openai") > 0


def test_an_override_comes_before_the_table():
    override = PriceOverride("gpt-4o-mini", usd_per_million_input=1, usd_per_million_output=2)
    assert price("gpt-4o-mini", overrides=[override]) == pytest.approx(3)


@pytest.mark.parametrize(
    ("model", "upstream", "expected"),
    [
        ("house-small", "local", 1.0),
        ("House-Small", "local", 1.0),
        ("house-large", "local", 2.0),
        ("house-large", "elsewhere", 3.0),
        ("horse", "local", None),
    ],
)
def test_the_first_override_that_applies_wins(model, upstream, expected):
    overrides = [
        PriceOverride("house-small", usd_per_million_input=1, usd_per_million_output=0),
        PriceOverride("house-*", usd_per_million_input=2, usd_per_million_output=0, upstream="local"),
        PriceOverride("house-*", usd_per_million_input=3, usd_per_million_output=0),
    ]
    assert price(model, upstream, Usage(MILLION), overrides=overrides) == (
        None if expected is None else pytest.approx(expected)
    )


def test_zero_is_a_price():
    free = PriceOverride("local", usd_per_million_input=0, usd_per_million_output=0)
    assert price("local", overrides=[free]) == 0.0


def test_cached_input_that_is_free_is_free():
    override = PriceOverride("m", usd_per_million_input=4, usd_per_million_output=0, usd_per_million_cached_input=0)
    assert price("m", usage=Usage(MILLION, 0, cache_read_tokens=MILLION), overrides=[override]) == 0.0


def test_cached_input_without_a_rate_costs_what_input_does():
    override = PriceOverride("m", usd_per_million_input=4, usd_per_million_output=0)
    usage = Usage(MILLION, 0, cache_read_tokens=MILLION // 4, cache_write_tokens=MILLION // 4)
    assert price("m", usage=usage, overrides=[override]) == pytest.approx(4)


def test_usage_that_contradicts_itself_costs_no_less_than_nothing():
    assert price("gpt-4o-mini", usage=Usage(input_tokens=1, cache_read_tokens=MILLION)) == pytest.approx(0.075)


def test_the_version_names_the_table_and_the_overrides():
    plain, one, two = (
        GenaiPrices(clock=lambda: NOW, overrides=overrides).version
        for overrides in ([], [PriceOverride("m", 1, 2)], [PriceOverride("m", 1, 3)])
    )
    assert plain == f"genai-prices {genai_prices.__version__}"
    assert one.startswith(f"{plain}+")
    assert one != two


def test_a_price_that_depends_on_the_time_of_day_follows_it():
    now = NOW
    prices = GenaiPrices(clock=lambda: now)
    by_hour = set()
    for hour in range(24):
        now = NOW + hour * 3600
        by_hour.add(prices.usd(model="deepseek-reasoner", upstream="deepseek", usage=Usage(MILLION, MILLION)))
    theirs = {
        float(
            genai_prices.calc_price(
                genai_prices.Usage(input_tokens=MILLION, output_tokens=MILLION),
                "deepseek-reasoner",
                provider_id="deepseek",
                genai_request_timestamp=datetime.fromtimestamp(NOW + hour * 3600, UTC),
            ).total_price
        )
        for hour in range(24)
    }
    assert sorted(by_hour) == pytest.approx(sorted(theirs))


def test_names_that_callers_make_up_do_not_pile_up():
    prices = GenaiPrices(clock=lambda: NOW)
    for number in range(5000):
        prices.usd(model=f"made-up-{number}", upstream="openai", usage=Usage(1))
    assert len(prices._kept) <= 4096
    assert len(prices._table._provider_misses) <= 4096


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("four", 1), ("fours", 2), ("你好吗", 3), ("\ud800", 1), ("word " * 100, 125)],
)
def test_tokens_are_estimated_from_the_length(text, tokens):
    assert estimate_tokens(text) == tokens
