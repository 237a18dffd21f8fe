"""The settings as Markdown, for the documentation: what ``docs/settings.md`` shows is this, and a test holds it so."""

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

from pydantic import BaseModel, ByteSize

from cacheproxy.config import Known, known_settings

_SIZES: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_HEAD: Final = "| setting | environment | default | what it is |\n|---|---|---|---|\n"


def settings_table(names: Iterable[str] | None = None) -> str:
    """A Markdown table of these settings, in this order, or of every setting in the order of the settings file."""
    known = {setting.name: setting for setting in known_settings()}
    rows = known.values() if names is None else [known[name] for name in names]
    return _HEAD + "".join(map(_row, rows))


def _row(setting: Known) -> str:
    description = setting.description.replace("|", "\\|").replace("\n", " ")
    environment = f"`{setting.environment}`" if "<" not in setting.name else ""
    return f"| `{setting.name}` | {environment} | {_told(setting.default)} | {description} |\n"


def _told(default: Any) -> str:
    """A default as one would write it; empty where there is none."""
    match default:
        case None | () | {}:
            return ""
        case bool():
            text = str(default).lower()
        case ByteSize():
            text = next((f"{default // size}{unit}" for unit, size in _SIZES if default % size == 0), str(int(default)))
        case Enum():
            text = str(default.value)
        case BaseModel() | (BaseModel(), *_):
            return ""
        case _:
            text = str(default)
    return f"`{text}`"
