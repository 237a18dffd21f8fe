"""The table of cached APIs: path -> dialect. Everything else is passed through."""

from __future__ import annotations

import re
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
_MESSAGES: Final = "/v1/messages"

DIALECTS: Final[Mapping[str, Dialect]] = {
    "/v1/chat/completions": OpenAIChat(),
    "/v1/completions": OpenAICompletions(),
    "/v1/responses": OpenAIResponses(),
    "/v1/embeddings": EMBEDDINGS,
    _MESSAGES: AnthropicMessages(),
}

_AZURE: Final = re.compile(r"/openai/(?:deployments/[^/]+|v1)(/.+)")
"""Azure's OpenAI resources have the same APIs below a deployment, or below a version of their own.

https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""


def plain_path(path: str) -> str:
    """Where an API is in OpenAI's own words: ``/v1/...``, wherever a provider has it."""
    azure = _AZURE.fullmatch(path)
    return f"/v1{azure[1]}" if azure else path


def dialect_of(path: str) -> Dialect | None:
    """The dialect of the API at a path; None where nothing is cached."""
    return DIALECTS.get(path) or DIALECTS.get(plain_path(path))


def dialect_for_errors(headers: Mapping[str, str], path: str = "") -> Dialect:
    """Whose error shape a caller understands, as far as its headers and its path tell."""
    anthropic = "anthropic-version" in headers or path.endswith(_MESSAGES) or f"{_MESSAGES}/" in path
    return DIALECTS[_MESSAGES if anthropic else "/v1/chat/completions"]
