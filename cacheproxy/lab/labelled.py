"""Questions of which is known which belong together: pairs, or classes. Read from JSON lines, gzip or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cacheproxy.errors import BadRequest
from cacheproxy.lab.questions import json_lines, question_in
from cacheproxy.lab.streams import Domain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cacheproxy.jsontext import JsonObject


class Pair(NamedTuple):
    """Two questions, and whether one answer is right for both."""

    a: str
    b: str
    same: bool


Labelled: TypeAlias = "list[Pair] | Domain"


def read_labelled(path: Path) -> Labelled:
    """What a file holds, told by its first line.

    A line is one of these:

    - ``{"a", "b", "same"}``: a pair;
    - ``{"class", "questions"}``: a class with all its questions;
    - ``{"text", "class" or "intent"}``: a question and its class; it belongs to none where that is missing.

    Raises ``BadRequest``, which names the line, for anything else.
    """
    rows = [(f"{path}, line {number}", row) for number, row in json_lines(path)]
    if "same" in rows[0][1]:
        return [_pair(row, where) for where, row in rows]
    classes: dict[str, list[str]] = {}
    filler: list[str] = []
    for where, row in rows:
        if "questions" in row:
            classes.setdefault(str(row.get("class")), []).extend(_questions(row, where))
            continue
        question = question_in(row, where)
        if question.label is None:
            filler.append(question.text)
        else:
            classes.setdefault(question.label, []).append(question.text)
    filler = sorted(set(filler))
    known = sum(map(len, classes.values()))
    return Domain(classes, filler, len(filler) / (known + len(filler)))


def texts_of(labelled: Labelled) -> Sequence[str]:
    """The texts to embed: of the first pair's two, then of the second's and so on, or of the domain, each once."""
    return labelled.texts if isinstance(labelled, Domain) else [text for pair in labelled for text in (pair.a, pair.b)]


def _pair(row: JsonObject, where: str) -> Pair:
    a, b, same = row.get("a"), row.get("b"), row.get("same")
    if not isinstance(a, str) or not isinstance(b, str) or same not in (0, 1):
        raise BadRequest(f"{where}: a pair has texts 'a' and 'b', and 'same' is 0 or 1.")
    return Pair(a, b, bool(same))


def _questions(row: JsonObject, where: str) -> list[str]:
    questions = row["questions"]
    if row.get("class") is None or not isinstance(questions, list) or not all(isinstance(q, str) for q in questions):
        raise BadRequest(f"{where}: a class has a 'class' and a list of texts, 'questions'.")
    return questions
