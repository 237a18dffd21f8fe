"""The simulated OpenAI embeddings API, after OpenAI's API reference."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import canonical
from cacheproxy.upstream.simulated import count_tokens, embedding
from cacheproxy.wire.asking import limit, required

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cacheproxy.jsontext import Json, JsonObject

_DIMENSIONS: Final[Mapping[str, int]] = {"text-embedding-3-large": 3072}
_DEFAULT_DIMENSION: Final = 1536
_MAX_INPUTS: Final = 2048


def embeddings(body: JsonObject) -> JsonObject:
    """The answer to ``POST /v1/embeddings``. Raises ``BadRequest``."""
    model = required(body, "model", str)
    inputs = _inputs(body.get("input"))
    dimension = limit(body, "dimensions") or _DIMENSIONS.get(model, _DEFAULT_DIMENSION)
    packed = body.get("encoding_format") == "base64"
    data = []
    tokens = 0
    for index, given in enumerate(inputs):
        text = given if isinstance(given, str) else canonical(given).decode()
        tokens += count_tokens(given) if isinstance(given, str) else len(given)
        vector = embedding(text, dimension)
        value = b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": value})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _inputs(given: Json) -> list[str | list[int]]:
    """One input or a list of them; an input is a text or a list of token numbers."""
    inputs = given if isinstance(given, list) and not all(isinstance(item, int) for item in given) else [given]
    if len(inputs) > _MAX_INPUTS or not all(isinstance(item, str | list) and item for item in inputs):
        raise BadRequest("'input' must be a string, a list of strings, or tokens, and none of them empty.")
    return inputs
