"""Reads settings: a flag wins over the ``CACHEPROXY_*`` environment, that over ``cacheproxy.yaml``, that over defaults.

The only reader of the environment. Whatever is wrong becomes one ``ConfigError``, a clause per mistake: which
setting, where it came from, what is the matter. Secrets never appear in it, nor in what ``effective`` shows.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from cacheproxy.errors import ConfigError
from cacheproxy.settings import Settings, UpstreamSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic_core import ErrorDetails

PREFIX: Final = "CACHEPROXY_"
DEFAULT_FILE: Final = "cacheproxy.yaml"
_CONFIG_VARIABLE: Final = f"{PREFIX}CONFIG"
_TEST_PREFIX: Final = f"{PREFIX}TEST_"  # belongs to the test-suite
_USER_INFO: Final = re.compile(r"(?<=://)\S+(?=@)")
_MASK: Final = "**********"  # what SecretStr shows, too
_LONGEST_SHOWN: Final = 80

Place: TypeAlias = tuple[str, ...]
"""Where a setting stands: ``("cache", "ttl_s")``."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, where each came from that is not a default, and the file that was read."""

    settings: Settings
    origins: Mapping[Place, str]
    file: Path | None


@dataclass(frozen=True, slots=True)
class Known:
    """One setting, for documentation and for suggestions. ``<name>`` stands for an upstream's name."""

    name: str
    environment: str
    description: str
    default: Any
    secret: bool
    structured: bool
    """Whether it is a list or an object."""


def calm_threads() -> None:
    """Let OpenMP's threads wait in their sleep, unless the environment says otherwise. Before anything loads torch.

    By default they spin for milliseconds at every barrier of the embedding model. Where other programs want the same
    cores that made one embedding last 20 times as long, and the semantic layer was always too slow for its deadline.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # noqa: TID251 - this is its one home


def load(*, flags: Mapping[str, Any], environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Loaded:
    """Read all sources. Raises ``ConfigError``.

    ``flags`` maps dotted names to values, None for a flag that was not given; ``config`` names the file.
    ``environ`` and ``cwd`` are the process's own unless given. An empty variable counts as unset.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251 - this is its one home
    given = {name: value for name, value in flags.items() if value is not None}
    file = _find_file(given.pop("config", None) or environ.get(_CONFIG_VARIABLE), cwd or Path.cwd())
    layers = _Layers()
    if shared := environ.get("XDG_DATA_HOME"):
        layers.put(("data_dir",), str(Path(shared) / "cacheproxy"), partial(_named, "XDG_DATA_HOME"))
    if file is not None:
        layers.put((), _read_file(file), lambda place: f"{'.'.join(place)} in {file}")
    for variable, text in sorted(environ.items()):
        if _sets_something(variable) and text:
            place = tuple(variable.removeprefix(PREFIX).lower().split("__"))
            layers.put(place, _from_text(place, text, variable), partial(_named, variable))
    for name, value in given.items():
        layers.put(tuple(name.split(".")), value, lambda place: "--" + "-".join(place).replace("_", "-"))
    settings = _validated(layers)
    return Loaded(_with_keys(settings, layers.origins, environ), layers.origins, file)


def secret_in(variable: str, environ: Mapping[str, str] | None = None) -> str:
    """What an environment variable holds. Raises ``ConfigError`` when it is not set or empty."""
    environ = os.environ if environ is None else environ  # noqa: TID251 - this is its one home
    if not (value := environ.get(variable)):
        # Not told by name: people put the key itself there.
        raise ConfigError("the variable that it names is not set")
    return value


def settings_schema() -> dict[str, Any]:
    """The JSON schema of the settings file."""
    return Settings.model_json_schema()


def effective(loaded: Loaded) -> list[tuple[str, Any, str]]:
    """Every setting as (dotted name, plain value with secrets masked, where it came from)."""
    plain = loaded.settings.model_dump(mode="json")
    return [
        (".".join(place), _masked(value), _origin(place, loaded.origins) or "default")
        for place, value in _leaves((), plain)
    ]


def in_force(settings: Settings) -> dict[str, Any]:
    """Every setting by its dotted name, secrets masked."""
    return {name: value for name, value, _ in effective(Loaded(settings, {}, None))}


def known_settings(model: type[BaseModel] = Settings, above: Place = ()) -> Iterator[Known]:
    """Every setting, in the order in which the models name them."""
    for name, field in model.model_fields.items():
        place = (*above, name)
        annotation: Any = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from known_settings(annotation, place)
            continue
        yield Known(
            name=".".join(place),
            environment=PREFIX + "__".join(place).upper(),
            description=field.description or "",
            default=field.default,
            secret=SecretStr in _parts(annotation),
            structured=get_origin(annotation) in {tuple, dict},
        )
        if name == "upstreams":
            yield from known_settings(UpstreamSettings, (*place, "<name>"))


