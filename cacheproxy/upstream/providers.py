"""Well-known LLM APIs as data: where they are and how they take a key.

Base URLs are those of the providers' own documentation, version path included, so that a path behind ``/v1`` of this
proxy is appended to them. All speak the OpenAI protocol there, Anthropic its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Provider:
    """One API. A key goes into the header ``key_header``, written as ``key_format`` says."""

    name: str
    base_url: str
    key_header: str = "Authorization"
    key_format: str = "Bearer {key}"

    def credential(self, key: str) -> tuple[str, str]:
        """The header that carries ``key``."""
        return self.key_header, self.key_format.format(key=key)


_ALL: Final = (
    Provider("openai", "https://api.openai.com/v1"),
    Provider("anthropic", "https://api.anthropic.com/v1", key_header="x-api-key", key_format="{key}"),
    Provider("cerebras", "https://api.cerebras.ai/v1"),
    Provider("cohere", "https://api.cohere.ai/compatibility/v1"),
    Provider("deepinfra", "https://api.deepinfra.com/v1/openai"),
    Provider("deepseek", "https://api.deepseek.com/v1"),
    Provider("fireworks", "https://api.fireworks.ai/inference/v1"),
    Provider("gemini", "https://generativelanguage.googleapis.com/v1beta/openai"),
    Provider("groq", "https://api.groq.com/openai/v1"),
    Provider("huggingface", "https://router.huggingface.co/v1"),
    Provider("mistral", "https://api.mistral.ai/v1"),
    Provider("nvidia", "https://integrate.api.nvidia.com/v1"),
    Provider("openrouter", "https://openrouter.ai/api/v1"),
    Provider("perplexity", "https://api.perplexity.ai"),
    Provider("together", "https://api.together.xyz/v1"),
    Provider("xai", "https://api.x.ai/v1"),
    # Servers on one's own machine, at the ports that they take by default.
    Provider("llamacpp", "http://127.0.0.1:8080/v1"),
    Provider("lmstudio", "http://127.0.0.1:1234/v1"),
    Provider("ollama", "http://127.0.0.1:11434/v1"),
    Provider("sglang", "http://127.0.0.1:30000/v1"),
    Provider("vllm", "http://127.0.0.1:8000/v1"),
)

PROVIDERS: Final[Mapping[str, Provider]] = {provider.name: provider for provider in _ALL}
"""Presets by name, the names being those of the path prefixes."""
