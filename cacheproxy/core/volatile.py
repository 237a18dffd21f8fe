"""Wording whose answer changes with time or with the person who asks.

``is_volatile`` promises to catch the common English forms, and the commonest German, French and Spanish ones, of
questions about now ("the latest news", "what time is it"), about what moves (prices, weather, scores), about here
("near me") and about the asker's own state ("where is my order", "what is my balance"). Merely owning a thing is not
a state: "how do I reset my password" has one answer for everybody. Each row of ``VOLATILE_PATTERNS`` stands alone; to
teach the module a form, add a row. Every repetition in them is bounded, so the work grows with the text's length only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOKED_AT: Final = 2_000
"""Characters read at each end of a text: a question stands before or after the material that it is about."""

_SPAN: Final = r"(?:week|weekend|month|quarter|year|season|morning|afternoon|evening|night)"
_WEEKDAY: Final = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_GOODS: Final = (
    r"(?:order|package|parcel|delivery|shipment|refund|reimbursement|money|payment|paycheck|transfer|top[- ]?up"
    r"|cards?|luggage|bags?|flight|reservation|booking|appointment|application|ticket|claim|salary|deposit|invoice|bill)"
)
_BALANCE: Final = (
    r"(?:balances?|account number|routing number|credit score|credit limit|spending|income|salary|transactions?"
    r"|order status|minimum payment|calendar|agenda|schedule|reminders?|to[- ]?do list|shopping list|meetings?"
    r"|vacation days|next appointment|paycheck|due date)"
)
_NOT_HOW_TO: Final = (
    r"(?<!how do i )(?<!how can i )(?<!how to )(?<!how would i )(?<!how should i )(?<!where do i )(?<!where can i )"
)

_SOURCES: Final[tuple[str, ...]] = (
    # The moment of asking.
    r"\b(?:today|tonight|tomorrow|yesterday|nowadays|currently|recently|lately)(?:'?s)?\b",
    r"(?<=[\w,'] )(?<!and )now\b(?! that\b)",  # "Now translate it" opens a command, "and now I am stuck" tells a story
    r"\b(?:right now|at the moment|at present|these days|up[- ]to[- ]date|so far|as of)\b",
    rf"\b(?:this|last|next|past|coming) {_SPAN}\b",
    rf"\b(?:this|last|next|on|until|by) {_WEEKDAY}\b",
    r"\b(?:latest|newest|most recent|breaking|upcoming|trending)\b",
    r"\bcurrent (?!(?:account|flow|density|divider|source|transformer|limiter)s?\b)\w",  # banks and electricians
    r"\b\d{1,4} (?:minutes?|hours?|days?|weeks?|months?|years?) ago\b",
    # The clock and the calendar.
    r"\bwhat(?:'?s| is)? (?:the )?(?:current )?(?:time|date|day|year|month)(?: (?:is it|in|at|now|it is)\b|\W{0,3}$)",
    r"\b(?:what day of the week|how long (?:until|till)|how many (?:days|weeks|hours) (?:until|till))\b",
    r"\b(?:tell me|give me|know|check) (?:what )?(?:the )?(?:time|date)(?: (?:is it|it is|in|at)\b|\W{0,3}$)",
    # What moves while nobody looks.
    r"\bweather (?:in|for|at|near|like|report|update|outside|going|will)\b|\b(?:weather )?forecast\b",
    r"\b(?:what|how)(?:'?s| is| will| are) (?:\w{1,12} ){0,3}(?:weather|temperature (?:outside|in))\b",
    r"\b(?:is|will) it (?:be |going to |gonna )?(?:rain|snow|hot|cold|sunny|warm|windy|cloudy)(?:ing|y)?\b",
    r"\b(?:stock|share|bitcoin|btc|ethereum|gold|oil|gas|silver|crypto) (?:price|quote|value)s?\b",
    r"\b(?:price|market cap|value) of (?:a |the )?(?:bitcoin|ethereum|gold|silver|oil|gas|\w{1,20} (?:stock|shares?))\b",
    r"\b(?:what(?:'?s| is) the|live|today'?s) (?:exchange|conversion|interest|mortgage) rates?\b",
    r"\bhow much (?:is|are) (?:a |one |1 )?(?:bitcoin|ethereum|gold|silver|\w{1,20} (?:stock|shares?)) worth\b",
    r"\b(?:the|live|final) (?:score|standings)\b|\bwho(?:'?s| is) (?:winning|leading|playing)\b",
    r"\b(?:the|any|world|local|top|in) (?:news|headlines)\b|\b(?:traffic (?:like|on|report)|the traffic in)\b",
    r"\b(?:is|are) (?:\w{1,20} ){1,3}(?:open|down|online|available|on sale|in stock)\W{0,3}$",
    # Here.
    r"\b(?:near(?:by|est)?(?: to)? me|near here|around here|my (?:current )?location|where am i)\b",
    # The asker's own state.
    r"\bwhere(?:'?s| is| are) (?:all )?(?:of )?my \w",
    rf"\bwhen (?:will|does|do|is|are|can i expect) (?:i (?:get|receive) )?my (?:\w{{1,15}} ){{0,2}}{_GOODS}\b",
    rf"\b(?:status|whereabouts) of my (?:\w{{1,15}} ){{0,2}}{_GOODS}\b|\bmy (?:\w{{1,15}} )?{_GOODS} status\b",
    rf"\b(?:has|have|did|is|are) my (?:\w{{1,15}} ){{0,2}}{_GOODS} (?:\w{{1,10}} ){{0,2}}"
    r"(?:arrived?|shipped|ship|clear(?:ed)?|processed|on (?:its|the) way|go(?:ne)? through|on time|ready|due|confirmed|here)\b",
    r"\btrack (?:my|the|an?) (?:order|package|parcel|delivery|shipment|card)\b",
    r"\b(?:what(?:'?s| is| are| was| were)|how much|how many|do i have) (?:\w{1,12} ){0,4}"
    rf"my (?:\w{{1,15}} ){{0,2}}{_BALANCE}\b",
    rf"{_NOT_HOW_TO}\b(?:check|show|tell|give|list|read|see|pull up|display|look at) (?:me |up )?(?:\w{{1,12}} ){{0,3}}"
    rf"my (?:\w{{1,15}} ){{0,2}}{_BALANCE}\b",
    r"\bhow much (?:money )?(?:do i have(?! to)|did i spend|have i spent|do i owe|am i owed|is in my|is left in my)\b",
    r"\bdo i have any (?:\w{1,15} ){0,2}(?:meetings?|appointments?|events?|messages?|emails?|reminders?|plans)\b",
    r"\bwhat(?:'?s| is) on my (?:\w{1,15} ){0,2}(?:calendar|agenda|schedule|list|plate)\b",
    # German, French, Spanish.
    r"\b(?:heute|jetzt|gestern|derzeit|momentan|aktuell(?:e[nmrs]?)?|neueste[nmrs]?|diese (?:woche|nacht)|dieses jahr)\b",
    r"\b(?:wie sp(?:ä|ae)t ist es|wie (?:ist|wird) das wetter|wo (?:ist|bleibt) mein\w{0,2})\b",
    r"\b(?:aujourd'hui|maintenant|demain|actuellement|en ce moment|cette semaine|cette ann[ée]e|derni[èe]res nouvelles)\b",
    r"\b(?:quelle heure est-il|quel temps fait-il|la m[ée]t[ée]o|o[ùu] est (?:ma|mon))\b",
    r"\b(?:hoy|ahora|ma[ñn]ana|ayer|actualmente|esta semana|este a[ñn]o|[úu]ltimas noticias)\b",
    r"\b(?:qu[ée] hora es|qu[ée] tiempo hace|d[óo]nde est[áa] mi)\b",
)

VOLATILE_PATTERNS: Final[tuple[re.Pattern[str], ...]] = tuple(re.compile(source, re.IGNORECASE) for source in _SOURCES)
"""One wording a row, case ignored, apostrophes straight, spaces single."""


def is_volatile(text: str, extra: Sequence[re.Pattern[str]] = ()) -> bool:
    """Whether the answer to ``text`` may be another one soon, or for somebody else. ``extra`` adds patterns."""
    if len(text) > 2 * _LOOKED_AT:
        text = f"{text[:_LOOKED_AT]}\n{text[-_LOOKED_AT:]}"
    plain = " ".join(text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())
    return any(pattern.search(plain) for pattern in (*VOLATILE_PATTERNS, *extra))
