"""What can be set about money beyond prices: what a request earns, and the classes of models to compare with."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from cacheproxy.setting_types import Frozen, Price


def _in_order(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"{span[0]} is over {span[1]}: write the lower end first")
    return span


Range = Annotated[tuple[Price, Price], AfterValidator(_in_order)]


class TierSettings(Frozen):
    """A class of models, from its cheapest and quickest to its dearest and slowest."""

    name: Annotated[str, Field(min_length=1)]
    """What it is called."""
    input_usd_per_mtok: Range
    """USD per million tokens of input: [lowest, highest]."""
    output_usd_per_mtok: Range
    """The same of output."""
    latency_s: Range
    """Seconds for a whole answer: [lowest, highest]."""


TIERS: Final = (
    TierSettings(name="7B", input_usd_per_mtok=(0.05, 0.25), output_usd_per_mtok=(0.08, 0.25), latency_s=(0.5, 2)),
    TierSettings(name="70B", input_usd_per_mtok=(0.59, 0.88), output_usd_per_mtok=(0.79, 1.2), latency_s=(1, 5)),
    TierSettings(name="200B+", input_usd_per_mtok=(0.22, 3.5), output_usd_per_mtok=(0.88, 3.5), latency_s=(2, 10)),
    TierSettings(name="frontier", input_usd_per_mtok=(1.25, 15), output_usd_per_mtok=(10, 75), latency_s=(2, 30)),
)
"""Typical ranges, to be edited. Prices are those of hosted models of each class in genai-prices: Llama 3.1 8B at Groq
and Mistral 7B at Mistral; Llama 3.3 70B at Groq, Together and Cerebras; Qwen3 235B at Fireworks and Llama 3.1 405B at
Together; GPT-5 at OpenAI and Claude Opus 4.1 at Anthropic. Latencies are orders of magnitude and not measured."""


class EconomicsSettings(Frozen):
    """What the economics page reckons with."""

    revenue_per_request_usd: Price | None = None
    """What a request earns, in USD; unset, no margin is told."""
    tiers: tuple[TierSettings, ...] = TIERS
    """Classes of models to compare with: name, input_usd_per_mtok, output_usd_per_mtok, latency_s, as [low, high]."""
