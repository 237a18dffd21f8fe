"""A simulated language model, pure: what it says follows from what it is asked, and from nothing else.

The same prompt gives the same words whatever the API and stream mode, other prompts give other words, and both sides
are counted in tokens. ``knowledge`` maps questions to classes: questions of one class get that class's answer, each in
words of its own, and the answer begins with the class in brackets. So whoever reads an answer can tell whether it was
given to a question of its class, which is how a replay finds wrong hits. ``rewording`` has answers that share no
sentence, as those of a real model would.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from cacheproxy.jsontext import dump
from cacheproxy.upstream.conforming import conforming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import Vector

_PIECE: Final = re.compile(r"\s*\S{1,6}|\s+")
"""One token, as far as this model is concerned: about as long as those of real tokenizers, and found without one."""
_MARKER: Final = re.compile(r"\[([^\[\]\s]+)\] ")
_QUOTED: Final = 160
"""How many characters of a question or tool result an answer repeats."""


Wording: TypeAlias = "Callable[[str | None, str, int], str]"
"""Words an answer from the question's class, None where it has none, the question, and a seed."""


class Finish(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool-calls"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call, with the JSON schema of its arguments."""

    name: str
    schema: JsonObject


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is asked, whatever the API."""

    model: str
    question: str
    """The last user turn's text."""
    context: str
    """Everything that the answer depends on, the question included."""
    input_tokens: int
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    """``auto``, ``none``, ``required`` or the name of a tool."""
    tool_result: str | None = None
    """Set when the conversation ends in a tool's result."""
    schema: JsonObject | None = None
    """The answer is JSON that conforms to this."""
    max_tokens: int | None = None
    thinks: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: ``arguments`` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Generation:
    """What the model says: thoughts first, then either text or tool calls. Texts are cut into tokens."""

    finish: Finish
    pieces: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    thoughts: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)

    @property
    def output_tokens(self) -> int:
        """All tokens that were generated."""
        calls = sum(count_tokens(call.name) + count_tokens(call.arguments) for call in self.calls)
        return len(self.thoughts) + len(self.pieces) + calls


def pieces_of(text: str) -> tuple[str, ...]:
    """A text cut into tokens; joined they are the text."""
    return tuple(_PIECE.findall(text))


def count_tokens(text: str) -> int:
    """How many tokens a text is."""
    return len(_PIECE.findall(text))


def knowledge_of(questions: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Pairs of a question and its class, as ``generate`` looks them up."""
    return {normal(question): label for question, label in questions}


def marker(text: str) -> str | None:
    """The class that an answer begins with; None when it names none."""
    found = _MARKER.match(text)
    return found[1] if found else None


def named(label: str | None, question: str, seed: int) -> str:
    """The usual ``Wording``: the class in brackets and the sentence of the class, between phrases of the seed's choice.

    A question without a class is repeated, and answered with a number.
    """
    opening, closing = _pick(_OPENINGS, seed), _pick(_CLOSINGS, seed // 64)
    if label is not None:
        return f"[{label}] {opening} {_canonical(label)} {closing}"
    asked = " ".join(question.split())[:_QUOTED].replace("[", "(").replace("]", ")")
    return f"{opening} To “{asked}” this simulated model answers {seed % 1_000_000}. {closing}"


def generate(
    prompt: Prompt,
    knowledge: Mapping[str, str],
    *,
    choice: int = 0,
    wording: Wording = named,
    variation: str = "",
) -> Generation:
    """The model's answer; ``choice`` numbers the alternatives to one prompt.

    ``wording`` is how it speaks, and ``variation`` whatever else should change the words.
    """
    seed = seed_of(prompt.model, prompt.context, str(choice), *filter(None, (variation,)))
    label = knowledge.get(normal(prompt.question))
    thoughts = pieces_of(f"The question is: {prompt.question[:_QUOTED]}") if prompt.thinks else ()
    if calls := _calls(prompt, label, seed):
        return Generation(Finish.TOOL_CALLS, calls=calls, thoughts=thoughts)
    pieces = pieces_of(_words(prompt, label, seed, wording))
    if prompt.max_tokens is None or len(thoughts) + len(pieces) <= prompt.max_tokens:
        return Generation(Finish.STOP, pieces, thoughts=thoughts)
    thoughts = thoughts[: prompt.max_tokens]
    return Generation(Finish.LENGTH, pieces[: prompt.max_tokens - len(thoughts)], thoughts=thoughts)


def embedding(text: str, dimension: int) -> Vector:
    """A unit vector of this dimension that follows from the text; different texts are near to orthogonal."""
    vector = np.random.default_rng(seed_of(text)).standard_normal(dimension).astype(np.float32)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


def normal(question: str) -> str:
    """A question as it is looked up: letter case and spacing do not matter."""
    return " ".join(question.split()).casefold()


def seed_of(*parts: str) -> int:
    """A number that follows from these texts, the same in every process."""
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return int.from_bytes(digest.digest())


def _calls(prompt: Prompt, label: str | None, seed: int) -> tuple[ToolCall, ...]:
    """The tools that the question names are called, all of them at once; a required call falls to the first tool."""
    question = prompt.question.casefold()
    named = [
        tool for tool in prompt.tools if tool.name.casefold() in question or tool.name.replace("_", " ") in question
    ]
    match prompt.tool_choice:
        case "none":
            chosen: Sequence[Tool] = ()
        case "auto":
            chosen = named if prompt.tool_result is None else ()
        case "required":
            chosen = named or prompt.tools[:1]
        case name:
            chosen = [tool for tool in prompt.tools if tool.name == name]
    text = f"[{label}]" if label else f"example {seed % 1000}"
    return tuple(ToolCall(tool.name, dump(conforming(tool.schema, text)).decode()) for tool in chosen)


def _words(prompt: Prompt, label: str | None, seed: int, wording: Wording) -> str:
    if prompt.tool_result is not None:
        said = f"The tool answered: {prompt.tool_result[:_QUOTED]}"
        words = f"[{label}] {said}" if label else said
    else:
        words = wording(label, prompt.question, seed)
    return words if prompt.schema is None else dump(conforming(prompt.schema, words)).decode()


def _canonical(label: str) -> str:
    """The one sentence that all answers of a class share."""
    number = seed_of(label)
    topic = " ".join(re.findall(r"[^\W_]+", label)).lower()
    return (
        f"For anything about {topic}, open the section “{topic}” in the help pages and follow steps 1 to "
        f"{2 + number % 5}; it takes about {2 + number // 5 % 9} working days."
    )


def _pick(phrases: Sequence[str], number: int) -> str:
    return phrases[number % len(phrases)]


_OPENINGS: Final = (
    "Good question.",
    "Happy to help.",
    "Here is how this works.",
    "Thanks for getting in touch.",
    "That is quickly answered.",
    "Let me explain.",
    "No need to worry.",
    "I can see why you ask.",
)
_CLOSINGS: Final = (
    "Is there anything else?",
    "Let me know if it does not work.",
    "Write again at any time.",
    "That should settle it.",
    "I hope this helps.",
    "You can come back to this later.",
    "Ask support if you get stuck.",
    "Have a good day.",
)
