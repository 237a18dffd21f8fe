"""What a prompt says, as the lexical guards read it: words, quantities, dates, names, code.

``profile`` reads a text once; each piece is worked out when a guard first asks for it. Pure, deterministic, and
linear in the text's length; any text has a profile.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from cacheproxy.core import guard_tables as tables
from cacheproxy.core.guard_words import (
    ALTERNATIVES,
    COUNTRIES,
    GIVEN_NAMES,
    LANGUAGES,
    OPPOSITES,
    ORGANISATIONS,
    PLACES,
)
from cacheproxy.core.lexicon import Lexicon
from cacheproxy.core.quantities import Quantities, Token, read_quantities

if TYPE_CHECKING:
    from collections.abc import Mapping

OPPOSITES_LEXICON: Final = Lexicon(OPPOSITES, inflect=True)
ALTERNATIVES_LEXICON: Final = Lexicon(ALTERNATIVES)
NAMES_LEXICON: Final = Lexicon((COUNTRIES, PLACES, GIVEN_NAMES, ORGANISATIONS))
LANGUAGES_LEXICON: Final = Lexicon((LANGUAGES,))

_STRAIGHT: Final = str.maketrans("\u2018\u2019\u201c\u201d\u2212\u00ab\u00bb", '\'\'""-""')
_BACKTICKED: Final = re.compile(r"```[^`]*```|`[^`\n]{1,200}`")
_QUOTED: Final = re.compile(r'"([^"\n]{1,200})"')
_TOKEN: Final = re.compile(
    r"(?P<iso>\d{4}-\d\d?-\d\d?)(?!\d)"
    r"|(?P<slashed>\d\d?/\d\d?/(?:\d{4}|\d\d)|\d\d?\.\d\d?\.\d{4})(?!\d)"
    r"|(?P<clock>\d\d?:\d\d)(?!\d)"
    r"|(?P<number>(?:(?<![\w)\]-])-)?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,]\d)|(?:(?<![\w)\]-])-)?\d+(?:\.\d+)?)"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)"
    r"|(?P<sign>[$€£¥₹₽₩%])"
)
_EXPRESSION: Final = re.compile(
    r"(?<![\w.])[\w.]{1,20}(?:(?:\s?(?:[=!<>]=|\*\*|&&|\|\||[+*^=<>])\s?|(?<=\d)\s?[-/%]\s?(?=\d))[\w.]{1,20})+"
)
_SERIAL: Final = re.compile(r"\d+(?:[-/.]\d+){2,}")
_INITIALS: Final = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]?")
_ARITHMETIC: Final = re.compile(r"\d|\b\w\b|[=<>^]|&&|\|\|")
_LONGEST_READ: Final = 100
"""Characters of the longest word that BERT's WordPiece takes apart; a longer one is ``[UNK]``."""
_PUNCTUATION: Final = "\u2070"
"""Signs below it, such as ® and °, come and go without a change of meaning, or are told apart as units."""
_UNREAD: Final = frozenset({"So", "Sm", "Co", "Cn", "Cs"})
_EDGES: Final = ".,;:!?\"'()[]{}*"
_MIXED: Final = re.compile(
    r"#?\w*(?:\d[^\W\d_]|[^\W\d]\d)\w*(?:-\w+)*|#\w+|[^\W\d_]+-\d[\w-]*|\d+(?:-\d+){2,}|\w+(?:-\w+){4,}"
)
_SUFFIXES: Final = sorted(
    {"st", "nd", "rd", "th", "am", "pm", "x"}
    | {word for word in tables.UNITS.split() if word.isalpha()}
    | tables.MULTIPLIERS.keys()
    | tables.UNIT_SYMBOLS
)
_AMOUNT: Final = rf"[$€£]?\d[\d,]*(?:\.\d+)?(?:%|{'|'.join(_SUFFIXES)})?"
_SPOKEN: Final = re.compile(
    r"\d{4}-\d\d?-\d\d?|\d\d?/\d\d?/\d{2,4}|\d\d?\.\d\d?\.\d{4}"  # dates
    rf"|[^\W\d_]{{3,}}-?\d{{1,2}}|-?{_AMOUNT}(?:-{_AMOUNT})?",  # iphone6, 5km, 10k-12k
    re.IGNORECASE,
)
_CODE: Final = re.compile(
    r"\w+://\S+|www\.\S+|\S+@\S+\.\S+"  # addresses
    r"|(?:[~.]{0,2}/|[A-Za-z]:\\)\S+|[\w.-]+(?:[/\\][\w.-]+){2,}"  # paths
    r"|v\d+(?:\.\d+)*|\d+(?:\.\d+){2,}"  # versions
    r"|\w*[^\W_]_[^\W_]\w*|\w+(?:::|->|\.(?=[a-z]))\w+\(?.*|\w+\(\w*\)?|--?[a-z]\S*|[A-Za-z]{1,2}(?:\+\+|#)|\.[A-Z]{3,4}"
    r"|[a-z]+[A-Z]\w*|(?:[A-Z][a-z0-9]+){2,}"  # lowerCamel and UpperCamel
    r"|[@<{]\S{1,80}"
)
_LONGEST_WORD: Final = 200
"""Characters without a space after which a chunk is data, not language."""
_ROOTS: Final = range(4, 25)
_SENTENCE_END: Final = frozenset(".!?:\n")


