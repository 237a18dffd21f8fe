"""Answers that say the same in other words: what ``cacheproxy simulate --answers`` speaks. Pure and seeded.

Every class has facts of its own, drawn from its name: a code word, a number with its unit, and three more out of a
price, a place, a day, a rule and a limit. An answer to a question of the class states all of them, in an order, in
words and with courtesies that the seed chooses. So two answers of a class are hardly ever equal as strings and always
equal in what they say; answers of two classes look alike and state other facts. The code word tells whoever knows the
classes which one an answer belongs to.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.upstream.simulated import normal, seed_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODE: Final = re.compile(r"\b[A-Z][a-z]{7}-\d{4}\b")
_SYLLABLES: Final = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_MORE_FACTS: Final = 3
_LONGEST_TOPIC: Final = 80


def code_word(label: str) -> str:
    """The code word of a class, as its answers name it: ``Tamirovu-4821``."""
    chance = np.random.default_rng(seed_of("code word", label))
    letters = "".join(_SYLLABLES[place] for place in chance.integers(len(_SYLLABLES), size=4))
    return f"{letters.capitalize()}-{chance.integers(1000, 10_000)}"


def code_word_in(text: str) -> str | None:
    """The code word that an answer names; None when there is none."""
    found = _CODE.search(text)
    return found[0] if found else None


def reworded(label: str | None, question: str, seed: int) -> str:
    """An answer of the class, in the words that the seed chooses; a question without one is a class of its own."""
    chance = np.random.default_rng(seed)
    facts = _facts(normal(question) if label is None else label)
    told = [_pick(templates, chance).format(**values) for templates, values in facts]
    said = (told[place] for place in chance.permutation(len(told)))
    return " ".join(filter(None, (_pick(_OPENINGS, chance), *said, _pick(_CLOSINGS, chance))))


def _pick(choices: Sequence[str], chance: np.random.Generator) -> str:
    return choices[int(chance.integers(len(choices)))]


def _facts(label: str) -> list[tuple[Sequence[str], dict[str, str]]]:
    """What the class's answers state: for each fact its wordings, and what to put in."""
    chance = np.random.default_rng(seed_of("facts", label))

    def number(low: int, high: int) -> str:
        return str(chance.integers(low, high))

    values = {
        "topic": " ".join(re.findall(r"[^\W_]+", label)).lower()[:_LONGEST_TOPIC],
        "code": code_word(label),
        "duration": f"{number(2, 60)} {_pick(_SPANS, chance)}",
        "price": f"{number(1, 90)}.{number(10, 100)} euros",
        "place": _pick(_PLACES, chance),
        "day": _pick(_DAYS, chance),
        "limit": number(3, 400),
    }
    optional = (_PRICE, _PLACE, _DAY, _RULES[int(chance.integers(len(_RULES)))], _LIMIT)
    chosen = chance.permutation(len(optional))[:_MORE_FACTS]
    return [(templates, values) for templates in (_CODED, _DURATION, *(optional[place] for place in chosen))]


_SPANS: Final = ("minutes", "hours", "working days")
_PLACES: Final = (
    "the security menu",
    "the payments tab",
    "your profile page",
    "the help desk",
    "a branch office",
    "the card overview",
    "the document archive",
    "the message centre",
    "the partner portal",
    "the settings screen",
)
_DAYS: Final = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")

_CODED: Final = (
    "For {topic}, quote the code {code}.",
    "The code to give about {topic} is {code}.",
    "Whenever it is about {topic}, the reference to use is {code}.",
    "Please mention {code} as your reference for {topic}.",
    "Use {code} as the code for anything on {topic}.",
)
_DURATION: Final = (
    "It takes {duration}.",
    "You should expect it to be done within {duration}.",
    "The whole thing needs {duration}.",
    "Count on {duration} until it is finished.",
    "This is usually completed in {duration}.",
)
_PRICE: Final = (
    "The fee is {price}.",
    "You are charged {price} for it.",
    "It costs {price}.",
    "A charge of {price} applies.",
    "We bill {price} for this.",
)
_PLACE: Final = (
    "You find it in {place}.",
    "Look for it in {place}.",
    "It is handled in {place}.",
    "Go to {place} to do it.",
    "Just head over to {place}.",
)
_DAY: Final = (
    "Requests are worked on only on {day}.",
    "Our team deals with it on {day} only.",
    "It is processed on {day} and at no other time.",
    "Only on {day} does the team look at requests.",
)
_LIMIT: Final = (
    "You may do this up to {limit} times a year.",
    "The limit is {limit} times per year.",
    "At most {limit} times a year are permitted.",
    "No more than {limit} times each year are allowed.",
)
_RULES: Final = (
    (
        "Afterwards it can be undone.",
        "You can still reverse it later.",
        "It is possible to take it back afterwards.",
        "Reversing it later is possible.",
    ),
    (
        "Afterwards it cannot be undone.",
        "You cannot reverse it later.",
        "It is not possible to take it back afterwards.",
        "Reversing it later is not possible.",
    ),
    (
        "Your signature is needed.",
        "You have to sign for it.",
        "We need you to sign it.",
        "It only works with your signature.",
    ),
)
_OPENINGS: Final = (
    "",
    "Good question.",
    "Happy to help!",
    "Here is how this works.",
    "Thanks for getting in touch.",
    "Let me explain.",
    "Certainly, I can tell you more.",
)
_CLOSINGS: Final = (
    "",
    "Is there anything else?",
    "I hope this helps.",
    "Let me know if you have more questions.",
    "Have a good day.",
    "Feel free to write again at any time.",
)
