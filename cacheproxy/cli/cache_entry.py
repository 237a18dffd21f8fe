"""``cacheproxy cache``, for one entry: look at it, remove it, keep it, end it, say that it is wrong.

Works on the store directly; a proxy that runs on the same store follows.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Annotated

import typer

from cacheproxy import jsontext
from cacheproxy.cli.cache_common import described, found, opened_store, store_settings, unknown
from cacheproxy.cli.common import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    Misuse,
    StoreOption,
    console,
    existing,
    print_json,
    say,
    seconds,
    wall_clock,
)
from cacheproxy.model import Entry, Selection
from cacheproxy.settings import Settings

app = typer.Typer()


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
    settings = existing(store_settings(config, data_dir, store))

    async def load() -> tuple[Sequence[Entry], str | None]:
        async with opened_store(settings) as opened:
            return await opened.load([entry_id]), (await opened.roots([entry_id])).get(entry_id)

    loaded, root = asyncio.run(load())
    for entry in found(loaded, entry_id):
        told = described(entry) | {"root": root, "answer": jsontext.parse(entry.answer)}
        if json:
            print_json(told)
        else:
            console().print_json(jsontext.dump(told).decode())


@app.command("rm", epilog="Example: cacheproxy cache rm 01JX3M5K")
def remove(
    entry_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Remove one entry."""
    settings = existing(store_settings(config, data_dir, store))

    async def delete() -> int:
        async with opened_store(settings) as opened:
            return await opened.remove(Selection(ids=(entry_id,)))

    if not asyncio.run(delete()):
        raise unknown(entry_id)
    say(f"removed {entry_id}")


@app.command(epilog="Example: cacheproxy cache pin 01JX3M5K")
def pin(
    entry_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Keep an entry: it neither expires nor makes room for others. `cache expire` ends that."""
    _expire_at(existing(store_settings(config, data_dir, store)), entry_id, math.inf)
    say(f"pinned {entry_id}")


@app.command(epilog="Example: cacheproxy cache expire 01JX3M5K --in 2h")
def expire(
    entry_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    after: Annotated[str, typer.Option("--in", help="When, from now: 30m, 7d.", metavar="AGE")] = "0s",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """End an entry, now or later. A pinned one is pinned no more."""
    _expire_at(existing(store_settings(config, data_dir, store)), entry_id, wall_clock() + seconds(after))
    say(f"{entry_id} expires in {after}")


@app.command(epilog='Example: cacheproxy cache mark 01JX3M5K wrong --note "outdated since v8"')
def mark(
    entry_id: Annotated[str, typer.Argument(metavar="ID")],
    verdict: Annotated[str, typer.Argument(help="wrong: serve it to nobody; right: serve it again.")],
    *,
    note: Annotated[str, typer.Option(help="Why.")] = "",
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Say that an answer is wrong, or right after all. A running proxy follows within a second."""
    if verdict not in ("wrong", "right"):
        raise Misuse(f"{verdict!r} is no verdict: say wrong or right")
    settings = existing(store_settings(config, data_dir, store))
    from cacheproxy.opening import open_judged  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them

    async def judge() -> None:
        async with open_judged(settings) as (opened, labels):
            found(await opened.load([entry_id]), entry_id)
            await (labels.suspend(entry_id, wall_clock(), note) if verdict == "wrong" else labels.lift(entry_id))

    asyncio.run(judge())
    say(f"{entry_id} is served {'to nobody' if verdict == 'wrong' else 'again'}")


def _expire_at(settings: Settings, entry_id: str, at: float) -> None:
    async def change() -> bool:
        async with opened_store(settings) as opened:
            return await opened.expire_at(entry_id, at)

    if not asyncio.run(change()):
        raise unknown(entry_id)
