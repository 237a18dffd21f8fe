"""OpenAI's embeddings API over the proxy's own embedder, so that several proxies share one GPU.

Nothing is cut: an input over the model's window is refused, since its vector would not stand for it.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import BadRequest
from cacheproxy.wire.asking import only
from cacheproxy.wire.openai_embeddings import inputs

if TYPE_CHECKING:
    from cacheproxy.embed.local import LocalEmbedder
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import Vector

_MOST_INPUTS: Final = 2048
_AT_A_TIME: Final = 256
"""Of one request, so that it does not fill the embedder's queue by itself."""
_KNOWN: Final = frozenset({"model", "input", "encoding_format", "dimensions", "user"})


async def embedded(body: JsonObject, embedder: LocalEmbedder) -> JsonObject:
    """The answer to ``POST /v1/embeddings``. Raises ``BadRequest``, ``TurnTooLong`` or ``Overloaded``."""
    only(body, _KNOWN, but={})
    texts = inputs(body).values
    if len(texts) > _MOST_INPUTS:
        raise BadRequest(f"'input' may hold {_MOST_INPUTS} texts at most.")
    if not all(isinstance(text, str) and text for text in texts):
        raise BadRequest("'input' must be texts, none of them empty: this server does not read token numbers.")
    if body.get("dimensions") not in (None, embedder.dimension):
        raise BadRequest(f"'dimensions' is {embedder.dimension} with this model: leave it out.")
    packed = body.get("encoding_format") == "base64"
    vectors: list[Vector] = []
    for start in range(0, len(texts), _AT_A_TIME):
        some = texts[start : start + _AT_A_TIME]
        vectors += await asyncio.gather(*(embedder.embed(str(text)) for text in some))
    tokens = sum(embedder.count_tokens(str(text)) for text in texts)
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": embedder.model, "usage": usage}
