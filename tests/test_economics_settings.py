"""Classes of models are told apart by ranges of price and latency."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cacheproxy.core.pricing import GenaiPrices
from cacheproxy.economics_settings import TIERS, EconomicsSettings, TierSettings
from cacheproxy.model import Usage

RANGES = {"input_usd_per_mtok": (1, 2), "output_usd_per_mtok": (1, 2), "latency_s": (1, 2)}


def test_a_range_is_written_from_low_to_high():
    with pytest.raises(ValidationError, match="lower end first"):
        TierSettings(name="x", **RANGES | {"latency_s": (2, 1)})


def test_there_are_four_classes_unless_others_are_set():
    assert [tier.name for tier in EconomicsSettings().tiers] == ["7B", "70B", "200B+", "frontier"]
    assert EconomicsSettings(tiers=()).tiers == ()


@pytest.mark.parametrize(
    ("tier", "model", "upstream"),
    [
        ("7B", "llama-3.1-8b-instant", "groq"),
        ("70B", "llama-3.3-70b-versatile", "groq"),
        ("200B+", "meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo", "together"),
        ("frontier", "gpt-5", "openai"),
    ],
)
def test_the_prices_of_models_that_are_named_are_in_their_range(tier, model, upstream):
    (ranges,) = [each for each in TIERS if each.name == tier]
    prices = GenaiPrices(clock=lambda: 1_760_000_000.0)
    for usage, (low, high) in (
        (Usage(1_000_000, 0), ranges.input_usd_per_mtok),
        (Usage(0, 1_000_000), ranges.output_usd_per_mtok),
    ):
        usd = prices.usd(model=model, upstream=upstream, usage=usage)
        assert usd is not None
        assert low <= round(usd, 6) <= high
