"""``cacheproxy cache``: look at what is stored, remove it, move it, embed it anew.

Works on the store directly; a proxy that runs on the same store follows.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import Progress
from rich.table import Table

from cacheproxy import jsontext, records, transfer
from cacheproxy.cli.common import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    Misuse,
    StoreOption,
    ago,
    console,
    existing,
    is_interactive,
    print_json,
    say,
    seconds,
    settings_from,
    wall_clock,
)
from cacheproxy.errors import BadRequest
from cacheproxy.model import Entry, Selection
from cacheproxy.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Look at, remove and move what is stored.")

ScopeOption = Annotated[str, typer.Option(help="Hexadecimal digits at the start of the scope.", metavar="HEX")]
TagOption = Annotated[str, typer.Option(help="Entries with this tag.")]
NamespaceOption = Annotated[str | None, typer.Option(help="Entries of this namespace.")]
OlderOption = Annotated[str | None, typer.Option(help="Stored longer ago than this: 36h, 7d.", metavar="AGE")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_PROMPT_WIDTH: Final = 60


@app.command("ls", epilog="Example: cacheproxy cache ls --namespace docs --limit 20")
def list_entries(
    *,
    limit: Annotated[int, typer.Option(help="At most this many.", min=1)] = 50,
    scope: ScopeOption = "",
    tag: TagOption = "",
    namespace: NamespaceOption = None,
    older_than: OlderOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """List entries."""
    now = wall_clock()
    selection = _selection(scope, tag, namespace, older_than, now)
    settings = existing(_settings(config, data_dir, store))

    async def browse() -> tuple[Sequence[Entry], int]:
        async with _opened(settings) as opened:
            return await opened.browse(selection, limit=limit), await opened.count()

    entries, total = asyncio.run(browse())
    if json:
        print_json([_described(entry) for entry in entries])
        return
    table = Table("id", "age", "expires in", "model", "prompt", "size", "semantic", box=None)
    for entry in entries:
        table.add_row(
            entry.id,
            ago(now - entry.created_at),
            _left(entry, now),
            entry.model,
            _shortened(entry.prompt),
            f"{entry.size:,}",
            "yes" if entry.semantic else "",
        )
    console().print(table, markup=False)
    say(f"{len(entries)} shown, {total} stored")


@app.command(epilog="Example: cacheproxy cache show 01JX3M5K")
def show(
    entry_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Show one entry with its answer, and its root: the entry whose answer similar questions share with it."""
    settings = existing(_settings(config, data_dir, store))

    async def load() -> tuple[Sequence[Entry], str | None]:
        async with _opened(settings) as opened:
            return await opened.load([entry_id]), (await opened.roots([entry_id])).get(entry_id)

    loaded, root = asyncio.run(load())
    for entry in _found(loaded, entry_id):
        described = _described(entry) | {"root": root, "answer": jsontext.parse(entry.answer)}
        if json:
            print_json(described)
        else:
            console().print_json(jsontext.dump(described).decode())


