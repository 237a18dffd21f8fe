"""What things are called: OpenTelemetry's conventions for HTTP and for GenAI, and our own names beside them. Pure.

The GenAI names are those of github.com/open-telemetry/semantic-conventions-genai, which are still in development;
``gen_ai.provider.name`` was ``gen_ai.system`` up to version 1.36. They are written out here, since the Python package
that holds them marks them as deprecated since they moved there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cacheproxy.events import Served

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
STREAM: Final = "gen_ai.request.stream"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a name, no secret
ERROR: Final = "error.type"
METHOD: Final = "http.request.method"
STATUS_CODE: Final = "http.response.status_code"
PATH: Final = "url.path"
SERVER: Final = "server.address"
PORT: Final = "server.port"

TOKENS_USED: Final = "gen_ai.client.token.usage"
CALL_DURATION: Final = "gen_ai.client.operation.duration"
REQUEST_DURATION: Final = "gen_ai.server.request.duration"
TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
SECOND_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
"""Both as the conventions advise."""

CHAT: Final = "chat"
_OPERATIONS: Final = {
    "openai-completions": "text_completion",
    "openai-embeddings": "embeddings",
}
"""By dialect; all others hold conversations."""

_PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""By upstream, where the conventions have another name for it."""
_UNNAMED: Final = "default"

Attributes = dict[str, "str | bool | int | float"]


def operation(dialect: str) -> str:
    """What a dialect's requests ask for."""
    return _OPERATIONS.get(dialect, CHAT)


def provider(upstream: str, dialect: str) -> str:
    """Who answers. An upstream without a name of its own is told by the API that it speaks."""
    if upstream == _UNNAMED:
        return "anthropic" if dialect.startswith("anthropic") else "openai"
    return _PROVIDERS.get(upstream, upstream)


def of_served(event: Served) -> Attributes:
    """What a request's span says when it ends. Tokens are those that were paid for: a hit has none."""
    told: Mapping[str, str | bool | int | float | None] = {
        STATUS_CODE: event.http_status,
        RESPONSE_MODEL: event.model,
        INPUT_TOKENS: event.usage.input_tokens or None,
        OUTPUT_TOKENS: event.usage.output_tokens or None,
        "cacheproxy.request_id": event.request_id,
        "cacheproxy.tenant": event.tenant,
        "cacheproxy.status": event.status.value,
        "cacheproxy.layer": event.layer and event.layer.value,
        "cacheproxy.reason": event.reason and event.reason.value,
        "cacheproxy.entry": event.entry_id,
        "cacheproxy.similarity": event.similarity,
        "cacheproxy.cost_usd": None if event.unpriced else event.cost_usd,
        "cacheproxy.saved_usd": None if event.unpriced else event.saved_usd,
        "cacheproxy.saved_tokens": event.saved_usage.input_tokens + event.saved_usage.output_tokens or None,
    }
    return {name: value for name, value in told.items() if value is not None and value != ""}
