"""``cacheproxy keys``: make, list and revoke virtual keys. Works on the store; proxies on it follow within a second."""

import asyncio
import math
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cacheproxy.cli.common import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    Misuse,
    StoreOption,
    ago,
    console,
    existing,
    print_json,
    say,
    seconds,
    settings_from,
    wall_clock,
)
from cacheproxy.core.keys import KEY_BYTES, VirtualKey, digest_of, hint_of, new_key, tenant_name
from cacheproxy.errors import BadRequest
from cacheproxy.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke virtual keys.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the key is called.")]


@app.command(epilog="Example: cacheproxy keys create alice --tenant research --expires 90d")
def create(
    name: NameArgument,
    *,
    tenant: Annotated[
        str | None, typer.Option(help="Whose it is: keys of one tenant share a cache.", show_default="the name")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="After this it is refused: 12h, 90d.", metavar="AGE", show_default="never")
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Make a key and print it. It is shown this once: only its hash is kept."""
    now = wall_clock()
    key = new_key(secrets.token_bytes(KEY_BYTES))
    kept = VirtualKey(
        name=_named("NAME", name),
        tenant=_named("--tenant", name if tenant is None else tenant),
        digest=digest_of(key),
        hint=hint_of(key),
        created_at=now,
        expires_at=math.inf if expires is None else now + seconds(expires),
    )
    settings = _settings(config, data_dir, store)
    from cacheproxy.opening import open_keys  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them

    async def add() -> bool:
        async with open_keys(settings) as keys:
            return await keys.add(kept)

    if not asyncio.run(add()):
        raise BadRequest(f"there is a key {name} already; revoke it first, or give this one another name")
    if json:
        print_json({**_described(kept), "key": key})
        return
    say(key)  # alone on standard output, for scripts
    typer.echo(f"key {kept.name} of tenant {kept.tenant}; it is not shown again", err=True)
    if not settings.virtual_keys:
        typer.echo("note: virtual_keys is off here; a proxy asks for keys where it is on", err=True)


@app.command("ls", epilog="Example: cacheproxy keys ls")
def list_keys(
    *, json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None, store: StoreOption = None
) -> None:
    """List keys: their names, tenants and first characters."""
    settings = existing(_settings(config, data_dir, store))
    from cacheproxy.opening import open_keys  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them

    async def every() -> Sequence[VirtualKey]:
        async with open_keys(settings) as keys:
            return await keys.every()

    keys = asyncio.run(every())
    if json:
        print_json([_described(key) for key in keys])
        return
    now = wall_clock()
    table = Table("name", "tenant", "begins with", "age", "expires in", box=None)
    for key in keys:
        table.add_row(key.name, key.tenant, key.hint, ago(now - key.created_at), _left(key.expires_at - now))
    console().print(table, markup=False)


@app.command(epilog="Example: cacheproxy keys revoke alice")
def revoke(
    name: NameArgument,
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Refuse a key from now on. What its tenant has in the cache stays, for the tenant's other keys."""
    settings = existing(_settings(config, data_dir, store))
    from cacheproxy.opening import open_keys  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them

    async def forget() -> bool:
        async with open_keys(settings) as keys:
            return await keys.revoke(name)

    if not asyncio.run(forget()):
        raise BadRequest(f"no key {name}; `cacheproxy keys ls` lists them")
    say(f"revoked {name}")


def _settings(config: Path | None, data_dir: Path | None, store: str | None) -> Settings:
    return settings_from({"config": config, "data_dir": data_dir, "store": store}).settings


def _named(option: str, text: str) -> str:
    try:
        return tenant_name(text)
    except ValueError as error:
        raise Misuse(f"{option}: {error} (got {text!r})") from None


def _described(key: VirtualKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "tenant": key.tenant,
        "hint": key.hint,
        "created_at": key.created_at,
        "expires_at": key.expires_at if math.isfinite(key.expires_at) else None,
    }


def _left(left_s: float) -> str:
    if math.isinf(left_s):
        return "never"
    return ago(left_s) if left_s > 0 else "expired"