@dataclass(frozen=True)
class Profile:
    """One prompt, read for comparing. Compare two with ``guards.objections``."""

    text: str
    """Compatibility-normalised, with straight quotes."""

    @cached_property
    def folded(self) -> str:
        """The text case folded, its spaces single."""
        return " ".join(self.text.casefold().split())

    @cached_property
    def quotes(self) -> frozenset[str]:
        """What stands between double quotes, folded."""
        if '"' not in self.text:
            return frozenset()
        return frozenset(" ".join(quote.casefold().split()).strip(_EDGES) for quote in _QUOTED.findall(self.text))

    @cached_property
    def _chunks(self) -> tuple[frozenset[str], frozenset[str], str]:
        """Code, ids, and the text with both blanked out."""
        code: set[str] = set()
        ids: set[str] = set()
        text = self.text
        if "`" in text:
            code.update(" ".join(span.strip("`").split()) for span in _BACKTICKED.findall(text))
            text = _BACKTICKED.sub(" ", text)
        kept: list[str] = []
        for chunk in re.split(r"(\s+)", text):
            bare = chunk.strip(_EDGES)
            if (bare.islower() and bare.isalpha()) or not bare.isascii():
                kept.append(chunk)  # scripts without spaces are no identifiers
                continue
            if len(bare) > _LONGEST_WORD:
                code.add(bare)
                kept.append("; ")
                continue
            if "(" in chunk or chunk.startswith((".", "{")):
                bare = chunk.rstrip(".,;:!?")
            if _INITIALS.fullmatch(bare):
                kept.append(chunk.replace(".", ""))
            elif (bare.isalpha() and (bare[1:].islower() or bare.isupper())) or _SPOKEN.fullmatch(bare):
                kept.append(chunk)
            elif _CODE.fullmatch(bare):
                code.add(bare)
                kept.append(chunk if bare.isalpha() else "; ")  # YouTube is a word as well
            elif _MIXED.fullmatch(bare):
                ids.add(bare.casefold().replace("-", ""))
                kept.append("; ")
            else:
                kept.append(chunk)
        return frozenset(item.casefold() for item in code), frozenset(ids), "".join(kept)

    @property
    def code(self) -> frozenset[str]:
        """Identifiers, file names, paths, addresses, versions and what stands between backticks, folded."""
        return self._chunks[0]

    @property
    def ids(self) -> frozenset[str]:
        """Order numbers and the like: letters mixed with digits, folded, without hyphens."""
        return self._chunks[1]

    @cached_property
    def unread(self) -> tuple[str, ...]:
        """What a WordPiece model reads as one unknown token, whatever it is: emoji and over-long words, in order."""
        if self.text.isascii() and len(self.text) <= _LONGEST_READ:
            return ()
        signs = [sign for sign in self.text if sign > _PUNCTUATION and unicodedata.category(sign) in _UNREAD]
        return (*signs, *(word for word in self.text.split() if len(word) > _LONGEST_READ))

    @cached_property
    def expressions(self) -> frozenset[str]:
        """Formulas such as ``2+2``, without spaces."""
        return frozenset(
            re.sub(r"\s", "", found)
            for found in (expression.rstrip(".") for expression in _EXPRESSION.findall(self.text))
            if _ARITHMETIC.search(found) and not _SERIAL.fullmatch(found)
        )

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """Words, numbers and currency signs outside of code and ids."""
        found: list[Token] = []
        text, end = self._chunks[2], 0
        for match in _TOKEN.finditer(text):
            start = match.start()
            gap = text[end:start]
            raw = match.group()
            initial = not found or not _SENTENCE_END.isdisjoint(gap)
            kind = match.lastgroup or "word"
            found.append(Token(kind, raw.casefold(), raw[0].isupper(), raw.isupper(), initial))
            end = match.end()
        return tuple(found)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words and numbers in order, folded, contractions spelled out, possessives dropped."""
        spelled: list[str] = []
        for token in self.tokens:
            if token.kind == "word":
                spelled.extend(_spelled(token.text))
            else:
                spelled.append(token.text)
            if (merged := tables.MERGED.get((spelled[-2], spelled[-1])) if len(spelled) > 1 else None) is not None:
                spelled[-2:] = [merged]
        return tuple(spelled)

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The words, without their order, and the words of phrasal verbs joined: ``turn+on``."""
        return frozenset(self.words).union(self._phrasal)

    @cached_property
    def opposites(self) -> Mapping[int, frozenset[int]]:
        """Which sides of which opposites it has words of, and likewise below: see ``Lexicon.columns``."""
        return OPPOSITES_LEXICON.columns(self.vocabulary)

    @cached_property
    def alternatives(self) -> Mapping[int, frozenset[int]]:
        """... of things of which one excludes the others."""
        return ALTERNATIVES_LEXICON.columns(self.vocabulary)

    @cached_property
    def known_names(self) -> Mapping[int, frozenset[int]]:
        """... of countries, places, people and organisations."""
        return NAMES_LEXICON.columns(self.words)

    @cached_property
    def languages(self) -> Mapping[int, frozenset[int]]:
        """... of languages."""
        return LANGUAGES_LEXICON.columns(self.words)

    @cached_property
    def _phrasal(self) -> tuple[str, ...]:
        """Each phrasal verb with the first particle among the four words after it."""
        words = self.words
        found: list[str] = []
        for at, word in enumerate(words):
            verb = tables.PARTICLE_VERBS.get(word)
            particle = (
                next((near for near in words[at + 1 : at + 5] if near in tables.PARTICLES), None) if verb else None
            )
            if particle:
                found.append(f"{verb}+{particle}")
        return tuple(found)

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Runs of capitalised words that a sentence's start does not explain. None in Title Case or ALL CAPS."""
        tokens = [token for token in self.tokens if token.kind == "word"]
        later = [token for token in tokens if not token.initial]
        if all(token.upper for token in tokens) or any(
            token.capital and token.text in tables.STOP_WORDS and len(token.text) > 1 and not token.upper
            for token in later
        ):
            return ()
        runs: list[list[str]] = []
        open_run = False
        for token, following in zip(tokens, [*tokens[1:], None], strict=True):
            name = token.text.removesuffix("'s")
            named = (
                token.capital
                and name.partition("'")[0] not in tables.NOT_NAMES
                and (not token.initial or _opens_with_name(token, following))
            )
            if named and open_run and not token.initial:
                runs[-1].append(name)
            elif named:
                runs.append([name])
            open_run = named
        return tuple(tuple(run) for run in runs)

    @cached_property
    def quantities(self) -> Quantities:
        """Numbers, units and dates, each told in one way."""
        return read_quantities(self.tokens)

    @cached_property
    def negations(self) -> int:
        """How many words negate."""
        words = self.words
        pairs = zip(words, [*words[1:], ""], ["", *words], strict=False)
        return sum(
            word in tables.NEGATIONS
            and (word, following) not in tables.NEGATION_IDIOMS
            and (before, word) not in tables.NEGATION_IDIOMS
            for word, following, before in pairs
        )

    @cached_property
    def content_at(self) -> tuple[int, ...]:
        """Where among the words those stand that carry meaning."""
        return tuple(at for at, word in enumerate(self.words) if word not in tables.STOP_WORDS)

    @cached_property
    def content(self) -> tuple[str, ...]:
        """The stems of the words that carry meaning, in order."""
        return tuple(stem(self.words[at]) for at in self.content_at)

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of all words."""
        return frozenset(map(stem, self.words))

    @cached_property
    def prefixes(self) -> frozenset[str]:
        """The beginnings of all words, of four letters and more."""
        return frozenset(word[:length] for word in self.words for length in _ROOTS if length <= len(word))

    @cached_property
    def trimmed(self) -> frozenset[str]:
        """Longer words without their last letter."""
        return frozenset(word[:-1] for word in self.words if len(word) > _ROOTS.start)

    @cached_property
    def initials(self) -> str:
        """The first letters of all words, in which an acronym may be found."""
        return "".join(word[0] for word in self.words)

    @cached_property
    def passive(self) -> bool:
        """Whether somebody is said to have something done "by" somebody."""
        words = self.words
        return any(
            word == "by" and (before.endswith("ed") or before in tables.PARTICIPLES)
            for before, word, _ in zip(words, words[1:], words[2:], strict=False)
        )

    @cached_property
    def genders(self) -> str:
        """The gendered pronouns in order, one letter each."""
        return "".join(
            "m" if word in tables.MALE else "f" for word in self.words if word in tables.MALE | tables.FEMALE
        )

    @cached_property
    def script(self) -> str:
        """The script of most letters, ``latin`` for all that the table does not name, empty without letters."""
        if self.text.isascii():
            return "latin" if any(map(str.isalpha, self.text)) else ""
        counts: dict[str, int] = {}
        for letter in filter(str.isalpha, self.text):
            point = ord(letter)
            name = next((name for name, first, last in tables.SCRIPTS if first <= point <= last), "latin")
            counts[name] = counts.get(name, 0) + 1
        return max(sorted(counts), key=counts.__getitem__, default="")

    @cached_property
    def language(self) -> str:
        """The language whose common words lead by two at least, empty when none does."""
        votes = sorted(
            ((sum(word in common for word in self.words), name) for name, common in tables.LANGUAGE_VOTES.items()),
            reverse=True,
        )
        (most, winner), (second, _) = votes[:2]
        return winner if most >= second + 2 else ""


def profile(text: str) -> Profile:
    """Read ``text``. Any text is accepted, lone surrogates too."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text).translate(_STRAIGHT)
    return Profile(plain)