class _Layers:
    """Nested values from several sources, the later ones winning, and where each came from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[Place, str] = {}

    def put(self, place: Place, value: Any, origin: Callable[[Place], str]) -> None:
        """Set a value; an object is set member by member, and null sets nothing."""
        if isinstance(value, dict):
            for name, member in value.items():
                self.put((*place, str(name)), member, origin)
        elif value is not None:
            inside = self.values
            for name in place[:-1]:
                if not isinstance(inside.get(name), dict):
                    inside[name] = {}
                inside = inside[name]
            inside[place[-1]] = value
            self.origins[place] = origin(place)


def _find_file(named: str | Path | None, cwd: Path) -> Path | None:
    if named:
        return cwd / Path(named).expanduser()
    usual = cwd / DEFAULT_FILE
    return usual if usual.is_file() else None


def _read_file(file: Path) -> dict[Any, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid YAML{_position(error)}") from None
    if not isinstance(content, dict | None):
        raise ConfigError(f"{file} must hold settings, each as NAME: VALUE")
    return content or {}


def _position(error: Exception) -> str:
    """What and where, without the excerpt that PyYAML quotes: it may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    return (
        "" if mark is None else f": {getattr(error, 'problem', '')} in line {mark.line + 1}, column {mark.column + 1}"
    )


def _named(variable: str, _: Place) -> str:
    return variable


def _sets_something(variable: str) -> bool:
    return variable.startswith(PREFIX) and variable != _CONFIG_VARIABLE and not variable.startswith(_TEST_PREFIX)


def _from_text(place: Place, text: str, variable: str) -> Any:
    """A variable's value: lists may be written with commas, lists and objects as JSON or YAML in one line."""
    name = ".".join(place)
    sections = {known.name.rpartition(".")[0] for known in KNOWN.values()}
    if not (name in sections or (name in KNOWN and KNOWN[name].structured)):
        return text
    if text.lstrip()[:1] not in {"[", "{"}:
        return [part.strip() for part in text.split(",")]
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{variable} is neither JSON nor YAML{_position(error)}") from None


def _validated(layers: _Layers) -> Settings:
    try:
        return Settings.model_validate(layers.values)
    except ValidationError as error:
        mistakes = [_mistake(details, layers.origins) for details in error.errors(include_url=False)]
    raise ConfigError("; ".join(mistakes))


def _mistake(details: ErrorDetails, origins: Mapping[Place, str]) -> str:
    place = tuple(str(part) for part in details["loc"])
    name = ".".join(place)
    written = _origin(place, origins) or name
    if details["type"] == "extra_forbidden":
        nearest = _nearest(name)
        return (
            f"{written} is no setting; the nearest is {nearest.environment if written[0].isupper() else nearest.name}"
        )
    if not place:
        return details["msg"].removeprefix("Value error, ")
    if place not in origins and name not in written:
        written = f"{name} in {written}"
    problem = _PROBLEMS.get(details["type"]) or details["msg"].removeprefix("Value error, ")
    value = details["input"]
    if isinstance(value, str | int | float) and _HIDDEN.isdisjoint(place):
        problem += f" (got {_masked(str(value))[:_LONGEST_SHOWN]!r})"
    return f"{written}: {problem.replace('Input should be', 'must be')}"


_PROBLEMS: Final = {
    "missing": "is missing",
    "model_type": "must hold settings of its own",
    "tuple_type": "must be a list",
    "dict_type": "must hold settings of its own",
    "byte_size": "must be a size, in bytes or such as 64MiB",
}


def _origin(place: Place, origins: Mapping[Place, str]) -> str | None:
    """Where the value at a place came from: it, what it is part of, or its first part that was set."""
    for end in range(len(place), 0, -1):
        if (found := origins.get(place[:end])) is not None:
            return found
    return next((origin for below, origin in origins.items() if place and below[: len(place)] == place), None)


def _nearest(name: str) -> Known:
    """The known setting whose name, whole or in its last part, is most like this one."""

    def likeness(known: Known) -> float:
        last, known_last = name.rpartition(".")[2], known.name.rpartition(".")[2]
        whole = SequenceMatcher(None, name, known.name).ratio()
        return max(whole, 0.9 * SequenceMatcher(None, last, known_last).ratio())

    return max(KNOWN.values(), key=likeness)


def _with_keys(settings: Settings, origins: dict[Place, str], environ: Mapping[str, str]) -> Settings:
    """Fetch the keys that upstreams name by their variable; no other key in the environment is ever used."""
    upstreams = dict(settings.upstreams)
    for name, upstream in settings.upstreams.items():
        if (variable := upstream.api_key_env) is not None:
            try:
                key = SecretStr(secret_in(variable, environ))
            except ConfigError as error:
                raise ConfigError(f"upstreams.{name}.api_key_env: {error.message}") from None
            upstreams[name] = upstream.model_copy(update={"api_key": key})
            origins["upstreams", name, "api_key"] = variable
    return settings.model_copy(update={"upstreams": upstreams})


def _leaves(place: Place, value: Any) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, dict) and value:
        for name, member in value.items():
            yield from _leaves((*place, name), member)
    else:
        yield place, value


def _masked(value: Any) -> Any:
    return _USER_INFO.sub(_MASK, value) if isinstance(value, str) else value


def _parts(annotation: Any) -> set[Any]:
    """An annotation and everything inside it."""
    return {annotation}.union(*(_parts(part) for part in get_args(annotation)))


KNOWN: Final = {known.name: known for known in known_settings()}
# The name of a key's variable is hidden in errors too: people put the key itself there.
_HIDDEN: Final = {known.name.rpartition(".")[2] for known in KNOWN.values() if known.secret} | {"api_key_env"}
