"""``cacheproxy config``: check a settings file, show what is in force, print the schema."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cacheproxy import config
from cacheproxy.cli.common import ConfigOption, JsonOption, console, print_json, say, settings_from
from cacheproxy.cli.reference import settings_table

app = typer.Typer(no_args_is_help=True, help="Check and show settings.")


@app.command(epilog="Example: cacheproxy config check cacheproxy.yaml")
def check(
    file: Annotated[Path, typer.Argument(help="The settings file.", exists=True, dir_okay=False, readable=True)],
) -> None:
    """Say whether a settings file, with the environment on top, can be used."""
    config.load(flags={"config": file.absolute()})
    say(f"{file}: every setting is fine")


@app.command(epilog="Example: CACHEPROXY_THRESHOLD=.97 cacheproxy config show")
def show(*, config_file: ConfigOption = None, json: JsonOption = False) -> None:
    """Show every setting that is in force, and where it came from. Secrets are masked."""
    rows = config.effective(settings_from({"config": config_file}))
    if json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
        return
    table = Table("setting", "value", "from", box=None)
    for name, value, origin in rows:
        table.add_row(name, "" if value is None else str(value), origin, style="dim" if origin == "default" else "")
    console().print(table)


@app.command(epilog="Example: cacheproxy config schema > cacheproxy.schema.json")
def schema(
    *, markdown: Annotated[bool, typer.Option("--markdown", help="A table for people instead.")] = False
) -> None:
    """Print the JSON schema of the settings file, for editors."""
    if markdown:
        say(settings_table().rstrip())
    else:
        print_json(config.settings_schema())
