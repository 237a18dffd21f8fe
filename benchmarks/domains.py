"""What the benchmarks of the decision stand on: public questions as domains, and their embeddings, computed once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cacheproxy.embed.local import DEFAULT_MODEL, open_local
from cacheproxy.lab.corpus import comparing, embed_all
from cacheproxy.lab.labelled import read_labelled
from cacheproxy.lab.questions import read_questions
from cacheproxy.lab.streams import Domain
from cacheproxy.verify.late_interaction import LateInteraction

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cacheproxy.lab.corpus import Compare

FILES = {
    "clinc150": ("clinc150.jsonl.gz", "clinc150_oos.jsonl.gz", 0.1),
    "banking77": ("banking77.jsonl.gz", None, 0.0),
    "qqp": ("qqp_classes.jsonl.gz", "qqp_singles.jsonl.gz", 0.5),
}
"""Classes, questions that belong to none, and their share of the requests."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where the questions and their embeddings are."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the question files")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="where embeddings are kept: texts.json and E.npy, outside the tree"
    )


def read_domain(name: str, data: Path) -> Domain:
    """One of ``FILES``."""
    classes, filler, share = FILES[name]
    read = read_labelled(data / classes)
    assert isinstance(read, Domain)
    texts = [] if filler is None else sorted({question.text for question in read_questions(data / filler)})
    return Domain(read.classes, texts, share)


class Embeddings:
    """Vectors of texts by the real model. With a folder they are computed once and kept there."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._texts: list[str] = []
        self._vectors: NDArray[np.float32] | None = None
        if folder is not None and (folder / "texts.json").is_file():
            self._texts = json.loads((folder / "texts.json").read_text())
            self._vectors = np.load(folder / "E.npy", mmap_mode="r")
        self._place = {text: place for place, text in enumerate(self._texts)}

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (texts, dimension)."""
        self._compute(sorted({text for text in texts if text not in self._place}, key=len))
        assert self._vectors is not None
        return np.ascontiguousarray(self._vectors[[self._place[text] for text in texts]])

    def _compute(self, missing: Sequence[str]) -> None:
        if not missing:
            return
        print(f"embedding {len(missing):,} texts")
        fresh = asyncio.run(_embedded(missing))
        self._vectors = fresh if self._vectors is None else np.concatenate([self._vectors, fresh])
        self._place |= {text: len(self._texts) + place for place, text in enumerate(missing)}
        self._texts += missing
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            np.save(self._folder / "E.npy", self._vectors)
            (self._folder / "texts.json").write_text(json.dumps(self._texts))


class Tokens:
    """Late interaction by the real model. Tokens of a text are computed when it is first compared, and kept."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        embedder = self._loop.run_until_complete(open_local(DEFAULT_MODEL, token_bytes=2**31))
        self._verifier = LateInteraction(embedder)

    def compare(self, texts: Sequence[str]) -> Compare:
        """For a corpus of these texts."""
        return comparing(self._verifier, texts, self._loop.run_until_complete)


async def _embedded(texts: Sequence[str]) -> NDArray[np.float32]:
    embedder = await open_local(DEFAULT_MODEL)
    try:
        return await embed_all(embedder, texts)
    finally:
        await embedder.aclose()


def split(text: str, known: Iterable[str]) -> list[str]:
    """The names in a comma-separated list. Raises ``ValueError`` for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := set(names) - set(known):
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return names