@app.command("rm", epilog="Example: cacheproxy cache rm 01JX3M5K")
def remove(
    entry_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Remove one entry."""
    settings = existing(_settings(config, data_dir, store))

    async def delete() -> int:
        async with _opened(settings) as opened:
            return await opened.remove(Selection(ids=(entry_id,)))

    if not asyncio.run(delete()):
        raise _unknown(entry_id)
    say(f"removed {entry_id}")


@app.command(epilog="Example: cacheproxy cache purge --tag docs-v7 --older-than 7d")
def purge(
    *,
    scope: ScopeOption = "",
    tag: TagOption = "",
    namespace: NamespaceOption = None,
    older_than: OlderOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Remove every entry that meets all conditions; without conditions, every entry."""
    selection = _selection(scope, tag, namespace, older_than, wall_clock())
    settings = existing(_settings(config, data_dir, store))

    async def count() -> int:
        async with _opened(settings) as opened:
            return await opened.count(selection)

    async def delete() -> int:
        async with _opened(settings) as opened:
            return await opened.remove(selection)

    if not yes:
        selected = asyncio.run(count())
        if not is_interactive():
            raise Misuse(f"{selected} entries would be removed: add --yes to do it")
        typer.confirm(f"Remove {selected} entries?", abort=True)
    removed = asyncio.run(delete())
    if json:
        print_json({"removed": removed})
    else:
        say(f"removed {removed} entries")


@app.command("export", epilog="Example: cacheproxy cache export entries.jsonl")
def export_file(
    file: Annotated[typer.FileBinaryWrite, typer.Argument(help="JSON lines; - for standard output.")],
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Write every entry to a file. Its keys hold under the same data directory's secret only."""
    settings = existing(_settings(config, data_dir, store))

    async def export() -> int:
        written = -1  # the head is no entry
        async with _opened(settings) as opened:
            async for line in transfer.export_entries(opened):
                file.write(line)
                written += 1
        return written

    exported = asyncio.run(export())
    typer.echo(f"exported {exported} entries", err=True)


@app.command("import", epilog="Example: cacheproxy cache import entries.jsonl")
def import_file(
    file: Annotated[Path, typer.Argument(help="What cache export wrote.", exists=True, dir_okay=False)],
    *,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Store the entries of a file. Entries that are there already are replaced."""
    settings = _settings(config, data_dir, store)

    async def store_all(lines: Iterable[bytes]) -> transfer.Imported:
        async with _opened(settings) as opened:
            return await transfer.import_entries(opened, lines, now=wall_clock(), samples=settings.cache.samples)

    try:
        with file.open("rb") as lines:
            imported = asyncio.run(store_all(lines))
    except BadRequest as error:
        raise BadRequest(f"{file}: {error.message}") from None
    if json:
        print_json(imported)
        return
    say(f"imported {imported.entries} entries, left out {imported.expired} that had expired")
    if imported.to_embed:
        say(f"{imported.to_embed} answer identical questions only until you run `cacheproxy cache re-embed`")


@app.command("re-embed", epilog="Example: cacheproxy cache re-embed --embedding-model BAAI/bge-small-en-v1.5")
def re_embed(
    *,
    embedding_model: Annotated[str | None, typer.Option(help="The model from now on.")] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Embed every stored question with the configured model. Stop the proxy before, start it after."""
    settings = existing(_settings(config, data_dir, store, embedding_model=embedding_model))
    from cacheproxy import opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them

    async def embed_all(progress: Progress) -> transfer.Embedded:
        async with opening.open_store(settings) as opened, opening.open_embedder(settings) as embedder:
            task = progress.add_task("embedding", total=await opened.count())
            return await transfer.embed_anew(opened, embedder, lambda entries: progress.advance(task, entries))

    with Progress(console=console(stderr=True)) as progress:
        embedded = asyncio.run(embed_all(progress))
    if json:
        print_json(embedded)
    else:
        say(f"embedded {embedded.entries} questions, left out {embedded.too_long} that the model cannot read whole")


def _settings(config: Path | None, data_dir: Path | None, store: str | None, **more: str | None) -> Settings:
    return settings_from({"config": config, "data_dir": data_dir, "store": store, **more}).settings


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[transfer.RootKeeper]:
    from cacheproxy import opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them

    async with opening.open_store(settings) as store:
        yield store


def _selection(scope: str, tag: str, namespace: str | None, older_than: str | None, now: float) -> Selection:
    return Selection(
        scope_prefix=scope.lower(),
        tag=tag,
        namespace=namespace,
        older_than=None if older_than is None else now - seconds(older_than),
    )


def _found(entries: Sequence[Entry], entry_id: str) -> Sequence[Entry]:
    if not entries:
        raise _unknown(entry_id)
    return entries


def _unknown(entry_id: str) -> BadRequest:
    return BadRequest(f"no entry {entry_id}; `cacheproxy cache ls` lists them")


def _described(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in records.write(entry).items() if name != "answer"} | {"size": entry.size}


def _left(entry: Entry, now: float) -> str:
    if math.isinf(entry.expires_at):
        return "pinned"
    return "expired" if entry.expires_at <= now else ago(entry.expires_at - now)


def _shortened(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= _PROMPT_WIDTH else line[: _PROMPT_WIDTH - 1] + "…"
