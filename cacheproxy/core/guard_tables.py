"""What the lexical guards know of numbers, units, dates, grammar, names and languages. Data only: add a row or a word.

Where a constant is one string, it is a row of alternatives as ``guard_words`` explains them.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _pairs(text: str) -> dict[str, str]:
    """``left:right`` pairs."""
    return dict(pair.split(":") for pair in text.split())


UNITS: Final[str] = (
    "km kms kilometer kilometers kilometre kilometres | mile miles mi | meter meters metre metres"
    " | cm centimeter centimeters centimetre centimetres | mm millimeter millimeters millimetre millimetres"
    " | inch inches | feet foot ft | yard yards | lightyear lightyears"
    " | kg kgs kilo kilos kilogram kilograms kilogramme kilogrammes | gram grams gramme grammes"
    " | mg milligram milligrams | lb lbs pound pounds | ounce ounces oz | ton tons tonne tonnes"
    " | liter liters litre litres | ml milliliter milliliters millilitre millilitres | gallon gallons | cup cups"
    " | tablespoon tablespoons tbsp | teaspoon teaspoons tsp | pint pints | acre acres | hectare hectares"
    " | celsius centigrade | fahrenheit | kelvin"
    " | mph | kmh kph | knot knots"
    " | second seconds sec secs | minute minutes min mins | hour hours hr hrs | day days | week weeks | month months"
    " | year years yr yrs | decade decades | century centuries | millisecond milliseconds ms"
    " | byte bytes | kb kilobyte kilobytes | mb megabyte megabytes | gb gigabyte gigabytes | tb terabyte terabytes"
    " | watt watts | kw kilowatt kilowatts | kwh | volt volts | amp amps ampere amperes | ohm ohms"
    " | hz hertz | khz | mhz | ghz | joule joules | calorie calories kcal | pascal pascals | psi | percent %"
    " | usd dollar dollars $ | eur euro euros € | gbp sterling £ | jpy yen ¥ | inr rupee rupees rs ₹ | cny yuan rmb"
    " | chf francs | aud | cad | cent cents | bitcoin btc | ethereum eth | rub ruble rubles ₽ | krw won ₩ | peso pesos"
)

UNIT_SYMBOLS: Final[frozenset[str]] = _words("m g l c f k h s w v a in b")
"""Units only right after a number: elsewhere they are letters and words."""

UNITS_AFTER_NUMBERS: Final[frozenset[str]] = _words(
    "second foot min won rs mi cup cups pound cent cad eth ton tons yard seconds minute minutes hour hours day "
    "days week weeks month months year years decade decades century"
)
"""Units only beside a number or after one of ``UNIT_CUES``: "the second", "a day", "my foot" measure nothing."""

UNIT_CUES: Final[frozenset[str]] = _words("in to into per from many")

MONTHS: Final[str] = (
    "january jan | february feb | march mar | april apr | may | june jun | july jul | august aug"
    " | september sep sept | october oct | november nov | december dec"
)
WEEKDAYS: Final[str] = (
    "monday mondays mon | tuesday tuesdays tue tues | wednesday wednesdays wed | thursday thursdays thu thurs"
    " | friday fridays fri | saturday saturdays | sunday sundays"
)
AMBIGUOUS_MONTHS: Final[frozenset[str]] = _words("may march mar jun august apr jan mon wed")
"""A month only beside a number or after one of ``MONTH_CUES``; else a verb, a name or an abbreviation."""

MONTH_CUES: Final[frozenset[str]] = _words("in of since until till by on last next this early late during before after")
RELATIVE_DAYS: Final[frozenset[str]] = _words("today tomorrow yesterday tonight")
RELATIVE_SPANS: Final[frozenset[str]] = _words("week weekend month quarter year season semester")
RELATIVE_CUES: Final[frozenset[str]] = _words("this last next past")

NUMBER_WORDS: Final[dict[str, int]] = {
    word: int(value)
    for word, value in _pairs(
        "zero:0 one:1 two:2 three:3 four:4 five:5 six:6 seven:7 eight:8 nine:9 ten:10 eleven:11 twelve:12 thirteen:13 "
        "fourteen:14 fifteen:15 sixteen:16 seventeen:17 eighteen:18 nineteen:19 twenty:20 thirty:30 forty:40 fifty:50 "
        "sixty:60 seventy:70 eighty:80 ninety:90"
    ).items()
}

MULTIPLIERS: Final[dict[str, int]] = {
    "hundred": 100,
    "thousand": 1_000,
    "k": 1_000,
    "grand": 1_000,
    "lakh": 100_000,
    "lakhs": 100_000,
    "million": 1_000_000,
    "mn": 1_000_000,
    "mm": 1_000_000,
    "crore": 10_000_000,
    "crores": 10_000_000,
    "billion": 1_000_000_000,
    "bn": 1_000_000_000,
    "trillion": 1_000_000_000_000,
}
COUNTING_WORDS: Final[dict[str, str]] = _pairs(
    "dozen:12 half:0.5 twice:2 double:2 thrice:3 triple:3 third:3 fourth:4 fifth:5 sixth:6 seventh:7 "
    "eighth:8 ninth:9 tenth:10"
)
ONE_WORDS: Final[frozenset[str]] = _words("one single first once")
"""A bare 1 may be told by any of these; none of them alone is a number."""

NEGATIONS: Final[frozenset[str]] = _words(
    "not never no without none nothing nobody nowhere neither unable impossible hardly nicht kein keine keinen "
    "nie ohne pas jamais sans nunca sin"
)
"""English first, then German, French, Spanish. Spanish and Italian "no" and "non" are covered or too short to tell."""

NEGATION_IDIOMS: Final[frozenset[tuple[str, str]]] = frozenset(
    {("or", "not"), ("not", "only"), ("not", "just"), ("no", "matter"), ("no", "reason"), ("why", "not")}
    | {("not", "know"), ("not", "sure"), ("not", "understand"), ("no", "idea")}  # said before the question itself
)
"""Pairs of words in which the negation negates nothing."""

CONTRACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "can't": ("can", "not"),
    "cannot": ("can", "not"),
    "cant": ("can", "not"),
    "won't": ("will", "not"),
    "shan't": ("shall", "not"),
    "ain't": ("is", "not"),
    "dont": ("do", "not"),
    "doesnt": ("does", "not"),
    "didnt": ("did", "not"),
    "isnt": ("is", "not"),
    "arent": ("are", "not"),
    "wasnt": ("was", "not"),
    "wont": ("will", "not"),
    "couldnt": ("could", "not"),
    "shouldnt": ("should", "not"),
    "wouldnt": ("would", "not"),
    "havent": ("have", "not"),
    "hasnt": ("has", "not"),
    "whats": ("what", "is"),
    "hows": ("how", "is"),
    "wheres": ("where", "is"),
    "whos": ("who", "is"),
    "im": ("i", "am"),
    "ive": ("i", "have"),
    "let's": ("let", "us"),
    "wanna": ("want", "to"),
    "gonna": ("going", "to"),
}
MERGED: Final[dict[tuple[str, str], str]] = {("how", "come"): "why"}
"""Two words that mean another one."""

CLITICS: Final[dict[str, str]] = {"'re": "are", "'ve": "have", "'ll": "will", "'d": "would", "'m": "am"}
IS_HOSTS: Final[frozenset[str]] = _words("what who where when why how that there here it he she this which")
"""Words whose 's is "is"; after any other it is a possessive and dropped."""

