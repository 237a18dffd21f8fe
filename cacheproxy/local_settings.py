"""What can be set about models of one's own: the server that answers misses, the one that embeds, and distillation."""

from pydantic import PositiveFloat, PositiveInt

from cacheproxy.setting_types import Frozen, Price, Secret, Url


class EmbedderSettings(Frozen):
    """Where questions are embedded, if not in this process."""

    url: Url | None = None
    """Base URL with its /v1 of an embedding server: cacheproxy backend, text-embeddings-inference or another."""
    api_key: Secret | None = None
    """The key that it wants, if any."""
    window_tokens: PositiveInt = 256
    """Tokens that its model reads; a text that reaches them may have been cut, and is not compared."""


class LocalSettings(Frozen):
    """A server of one's own, which answers misses before the upstream is asked."""

    url: Url | None = None
    """Base URL with its /v1: cacheproxy backend, vLLM, SGLang ... Unset, there is none."""
    model: str = ""
    """What the local server calls its model; requests are sent with this name. Empty: with the one that they have."""
    models: tuple[str, ...] = ("*",)
    """The models, as callers name them, that it may answer for: names or patterns such as gpt-4o*."""
    anyone: bool = False
    """Serve callers whose credential no upstream has accepted lately. The local server asks for none."""
    api_key: Secret | None = None
    """The key that it wants, if any. Callers' own credentials are never sent to it."""
    connect_s: PositiveFloat = 1
    """Connecting to it; then the upstream is asked."""
    first_byte_s: PositiveFloat = 60
    """The first byte of its answer; then the upstream is asked."""
    usd_per_gpu_hour: Price = 0
    """What its machine costs, in USD per hour; with the speeds below it is the price of local tokens."""
    input_tokens_per_s: PositiveFloat = 10_000
    """Tokens of prompts that it reads per second when it is busy."""
    output_tokens_per_s: PositiveFloat = 1_000
    """Tokens that it generates per second, all answers together, when it is busy."""


class DistillSettings(Frozen):
    """Whose cached answers a model may be trained on."""

    consenting_tenants: tuple[str, ...] = ()
    """Tenants that agreed, as cacheproxy stats --by tenant names them; * is everybody. Unset, nothing is exported."""
