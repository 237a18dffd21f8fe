"""Questions to replay: read from JSON lines, and drawn from a list so that some come again and again."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.errors import BadRequest
from cacheproxy.jsontext import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cacheproxy.jsontext import Json, JsonObject

SAMPLE: Final = Path(__file__).parent.parent / "data" / "banking77_sample.jsonl"
"""The bundled sample of BANKING77, see the README beside it."""

_TEXT_FIELDS: Final = ("text", "question", "prompt")
_CLASS_FIELDS: Final = ("class", "intent")


@dataclass(frozen=True, slots=True)
class Question:
    """One question. Questions of the same class may share an answer."""

    text: str
    label: str | None = None
    """Its class, where that is known."""
    at_s: float | None = None
    """When it arrived, on any clock that runs in seconds."""


def read_questions(path: Path) -> list[Question]:
    """The questions in a file of JSON lines, gzip or not, in the order of the file.

    A line is an object with ``text``, ``question`` or ``prompt``, and may have ``class`` or ``intent``, and ``at``.
    Or it holds a whole class: ``class`` or ``intent``, and a list of its ``questions``.
    Raises ``BadRequest``, which names the line, for anything else and for a file that cannot be read or is empty.
    """
    return [
        question for number, fields in json_lines(path) for question in _questions_in(fields, f"{path}, line {number}")
    ]


def json_lines(path: Path) -> list[tuple[int, JsonObject]]:
    """The objects in a file of JSON lines, gzip or not, with their line numbers. Raises ``BadRequest``."""
    try:
        raw = path.read_bytes()
        lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines()
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "it is no gzip file"
        raise BadRequest(f"Cannot read the questions in {path}: {reason}.") from error
    objects = [
        (number, _object(line, f"{path}, line {number}")) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not objects:
        raise BadRequest(f"There are no questions in {path}.")
    return objects


def _questions_in(fields: JsonObject, where: str) -> list[Question]:
    """The question of a line, or all of a class."""
    texts, label = fields.get("questions"), _first(fields, _CLASS_FIELDS)
    if _first(fields, _TEXT_FIELDS) is not None or not isinstance(texts, list):
        return [question_in(fields, where)]
    if label is None or not all(isinstance(text, str) and text.strip() for text in texts):
        raise BadRequest(f"{where}: 'questions' must be questions of one 'class' or 'intent'.")
    return [Question(text, str(label)) for text in texts]


def question_in(fields: JsonObject, where: str) -> Question:
    """The question in one line's object. Raises ``BadRequest``."""
    text = _first(fields, _TEXT_FIELDS)
    if not isinstance(text, str) or not text.strip():
        raise BadRequest(f"{where}: there is no question in 'text', 'question' or 'prompt'.")
    label = _first(fields, _CLASS_FIELDS)
    at = fields.get("at")
    if at is not None and (isinstance(at, bool) or not isinstance(at, int | float)):
        raise BadRequest(f"{where}: 'at' must be a number of seconds.")
    return Question(text, None if label is None else str(label), None if at is None else float(at))


def classes_of(questions: Iterable[Question]) -> list[tuple[str, str]]:
    """The questions whose class is known, with it: what ``knowledge_of`` takes."""
    return [(question.text, question.label) for question in questions if question.label is not None]


def draw(questions: Sequence[Question], count: int, *, zipf: float, seed: int) -> list[Question]:
    """``count`` questions drawn with replacement: the one of rank r, in a shuffled order, as often as r ** -zipf.

    ``zipf`` 0 draws all equally often; real traffic is nearer to 0.7 ... 1. Arrival times are left out.
    """
    chance = np.random.default_rng(seed)
    weights = np.arange(1, len(questions) + 1, dtype=np.float64) ** -zipf
    ranks = chance.choice(len(questions), size=count, p=weights / weights.sum())
    order = chance.permutation(len(questions))
    return [Question(questions[order[rank]].text, questions[order[rank]].label) for rank in ranks]


def _object(line: bytes, where: str) -> JsonObject:
    try:
        fields = parse(line)
    except ValueError as error:
        raise BadRequest(f"{where}: this is not JSON ({error}).") from error
    if not isinstance(fields, dict):
        raise BadRequest(f"{where}: a line must be a JSON object.")
    return fields


def _first(fields: dict[str, Json], names: Iterable[str]) -> Json:
    return next((fields[name] for name in names if fields.get(name) is not None), None)
