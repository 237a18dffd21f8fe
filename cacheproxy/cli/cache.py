"""``cacheproxy cache``, for many entries: look at what is stored, remove it, move it, embed it anew.

Works on the store directly; a proxy that runs on the same store follows.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final

import typer
from rich.progress import Progress
from rich.table import Table

from cacheproxy import reembedding
from cacheproxy.cli.cache_common import (
    ModelOption,
    NamespaceOption,
    OlderOption,
    ScopeOption,
    TagOption,
    TenantOption,
    TextOption,
    YesOption,
    described,
    life_left,
    opened_store,
    selection_of,
    shortened,
    store_settings,
)
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
    wall_clock,
)
from cacheproxy.model import Entry, Selection
from cacheproxy.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Look at, remove and move what is stored.")

_SAMPLE: Final = 20
_NEAREST: Final = 1_000
"""So many of the nearest in meaning are held against the other conditions."""


@app.command("ls", epilog="Example: cacheproxy cache ls --namespace docs --limit 20")
def list_entries(
    *,
    limit: Annotated[int, typer.Option(help="At most this many.", min=1)] = 50,
    scope: ScopeOption = "",
    tag: TagOption = "",
    namespace: NamespaceOption = None,
    text: TextOption = "",
    model: ModelOption = "",
    tenant: TenantOption = "",
    older_than: OlderOption = None,
    meaning: Annotated[str, typer.Option(help="The nearest to this in meaning, most similar first.")] = "",
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """List entries."""
    now = wall_clock()
    selection = selection_of(scope, tag, namespace, older_than, now, text=text, model=model, tenant=tenant)
    settings = existing(store_settings(config, data_dir, store))
    from cacheproxy import opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them

    async def browse() -> tuple[Sequence[Entry], Mapping[str, float], int]:
        async with opening.open_store(settings) as opened:
            if meaning:
                entries, similar = await _nearest(settings, opened, meaning, selection, limit)
            else:
                entries, similar = await opened.browse(selection, limit=limit), {}
            return entries, similar, await opened.count()

    entries, similar, total = asyncio.run(browse())
    if json:
        nearness = {each: {"similarity": similarity} for each, similarity in similar.items()}
        print_json([described(entry) | nearness.get(entry.id, {}) for entry in entries])
        return
    table = Table("id", "age", "expires in", "model", "prompt", "size", "semantic", box=None)
    for entry in entries:
        table.add_row(
            entry.id,
            ago(now - entry.created_at),
            life_left(entry, now),
            entry.model,
            shortened(entry.prompt),
            f"{entry.size:,}",
            "yes" if entry.semantic else "",
        )
    console().print(table, markup=False)
    say(f"{len(entries)} shown, {total} stored")


@app.command(epilog="Example: cacheproxy cache purge --tag docs-v7 --older-than 7d")
def purge(
    *,
    scope: ScopeOption = "",
    tag: TagOption = "",
    namespace: NamespaceOption = None,
    text: TextOption = "",
    model: ModelOption = "",
    tenant: TenantOption = "",
    older_than: OlderOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    yes: YesOption = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Remove every entry that meets all conditions; without conditions, every entry."""
    now = wall_clock()
    selection = selection_of(scope, tag, namespace, older_than, now, text=text, model=model, tenant=tenant)
    settings = existing(store_settings(config, data_dir, store))

    async def count() -> tuple[int, Sequence[Entry]]:
        async with opened_store(settings) as opened:
            return await opened.count(selection), await opened.browse(selection, limit=_SAMPLE)

    async def delete() -> int:
        async with opened_store(settings) as opened:
            return await opened.remove(selection)

    if dry_run:
        _preview(*asyncio.run(count()), json=json)
        return
    if not yes:
        selected, _ = asyncio.run(count())
        if not is_interactive():
            raise Misuse(f"{selected} entries would be removed: add --yes to do it")
        typer.confirm(f"Remove {selected} entries?", abort=True)
    removed = asyncio.run(delete())
    if json:
        print_json({"removed": removed})
    else:
        say(f"removed {removed} entries")


@app.command("re-embed", epilog="Example: cacheproxy cache re-embed --embedding-model BAAI/bge-small-en-v1.5")
def re_embed(
    *,
    embedding_model: Annotated[str | None, typer.Option(help="The model from now on.")] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Embed every stored question with the configured model, while proxies serve; then restart them with it.

    An interrupted run goes on where it stopped. Run it once more after the restart, for what came in between.
    """
    settings = existing(store_settings(config, data_dir, store, embedding_model=embedding_model))
    from cacheproxy import opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them
    from cacheproxy.store.shelf import open_shelf  # noqa: PLC0415 - likewise

    async def embed_all(progress: Progress) -> reembedding.Embedded:
        async with opening.open_kept(settings) as kept, opening.open_embedder(settings) as embedder:
            shelf = open_shelf(settings.data_dir, store=kept.name, model=embedder.model)
            async with shelf as waiting:
                task = progress.add_task("embedding", total=await kept.store.count())
                return await reembedding.embed_anew(
                    kept.store, embedder, waiting, lambda entries: progress.advance(task, entries)
                )

    with Progress(console=console(stderr=True)) as progress:
        embedded = asyncio.run(embed_all(progress))
    if json:
        print_json(embedded)
    else:
        say(f"embedded {embedded.entries} questions, left out {embedded.too_long} that the model cannot read whole")
        if embedded.resumed:
            say(f"{embedded.resumed} more were embedded by an earlier run")


async def _nearest(
    settings: Settings, store: reembedding.Reembeddable, meaning: str, selection: Selection, limit: int
) -> tuple[Sequence[Entry], Mapping[str, float]]:
    """Entries by meaning, with their similarities: what the API's search does."""
    from cacheproxy.opening import open_embedder  # noqa: PLC0415 - loads the model
    from cacheproxy.server.api.entries import nearest  # noqa: PLC0415 - likewise

    async with open_embedder(settings) as embedder:
        await store.claim_embedding(embedder.model, embedder.dimension)
        similar = await nearest(store, await embedder.embed(meaning), _NEAREST)
    found = await store.browse(replace(selection, ids=tuple(similar)), limit=_NEAREST) if similar else ()
    return sorted(found, key=lambda entry: (-similar[entry.id], entry.id))[:limit], similar


def _preview(selected: int, sample: Sequence[Entry], *, json: bool) -> None:
    if json:
        print_json({"selected": selected, "sample": [described(entry) for entry in sample]})
        return
    for entry in sample:
        say(f"{entry.id}  {shortened(entry.prompt)}")
    say(f"{selected} entries would be removed" + (f", {len(sample)} shown" if selected > len(sample) else ""))
