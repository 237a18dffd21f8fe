"""``cacheproxy cache export``, ``import`` and ``move``: everything that a store keeps, into a file or another store."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cacheproxy import moving, transfer
from cacheproxy.cli.common import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    StoreOption,
    existing,
    print_json,
    say,
    settings_from,
    wall_clock,
)
from cacheproxy.errors import BadRequest
from cacheproxy.settings import Settings


def export_file(
    file: Annotated[typer.FileBinaryWrite, typer.Argument(help="JSON lines; - for standard output.")],
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Write everything that is kept to a file, but for the secret, without which its entries are not found."""
    settings = existing(_settings(config, data_dir, store))
    from cacheproxy import opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them

    async def export() -> int:
        written = -1  # the head is nothing that is kept
        async with opening.open_kept(settings) as kept:
            async for line in moving.written(kept):
                file.write(line)
                written += 1
        return written

    typer.echo(f"exported {asyncio.run(export())} lines", err=True)


def import_file(
    file: Annotated[Path, typer.Argument(help="What cache export wrote, or the API's export.", exists=True)],
    *,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Keep what is in a file. Entries that are there already are replaced; a ledger that has sums is left as it is."""
    settings = _settings(config, data_dir, store)
    from cacheproxy import opening  # noqa: PLC0415 - as above

    async def take_in() -> moving.Moved | transfer.Imported:
        async with opening.open_kept(settings) as kept:
            with file.open("rb") as lines:
                everything = moving.HEAD.encode() in lines.readline()
                lines.seek(0)
                if everything:
                    return await moving.taken_in(kept, lines, now=wall_clock())
                samples = settings.cache.samples
                return await transfer.import_entries(kept.store, lines, now=wall_clock(), samples=samples)

    try:
        moved = asyncio.run(take_in())
    except BadRequest as error:
        raise BadRequest(f"{file}: {error.message}") from None
    if json:
        print_json(moved)
        return
    say(f"imported {moved.entries} entries, left out {moved.expired} that had expired")
    if isinstance(moved, moving.Moved):
        _tell(moved)
        say("they are found with the secret of the store that they come from: docs/operations.md")
    elif moved.to_embed:
        say(f"{moved.to_embed} answer identical questions only until you run `cacheproxy cache re-embed`")


def move(
    *,
    to: Annotated[str, typer.Option("--to", help="The other store: sqlite:///PATH, or the URL of a Redis.")],
    to_data_dir: Annotated[str | None, typer.Option(help="Its data directory, where that is another one.")] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Copy everything that is kept, and the secret, into another store, which must be empty or have the same secret."""
    settings = existing(_settings(config, data_dir, store))
    target = _settings(config, to_data_dir or data_dir, to)
    from cacheproxy import opening  # noqa: PLC0415 - as above

    async def copy() -> moving.Moved:
        async with opening.open_kept(settings) as kept, opening.open_kept(target) as there:
            await there.keep_secret(kept.secret())
            return await moving.taken_in(there, moving.written(kept), now=wall_clock())

    moved = asyncio.run(copy())
    if json:
        print_json(moved)
        return
    say(f"copied {moved.entries} entries, left out {moved.expired} that had expired")
    _tell(moved)


def _tell(moved: moving.Moved) -> None:
    counted = asdict(moved)
    say(", ".join(f"{counted[name]} {name.replace('_', ' ')}" for name in ("vectors", "labels", "keys", "ledger_rows")))
    if moved.ledger_kept:
        say("the ledger there has sums of its own, and got none")


def _settings(config: Path | None, data_dir: Path | str | None, store: str | None) -> Settings:
    return settings_from({"config": config, "data_dir": data_dir, "store": store}).settings
