"""The table of cached APIs: path -> dialect. Everything else is passed through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cacheproxy.wire.anthropic_messages import AnthropicMessages
from cacheproxy.wire.openai_chat import OpenAIChat
from cacheproxy.wire.openai_completions import OpenAICompletions
from cacheproxy.wire.openai_embeddings import OpenAIEmbeddings
from cacheproxy.wire.openai_responses import OpenAIResponses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cacheproxy.wire.dialect import Dialect

EMBEDDINGS: Final = OpenAIEmbeddings()

DIALECTS: Final[Mapping[str, Dialect]] = {
    "/v1/chat/completions": OpenAIChat(),
    "/v1/completions": OpenAICompletions(),
    "/v1/responses": OpenAIResponses(),
    "/v1/embeddings": EMBEDDINGS,
    "/v1/messages": AnthropicMessages(),
}


def dialect_for_errors(headers: Mapping[str, str]) -> Dialect:
    """Whose error shape a caller understands before its path was."""
    return DIALECTS["/v1/messages" if "anthropic-version" in headers else "/v1/chat/completions"]
