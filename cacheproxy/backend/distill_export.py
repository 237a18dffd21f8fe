"""Cached answers as lessons: chats in JSON lines, for training a small model on what a large one said.

An entry holds the last question and its answer, and of what stood in front only a hash, its scope. A system prompt that
many requests share makes one scope with many entries; a conversation's history makes a scope of its own. So only scopes
with several entries are taken, and the system prompt that they share is to be said by whoever exports.

An answer that was called wrong is suspended, and no lesson. Labels do not count here: a wrong one says that an answer
does not fit another question than its own, and look-alikes are what a student has to tell apart.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cacheproxy import jsontext
from cacheproxy.core.personal import personal
from cacheproxy.wire.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cacheproxy.jsontext import JsonObject
    from cacheproxy.model import Entry, Selection
    from cacheproxy.ports import Labels, Store

_PAGE: Final = 256
_DIALECTS: Final = {dialect.name: dialect for dialect in DIALECTS.values()}
EVERYBODY: Final = "*"


@dataclass(frozen=True, slots=True)
class LessonRules:
    """Which answers become lessons. ``selection`` says namespace, scope, hits and the least age."""

    tenants: frozenset[str]
    """Those who agreed."""
    selection: Selection
    newer_than: float = 0.0
    """Created after this time (seconds since the epoch)."""
    min_scope: int = 2
    """Scopes with fewer entries are left out."""
    system: str = ""
    """The system prompt that the entries' requests had."""


@dataclass(slots=True)
class Exported:
    """What an export did."""

    lessons: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """How many entries were left out, and why."""


async def export(
    store: Store, labels: Labels, rules: LessonRules, write: Callable[[bytes], object], *, now: float
) -> Exported:
    """Write a lesson for each entry that may be one, a line each; of equal questions in a scope the newest answer."""
    done, suspended = Exported(), await labels.suspended()
    scopes: Counter[bytes] = Counter()
    found: dict[tuple[bytes, str], tuple[float, str]] = {}
    after = ""
    while page := await store.browse(rules.selection, limit=_PAGE, after=after):
        after = page[-1].id
        for entry in page:
            why = "called-wrong" if entry.id in suspended else _unfit(entry, rules, now)
            answer = "" if why else _answer(entry)
            why = (
                why
                or ("" if answer else "no-text")
                or ("personal-data" if personal(f"{entry.prompt}\n{answer}") else "")
            )
            if why:
                done.left_out[why] += 1
                continue
            key = entry.scope, entry.prompt
            known = found.get(key)
            if known is None:
                scopes[entry.scope] += 1
            else:
                done.left_out["asked-twice"] += 1
            if known is None or known[0] < entry.created_at:
                found[key] = entry.created_at, answer
    for (scope, prompt), (_, answer) in found.items():
        if scopes[scope] < rules.min_scope:
            done.left_out["lone-scope"] += 1
            continue
        done.lessons += 1
        write(jsontext.dump({"messages": list(_messages(rules.system, prompt, answer))}) + b"\n")
    return done


def _unfit(entry: Entry, rules: LessonRules, now: float) -> str:
    """Why an entry cannot be a lesson, as far as it can be told without its answer."""
    if EVERYBODY not in rules.tenants and entry.tenant not in rules.tenants:
        return "no-consent"
    if entry.expires_at <= now:
        return "expired"
    if entry.created_at <= rules.newer_than:
        return "too-old"
    return "" if entry.semantic and entry.prompt.strip() else "no-plain-question"


def _answer(entry: Entry) -> str:
    dialect = _DIALECTS.get(entry.dialect)
    if dialect is None:
        return ""
    try:
        read = dialect.read(jsontext.parse(entry.answer))
    except ValueError:
        return ""
    return read.text.strip() if read.storable and not read.exact_only else ""


def _messages(system: str, prompt: str, answer: str) -> Iterator[JsonObject]:
    if system:
        yield {"role": "system", "content": system}
    yield {"role": "user", "content": prompt}
    yield {"role": "assistant", "content": answer}