def stem(word: str) -> str:
    """A word without its regular ending, close enough to match its other forms."""
    word = tables.PARTICIPLES.get(word, word)
    for ending in ("ing", "ied", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) > len(ending) + 2 and not word.endswith("ss"):
            word = word[: -len(ending)] + ("y" if ending[0] == "i" and ending != "ing" else "")
            break
    word = word[:-1] if word.endswith("e") and len(word) > len("the") else word
    return word[:-1] if len(word) > len("add") and word[-1] == word[-2] else word


def _spelled(word: str) -> tuple[str, ...]:
    if (expanded := tables.CONTRACTIONS.get(word)) is not None:
        return expanded
    if "'" not in word:
        return (word,)
    if word.endswith("n't"):
        return word[:-3], "not"
    host, _, tail = word.rpartition("'")
    if (verb := tables.CLITICS.get("'" + tail)) is not None:
        return host, verb
    if tail == "s":
        return (host, "is") if host in tables.IS_HOSTS else (host,)
    return (word,)


def _opens_with_name(token: Token, following: Token | None) -> bool:
    """Whether the first word of a sentence is a name: possessive, or before a verb or another capital."""
    host, apostrophe, tail = token.text.partition("'")
    if host in tables.SENTENCE_OPENERS or token.text in tables.CONTRACTIONS:
        return False
    if apostrophe:
        return tail == "s"
    return following is not None and not following.initial and following.text in tables.NAME_FOLLOWERS
