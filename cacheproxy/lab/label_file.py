"""Labels as JSON lines: verdicts of a proxy, to be looked at and trained on elsewhere.

A line is ``{"at", "root", "features": {name: number}, "right", "source", "inclusion", "principal"}``; the last two may
be missing. See ``core.pool.Label``.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from cacheproxy import jsontext
from cacheproxy.core.features import FEATURE_NAMES, Features
from cacheproxy.core.labels import Label, Source
from cacheproxy.errors import BadRequest
from cacheproxy.lab.questions import json_lines

if TYPE_CHECKING:
    from pathlib import Path

    from cacheproxy.jsontext import JsonObject


def are_labels(path: Path) -> bool:
    """Whether that is what the file holds, told by its first line."""
    return "features" in json_lines(path)[0][1]


def read_labels(path: Path) -> list[Label]:
    """The labels in a file, oldest first. Raises ``BadRequest``, which names the line."""
    labels = [_label(row, f"{path}, line {number}") for number, row in json_lines(path)]
    return sorted(labels, key=lambda label: label.at)


def dump_label(label: Label) -> bytes:
    """One line."""
    return jsontext.dump(asdict(label) | {"features": label.features._asdict()}) + b"\n"


def _label(row: JsonObject, where: str) -> Label:
    features = row.get("features")
    if not isinstance(features, dict) or features.keys() != set(FEATURE_NAMES):
        raise BadRequest(f"{where}: 'features' must be an object with {', '.join(FEATURE_NAMES)}.")
    try:
        return Label(
            at=float(row["at"]),
            root=str(row["root"]),
            features=Features(**{name: float(value) for name, value in features.items()}),
            right=_flag(row["right"]),
            source=Source(row["source"]),
            inclusion=float(row.get("inclusion", 1.0)),
            principal=str(row.get("principal", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadRequest(f"{where}: this is no label ({error}).") from error


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("'right' must be true or false")
    return value
