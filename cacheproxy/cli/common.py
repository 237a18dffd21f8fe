"""What the commands share: their common options, how they speak, and how they read settings and durations."""

import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from typer.exceptions import TyperException

from cacheproxy import jsontext
from cacheproxy.address import Address
from cacheproxy.config import Loaded, load
from cacheproxy.errors import ConfigError
from cacheproxy.settings import Settings

E = TypeVar("E", bound=StrEnum)

_DURATION: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[smhdw])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PLAIN_WIDTH: Final = 160

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The settings file.", metavar="FILE", show_default="cacheproxy.yaml")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where entries and the ledger are kept.",
        metavar="DIR",
        show_default="~/.local/share/cacheproxy",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Another store: sqlite:///PATH, or the URL of a Redis.",
        metavar="URL",
        show_default="a file in the data directory",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


class Misuse(TyperException):
    """The command was used wrongly. The message says what to do."""

    exit_code = 2


def settings_from(flags: Mapping[str, Any]) -> Loaded:
    """The settings with these flags on top. Raises ``Misuse`` for wrong ones."""
    try:
        return load(flags=flags)
    except ConfigError as error:
        raise Misuse(error.message) from None


def existing(settings: Settings) -> Settings:
    """These settings, if their store is there. Raises ``ConfigError``: an empty answer would hide a wrong directory."""
    if settings.redis_url is None and not settings.database.is_file():
        raise ConfigError(
            f"there is no store at {settings.database}: name its --data-dir or --store, or run `cacheproxy serve` first"
        )
    return settings


def seconds(text: str) -> float:
    """A duration such as ``90s``, ``36h`` or ``7d``. Raises ``Misuse``."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise Misuse(f"{text!r} is no duration; write for instance 30m, 36h or 7d")
    return float(match["number"]) * _UNIT_S[match["unit"]]


def address_from(text: str) -> Address:
    """The value of ``--listen``. Raises ``Misuse``."""
    try:
        return Address.parse(text)
    except ValueError as error:
        raise Misuse(f"--listen: {error} (got {text!r})") from None


def one_of(choices: type[E], option: str, text: str) -> E:
    """The value of an option that has few. Raises ``Misuse``."""
    try:
        return choices(text.lower())
    except ValueError:
        raise Misuse(f"{option}: {text!r} is none of {', '.join(choices)}") from None


def wall_clock() -> float:
    """Seconds since the epoch."""
    return datetime.now(UTC).timestamp()


def ago(age_s: float) -> str:
    """An age in its largest whole unit: ``3h``."""
    for unit in ("w", "d", "h", "m"):
        if age_s >= _UNIT_S[unit]:
            return f"{age_s / _UNIT_S[unit]:.0f}{unit}"
    return f"{max(age_s, 0):.0f}s"


def console(*, stderr: bool = False) -> Console:
    """Where to speak; wide where nobody's terminal sets the width."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PLAIN_WIDTH, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document in one line on standard output."""
    typer.echo(jsontext.dump(value))


def say(text: str) -> None:
    """One line for people, on standard output, word for word."""
    typer.echo(text)


def is_interactive() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()
