"""What ``cacheproxy cache`` commands share: their options, and how they open the store and show entries."""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cacheproxy import records, transfer
from cacheproxy.cli.common import ago, seconds, settings_from
from cacheproxy.errors import BadRequest
from cacheproxy.model import Entry, Selection
from cacheproxy.settings import Settings

ScopeOption = Annotated[str, typer.Option(help="Hexadecimal digits at the start of the scope.", metavar="HEX")]
TagOption = Annotated[str, typer.Option(help="Entries with this tag.")]
NamespaceOption = Annotated[str | None, typer.Option(help="Entries of this namespace.")]
TextOption = Annotated[str, typer.Option(help="Entries whose question contains this.")]
ModelOption = Annotated[str, typer.Option(help="Answers of this model.")]
TenantOption = Annotated[str, typer.Option(help="Entries of this tenant, as cacheproxy stats --by tenant names it.")]
OlderOption = Annotated[str | None, typer.Option(help="Stored longer ago than this: 36h, 7d.", metavar="AGE")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_PROMPT_WIDTH: Final = 60


def store_settings(config: Path | None, data_dir: Path | None, store: str | None, **more: str | None) -> Settings:
    """The settings, with these flags on top."""
    return settings_from({"config": config, "data_dir": data_dir, "store": store, **more}).settings


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[transfer.RootKeeper]:
    """The store that the settings name."""
    from cacheproxy import opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them

    async with opening.open_store(settings) as store:
        yield store


def selection_of(
    scope: str,
    tag: str,
    namespace: str | None,
    older_than: str | None,
    now: float,
    *,
    text: str = "",
    model: str = "",
    tenant: str = "",
) -> Selection:
    """Which entries the options mean."""
    return Selection(
        text=text,
        model=model,
        tenant=tenant,
        scope_prefix=scope.lower(),
        tag=tag,
        namespace=namespace,
        older_than=None if older_than is None else now - seconds(older_than),
    )


def found(entries: Sequence[Entry], entry_id: str) -> Sequence[Entry]:
    """The entries; one that is not there is an error."""
    if not entries:
        raise unknown(entry_id)
    return entries


def unknown(entry_id: str) -> BadRequest:
    """That there is no such entry."""
    return BadRequest(f"no entry {entry_id}; `cacheproxy cache ls` lists them")


def described(entry: Entry) -> dict[str, Any]:
    """An entry for programs, without its answer."""
    return {name: value for name, value in records.write(entry).items() if name != "answer"} | {"size": entry.size}


def life_left(entry: Entry, now: float) -> str:
    """How long an entry lives on, in a word."""
    if math.isinf(entry.expires_at):
        return "pinned"
    return "expired" if entry.expires_at <= now else ago(entry.expires_at - now)


def shortened(prompt: str) -> str:
    """The beginning of a prompt, in one line."""
    line = " ".join(prompt.split())
    return line if len(line) <= _PROMPT_WIDTH else line[: _PROMPT_WIDTH - 1] + "…"