PARTICLES: Final[frozenset[str]] = _words("on off in out up down forward back")
PARTICLE_VERBS: Final[dict[str, str]] = _pairs(
    "turn:turn turns:turn turned:turn turning:turn switch:switch switches:switch switched:switch switching:switch "
    "shut:shut shuts:shut shutting:shut log:log logs:log logged:log logging:log sign:sign signs:sign signed:sign "
    "signing:sign speed:speed speeds:speed speeding:speed slow:slow slows:slow slowed:slow slowing:slow zoom:zoom "
    "zooms:zoom zoomed:zoom zooming:zoom opt:opt opts:opt opted:opt opting:opt check:check checks:check checked:check "
    "checking:check scale:scale scales:scale scaled:scale scaling:scale roll:roll rolls:roll rolled:roll rolling:roll"
)

ALTERING: Final[frozenset[str]] = _words(
    "becoming fake former formerly wannabe aspiring retired alleged unofficial pretend pretending except unless "
    "bad terrible worst"
)
"""Words that change what is asked even where the other text has nothing in their place."""

HARMLESS_MODIFIERS: Final[frozenset[str]] = _words(
    "good best great easy easiest simple quick quickest fast fastest effective proper right main possible "
    "specific certain particular exact whole entire very really most more own other new nice perfect ideal "
    "suitable common typical better way few little bit lot kind sort type single general complete basic short "
    "brief clear detailed given so too just also correct top different various"
)
"""What may stand between an article and its noun without another answer being due."""

ARTICLES: Final[frozenset[str]] = _words("a an")

MALE: Final[frozenset[str]] = _words("he him his himself")
FEMALE: Final[frozenset[str]] = _words("she her hers herself")

SYMMETRIC_CONNECTORS: Final[frozenset[str]] = _words("and or vs versus with nor between")
"""X and Y may change places around these."""

