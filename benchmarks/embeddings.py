"""How fast questions are embedded, by how many come at a time, against ``SentenceTransformer.encode``.

    python benchmarks/embeddings.py [--device cuda] [--model NAME] [--json figures.json]

Our embedder computes in bfloat16 on a GPU, ``encode`` in float32; how far their vectors lie apart is told, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

import numpy as np
import torch
from backend import Figures, device_name
from sentence_transformers import SentenceTransformer

from cacheproxy.embed.local import DEFAULT_MODEL, _folder, open_local
from cacheproxy.lab.questions import SAMPLE, read_questions

SIZES = (1, 8, 64, 256)
COMPARED = 256


async def measure(figures: Figures, model: str, device: str) -> None:
    """Texts per second by batch size, and the lowest cosine between both."""
    texts = [question.text for question in read_questions(SAMPLE)]
    embedder = await open_local(model, device=device)
    plain = SentenceTransformer(str(_folder(embedder.model)), device=embedder.device)
    for size in SIZES:
        some = texts[: max(size * 2, 64)]

        async def ours(some: list[str] = some, size: int = size) -> None:
            for start in range(0, len(some), size):
                await asyncio.gather(*map(embedder.embed, some[start : start + size]))

        await ours()
        started = time.perf_counter()
        await ours()
        rate = len(some) / (time.perf_counter() - started)
        plain.encode(some, batch_size=size, show_progress_bar=False)
        started = time.perf_counter()
        for start in range(0, len(some), size):
            plain.encode(some[start : start + size], batch_size=size, show_progress_bar=False)
        raw = len(some) / (time.perf_counter() - started)
        figures.add(
            "embeddings", batch=size, texts_per_s=round(rate, 1), plain_encode=round(raw, 1), share=round(rate / raw, 2)
        )
    compared = texts[:COMPARED]
    own = np.stack(await asyncio.gather(*map(embedder.embed, compared)))
    cosines = (own * plain.encode(compared, normalize_embeddings=True, show_progress_bar=False)).sum(axis=1)
    figures.add("embeddings alike", texts=len(cosines), lowest_cosine=round(float(cosines.min()), 5))
    await embedder.aclose()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures = Figures()
    asyncio.run(measure(figures, options.model, options.device))
    if options.json:
        told = {"device": device_name(options.device), "figures": figures}
        options.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
