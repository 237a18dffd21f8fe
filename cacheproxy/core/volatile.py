"""Wording whose answer changes with time or with the person who asks.

``is_volatile`` promises to catch the common English forms, and the commonest German, French and Spanish ones, of
questions about now ("the latest news", "what time is it"), about what moves (prices, weather, scores), about here
("near me") and about the asker's own state ("where is my order", "what is my balance"). Merely owning a thing is not
a state: "how do I reset my password" has one answer for everybody. To teach the module a form, add a row.

Every request is asked this, so a row's pattern is tried only on texts that hold one of its cue words. Every
repetition in the patterns is bounded: the work grows with the text's length only, and long texts are read at their
ends.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOKED_AT: Final = 2_000
"""Characters read at each end of a text: a question stands before or after the material that it is about."""

_WORD: Final = re.compile(r"[^\W\d_]+")

_CUE_IS_ENOUGH: Final = ""

_SPAN: Final = r"(?:week|weekend|month|quarter|year|season|morning|afternoon|evening|night)"
_WEEKDAY: Final = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_GOODS: Final = (
    r"(?:\w{1,15} ){0,2}(?:order|package|parcel|delivery|shipment|refund|reimbursement|money|payment|paycheck|transfer"
    r"|top[- ]?up|cards?|luggage|bags?|flight|reservation|booking|appointment|application|ticket|claim|salary|deposit"
    r"|invoice|bill)"
)
_REACHED: Final = (
    r"(?:arrived?|shipped|ship|clear(?:ed)?|processed|on (?:its|the) way|go(?:ne)? through|on time|ready|due"
    r"|confirmed|here)"
)
_STATE: Final = (
    r"my (?:\w{1,15} ){0,2}(?:balances?|account number|routing number|credit score|credit limit|spending|income"
    r"|salary|transactions?|order status|minimum payment|calendar|agenda|schedule|reminders?|to[- ]?do list"
    r"|shopping list|meetings?|vacation days|next appointment|paycheck|due date)"
)
_NOT_HOW_TO: Final = (
    r"(?<!how do i )(?<!how can i )(?<!how to )(?<!how would i )(?<!how should i )(?<!where do i )(?<!where can i )"
)


class Wording(NamedTuple):
    """A volatile form: ``pattern`` holds only in texts with one of the ``cues``, single words in lower case."""

    cues: frozenset[str]
    pattern: re.Pattern[str]


def _wording(cues: str, pattern: str) -> Wording:
    return Wording(frozenset(cues.split()), re.compile(pattern))


VOLATILE_PATTERNS: Final[tuple[Wording, ...]] = (
    # The moment of asking.
    _wording(
        "today tonight tomorrow yesterday nowadays currently recently lately",
        r"\b(?:today|tonight|tomorrow|yesterday|nowadays|currently|recently|lately)\b",
    ),
    # "Now translate it" opens a command, "and now I am stuck" tells a story.
    _wording("now", r"(?<=[\w,'] )(?<!and )now\b(?! that\b)"),
    _wording(
        "moment present these date far as",
        r"\b(?:at the moment|at present|these days|up[- ]to[- ]date|so far|as of)\b",
    ),
    _wording("this last next past coming", rf"\b(?:this|last|next|past|coming) (?:{_SPAN}|{_WEEKDAY})\b"),
    _wording("on until by", rf"\b(?:on|until|by) {_WEEKDAY}\b"),
    _wording(
        "latest newest recent breaking upcoming trending",
        r"\b(?:latest|newest|most recent|breaking|upcoming|trending)\b",
    ),
    # Banks and electricians have current things that stay.
    _wording("current", r"\bcurrent (?!(?:account|flow|density|divider|source|transformer|limiter)s?\b)\w"),
    _wording("ago", r"\b\d{1,4} (?:minutes?|hours?|days?|weeks?|months?|years?) ago\b"),
    # The clock and the calendar.
    _wording(
        "time date day year month",
        r"\bwhat(?:'?s| is)? (?:the )?(?:time|date|day|year|month)(?: (?:is it|in|at|now|it is)\b|\W{0,3}$)",
    ),
    _wording("day long many", r"\b(?:what day of the week|how (?:long|many (?:days|weeks|hours)) (?:until|till))\b"),
    _wording(
        "time date",
        r"\b(?:tell me|give me|know|check) (?:what )?(?:the )?(?:time|date)(?: (?:is it|it is|in|at)\b|\W{0,3}$)",
    ),
    # What moves while nobody looks.
    _wording(
        "weather forecast",
        r"\bweather (?:in|for|at|near|like|report|update|outside|going|will)\b|\b(?:weather )?forecast\b",
    ),
    _wording(
        "weather temperature",
        r"\b(?:what|how)(?:'?s| is| will) (?:\w{1,12} ){0,3}(?:weather|temperature (?:outside|in))\b",
    ),
    _wording(
        "it",
        r"\b(?:is|will) it (?:be |going to |gonna )?(?:rain|snow|hot|cold|sunny|warm|windy|cloudy)(?:ing|y)?\b",
    ),
    _wording(
        "price prices quote quotes value values",
        r"\b(?:stock|share|bitcoin|btc|ethereum|gold|oil|gas|silver|crypto) (?:price|quote|value)s?\b",
    ),
    _wording(
        "price cap value",
        r"\b(?:price|market cap|value) of (?:a |the )?(?:bitcoin|ethereum|gold|silver|oil|\w{1,20} (?:stock|shares))\b",
    ),
    _wording(
        "rate rates", r"\b(?:what(?:'?s| is| are) the|live|today'?s) (?:exchange|conversion|interest|mortgage) rates?\b"
    ),
    _wording(
        "worth",
        r"\bhow much (?:is|are) (?:a |one |1 )?(?:bitcoin|ethereum|gold|silver|\w{1,20} (?:stock|shares?)) worth\b",
    ),
    _wording(
        "score standings winning leading playing",
        r"\b(?:the|live|final) (?:score|standings)\b|\bwho(?:'?s| is) (?:winning|leading|playing)\b",
    ),
    _wording("news headlines", r"\b(?:the|any|world|local|top|in) (?:news|headlines)\b"),
    _wording("traffic", r"\b(?:traffic (?:like|on|report)|the traffic in)\b"),
    _wording(
        "open down online available sale stock",
        r"\b(?:is|are) (?:\w{1,20} ){1,3}(?:open|down|online|available|on sale|in stock)\W{0,3}$",
    ),
    # Here.
    _wording("me here", r"\b(?:near(?:est)?(?: to)? me|near here|around here)\b"),
    _wording("location am", r"\b(?:my (?:current )?location|where am i)\b"),
    _wording("nearby", _CUE_IS_ENOUGH),
    # The asker's own state.
    _wording("my", r"\bwhere(?:'?s| is| are) (?:all )?(?:of )?my \w"),
    _wording("my", rf"\bwhen (?:will|does|do|is|are|can i expect) (?:i (?:get|receive) )?my {_GOODS}\b"),
    _wording("my", rf"\b(?:status|whereabouts) of my {_GOODS}\b|\bmy {_GOODS} status\b"),
    _wording("my", rf"\b(?:has|have|did|is|are) my {_GOODS} (?:\w{{1,10}} ){{0,2}}{_REACHED}\b"),
    _wording("track", r"\btrack (?:my|the|an?) (?:order|package|parcel|delivery|shipment|card)\b"),
    _wording(
        "my",
        rf"\b(?:what(?:'?s| is| are| was| were)|how much|how many|do i have) (?:\w{{1,12}} ){{0,4}}{_STATE}\b",
    ),
    _wording(
        "my",
        rf"{_NOT_HOW_TO}\b(?:check|show|tell|give|list|read|see|pull|display|look) (?:\w{{1,12}} ){{0,4}}{_STATE}\b",
    ),
    _wording(
        "much",
        r"\bhow much (?:money )?(?:do i have(?! to)|did i spend|have i spent|do i owe|am i owed|is (?:left )?in my)\b",
    ),
    _wording(
        "any",
        r"\bdo i have any (?:\w{1,15} ){0,2}(?:meetings?|appointments?|events?|messages?|emails?|reminders?|plans)\b",
    ),
    _wording("my", r"\bwhat(?:'?s| is) on my (?:\w{1,15} ){0,2}(?:calendar|agenda|schedule|list|plate)\b"),
    # German, French, Spanish.
    _wording(
        "heute jetzt gestern derzeit momentan aktuell aktuelle aktuellen aktueller aktuelles neueste neuesten neuester",
        _CUE_IS_ENOUGH,
    ),
    _wording("diese dieses", r"\b(?:diese woche|dieses jahr)\b"),
    _wording("spät spaet wetter", r"\b(?:wie sp(?:ä|ae)t ist es|wie (?:ist|wird) das wetter)\b"),
    _wording("wo", r"\bwo (?:ist|sind|bleibt|bleiben) mein(?:e|en)?\b"),
    _wording("aujourd maintenant demain actuellement", r"\b(?:aujourd'hui|maintenant|demain|actuellement)\b"),
    _wording("moment semaine nouvelles", r"\b(?:en ce moment|cette semaine|derni[èe]res nouvelles)\b"),
    _wording("heure temps météo meteo", r"\b(?:quelle heure est-il|quel temps fait-il|la m[ée]t[ée]o)\b"),
    _wording("où ou", r"\bo[ùu] est (?:ma|mon)\b"),
    _wording("hoy ahora mañana ayer actualmente", _CUE_IS_ENOUGH),
    _wording("semana noticias", r"\b(?:esta semana|[úu]ltimas noticias)\b"),
    _wording("hora tiempo", r"\bqu[ée] (?:hora es|tiempo hace)\b"),
    _wording("dónde donde", r"\bd[óo]nde est[áa]n? mis?\b"),
)
"""Matched against lower-case text with straight apostrophes and single spaces."""


_CUES: Final = frozenset().union(*(wording.cues for wording in VOLATILE_PATTERNS))
"""Every word without which nothing here can match: most prompts hold none."""


def is_volatile(text: str, extra: Sequence[re.Pattern[str]] = ()) -> bool:
    """Whether the answer to ``text`` may be another one soon, or for somebody else.

    ``extra`` adds the operator's patterns, which see the text in its own case with single spaces.
    """
    if len(text) > 2 * _LOOKED_AT:
        text = f"{text[:_LOOKED_AT]}\n{text[-_LOOKED_AT:]}"
    spaced = " ".join(text.split())
    plain = spaced.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    words = frozenset(_WORD.findall(plain))
    if not _CUES.isdisjoint(words) and any(
        not wording.cues.isdisjoint(words) and wording.pattern.search(plain) is not None
        for wording in VOLATILE_PATTERNS
    ):
        return True
    return any(pattern.search(spaced) is not None for pattern in extra)