DIRECTED_CONNECTORS: Final[frozenset[str]] = _words("to into from than over before after by of instead")
"""X and Y must not change places around these; "from" reads backwards."""

SYMMETRIC_RELATIONS: Final[frozenset[str]] = _words(
    "related relation similar similarity different difference differ equal same compare comparison compatible "
    "married correlated correlation equivalent connected meet fight battle mix combine"
)
"""Content words around which X and Y may change places: "how is X related to Y"."""

STOP_WORDS: Final[frozenset[str]] = _words(
    "a an the this that these those there here it its i me my mine you your yours we us our ours they them their "
    "he him his she her hers who whom whose which what when where why how is am are was were be been being do "
    "does did done have has had having will would shall should can could may might must to of in on at by for "
    "from with into onto about as than then so if or and but not no nor just also very really please tell some "
    "any all each every both either neither one vs versus between according think only more most over under "
    "before after without off up down out get got let make simultaneously"
)
"""Words that carry no role. ``he`` and ``she`` are compared apart."""

SENTENCE_OPENERS: Final[frozenset[str]] = STOP_WORDS | _words(
    "everything something nothing anything everyone someone anyone nobody life today god"
)
"""Words before "is" or "has" at the start of a sentence that are no names."""

NAME_FOLLOWERS: Final[frozenset[str]] = _words("is was has had will does did said says")

NOT_NAMES: Final[frozenset[str]] = _words("i ok okay faq tv pc id pin atm asap vs diy ceo mr mrs ms dr q a")
"""Capitalised words that name nobody."""

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "usa": ("us", "america", "states", "american", "americans"),
    "us": ("usa", "america", "states", "american", "americans"),
    "america": ("usa", "us", "states"),
    "uk": ("britain", "england", "kingdom", "british"),
    "states": ("usa", "us", "america"),
    "united": ("usa", "us", "uk", "america"),
    "kingdom": ("uk", "britain"),
    "ai": ("artificial", "intelligence"),
    "ml": ("machine", "learning"),
    "js": ("javascript",),
    "javascript": ("js",),
    "nyc": ("york",),
}
"""Other words by which a name may be told."""

PARTICIPLES: Final[dict[str, str]] = _pairs(
    "beaten:beat bitten:bite bought:buy brought:bring built:build caught:catch chosen:choose driven:drive "
    "eaten:eat fed:feed felt:feel forgiven:forgive found:find given:give heard:hear held:hold hidden:hide hit:hit "
    "hurt:hurt kept:keep known:know led:lead left:leave lost:lose made:make met:meet paid:pay read:read seen:see "
    "sent:send shot:shoot shown:show sold:sell sued:sue sung:sing taken:take taught:teach told:tell thrown:throw "
    "understood:understand won:win worn:wear written:write"
)
"""Irregular participles and their verbs, for telling the passive voice."""

LANGUAGE_VOTES: Final[dict[str, frozenset[str]]] = {
    "en": _words("the is are and of to what how do does you my i can it for with why this that"),
    "de": _words("der die das und ist nicht ich wie was ein eine zu mit für auf sie kann man mein den wo wird"),
    "fr": _words("le la les et est un une je vous que qui dans pour pas mon ma comment des du quel quelle sur"),
    "es": _words("el la los las y es un una que de en cómo como por para mi con qué puedo cuál dónde se"),
    "it": _words("il lo gli di e è un una che per come mio mia con sono della del cosa posso quale dove"),
    "pt": _words("o os um uma que para com não como meu minha é são do da qual onde posso em eu você"),
    "nl": _words("de het een en is niet ik hoe wat van mijn met voor op zijn kan je waar welke dat"),
}
"""The commonest words of a language; the one with the most of them in a text wins, ties tell nothing."""

SCRIPTS: Final[tuple[tuple[str, int, int], ...]] = (
    ("greek", 0x0370, 0x03FF),
    ("cyrillic", 0x0400, 0x052F),
    ("armenian", 0x0530, 0x058F),
    ("hebrew", 0x0590, 0x05FF),
    ("arabic", 0x0600, 0x077F),
    ("devanagari", 0x0900, 0x097F),
    ("bengali", 0x0980, 0x09FF),
    ("tamil", 0x0B80, 0x0BFF),
    ("telugu", 0x0C00, 0x0C7F),
    ("thai", 0x0E00, 0x0E7F),
    ("georgian", 0x10A0, 0x10FF),
    ("kana", 0x3040, 0x30FF),
    ("han", 0x4E00, 0x9FFF),
    ("hangul", 0xAC00, 0xD7AF),
)
"""Name, first and last code point. Everything else, Latin above all, is "latin"."""
