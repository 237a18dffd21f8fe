"""Entries as the API tells them, and what can be asked for and done to them."""

from typing import Annotated, Any

from pydantic import Field

from cacheproxy.server.api.shapes import Asked, Page, Seconds, Told

Name = Annotated[str, Field(max_length=1000)]


class Conditions(Asked):
    """Which entries are meant: all conditions together."""

    text: Name = ""
    """The question contains this, whatever the case of its letters."""
    tag: Name = ""
    namespace: Name | None = None
    """Empty: entries without one."""
    scope: Annotated[str, Field(max_length=64, pattern=r"^[0-9a-fA-F]*$")] = ""
    """Hexadecimal digits at the start of the scope."""
    model: Name = ""
    tenant: Name = ""
    root: Name = ""
    """Entries that share their answer with this one, itself included."""
    older_than: Seconds | None = None
    """Stored before this moment."""


class EntriesAsked(Conditions, Page):
    """Which entries, page by page; or the nearest in meaning."""

    meaning: Annotated[str, Field(max_length=20_000)] = ""
    """Nearest to this in meaning, most similar first: one page, at most ``limit``."""


class EntryBrief(Told):
    """An entry in a list."""

    id: str
    prompt: str
    """The last user turn; what is longer than 1,000 characters is cut."""
    model: str
    tenant: str
    dialect: str
    upstream: str
    namespace: str
    tags: list[str]
    scope: str
    created_at: float
    expires_at: float | None
    """Null: pinned."""
    pinned: bool
    expired: bool
    semantic: bool
    """Whether similar questions may be answered with it."""
    size: int
    """Bytes, near enough."""
    cost_usd: float | None
    """What one hit saves."""
    hits: int
    """As far as they are written down: up to half a second ago."""
    last_used: float
    saved_usd: float | None
    """Hits times cost."""
    suspended: bool
    """Withdrawn: served to nobody."""
    similarity: float | None = None
    """To what ``meaning`` asked."""


class EntryList(Told):
    """A page of entries, in the order of their ids, or of their similarity."""

    entries: list[EntryBrief]
    next: str | None
    """What ``after`` goes on with; null on the last page."""
    stored: int
    """Entries in the store, whatever was asked."""


class AliasTold(Told):
    """A question that has the same answer, as verdicts said."""

    id: str
    prompt: str
    created_at: float
    hits: int


class UsageTold(Told):
    """Tokens of the answer."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    estimated: bool


class EntryVerdicts(Told):
    """What was said of the answer."""

    suspended: bool
    note: str
    """Why it is."""
    right: int
    """Verdicts on its group, as far as they are remembered."""
    wrong: int
    blocked_pairs: int
    """Requests that are never answered from its group."""


class EntryTold(EntryBrief):
    """One entry, whole."""

    key: str
    root: str | None
    """The entry whose answer it shares; null where it was never compared."""
    answer: Any
    """The stored answer."""
    answer_text: str
    """Its plain text; may be empty."""
    usage: UsageTold
    latency_ms: float
    """How long the upstream took for it."""
    aliases: list[AliasTold]
    """Other questions of its group, at most 100."""
    verdicts: EntryVerdicts


class Removed(Told):
    """How many entries went."""

    removed: int


class ExpiryAsked(Asked):
    """When an entry is to expire."""

    at: Seconds | None
    """Null pins it: it never expires and is never evicted. A moment that has passed ends it at once."""


class ExpiryTold(Told):
    """When an entry expires now."""

    entry: str
    expires_at: float | None
    pinned: bool


class PurgeAsked(Conditions):
    """What to remove."""

    ids: Annotated[tuple[Name, ...], Field(max_length=10_000)] = ()
    """Only these."""
    everything: bool = False
    """Must be said to remove without a condition."""
    dry_run: bool = True
    """Only tell what would go."""


class PurgeTold(Told):
    """What a purge removes, or would remove."""

    dry_run: bool
    selected: int
    removed: int
    sample: list[EntryBrief]
    """The first 20 of them, as they were."""


class ExportAsked(Conditions):
    """Which entries to export; without conditions every one."""


class ImportTold(Told):
    """What an import did."""

    entries: int
    expired: int
    """Left out."""
    embedded: int
    """Can be found by similar questions at once."""
    to_embed: int
    """Cannot yet: there is no embedding model here, or it cannot read them whole."""
