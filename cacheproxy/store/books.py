"""What requests and checks cost and what hits saved, summed in memory until a ledger writes it, wherever that is.

Sums are kept per hour and per group (``GROUPED``).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cacheproxy.events import CheckKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cacheproxy.events import Audited, Served

Bucket: TypeAlias = tuple[str | int, ...]
Sums: TypeAlias = list[float]

HOUR_S: Final = 3600
MODELS_APART: Final = 10_000
"""Buckets that wait for a flush. Callers choose names of models: past so many, fresh ones are booked together ..."""
TENANTS_APART: Final = 20_000
"""... and so are tenants past so many, since a made-up credential is one. What is left is named by this proxy: a few
buckets an hour."""
OTHERS: Final = "(other)"
_LONGEST_NAME: Final = 200
_SANE: Final = 2.0**53
"""Amounts from here on are no amounts; one of them must not keep the others from being written."""

GROUPED: Final = (
    "hour",
    "tenant",
    "model",
    "upstream",
    "dialect",
    "status",
    "layer",
    "reason",
    "estimated",
    "price_version",
)
_NO_REQUEST: Final = ("", "", "", "")
"""A check's dialect, status, layer and reason."""
SUMMED: Final[Mapping[str, type[int | float]]] = {
    "requests": int,
    "cost_usd": float,
    "saved_usd": float,
    "input_tokens": int,
    "output_tokens": int,
    "cache_read_tokens": int,
    "cache_write_tokens": int,
    "saved_input_tokens": int,
    "saved_output_tokens": int,
    "saved_ms": float,
    "duration_ms": float,
    "unpriced": int,
    "audit_usd": float,
    "judge_usd": float,
    "upstream_ms": float,
}
"""What a bucket sums, in the order of ``Sums``."""
log = logging.getLogger(__name__)


class Books:
    """An ``Observer`` that only adds in memory."""

    def __init__(self) -> None:
        self._pending: dict[Bucket, Sums] = {}
        self._merging = False
        """Whether it was said that names are lost."""

    def served(self, event: Served) -> None:
        """See ``Observer``. About two microseconds; no I/O."""
        used, saved = event.usage, event.saved_usage
        bucket = (
            int(event.at // HOUR_S),
            event.tenant,
            event.model,
            event.upstream,
            event.dialect,
            event.status,
            event.layer or "",
            event.reason or "",
            used.estimated or saved.estimated,
            event.price_version,
        )
        sums = self._pending.get(bucket)
        if sums is None:
            sums = self._open(bucket)
        sums[0] += 1
        sums[1] += event.cost_usd
        sums[2] += event.saved_usd
        sums[3] += used.input_tokens
        sums[4] += used.output_tokens
        sums[5] += used.cache_read_tokens
        sums[6] += used.cache_write_tokens
        sums[7] += saved.input_tokens
        sums[8] += saved.output_tokens
        sums[9] += event.saved_ms
        sums[10] += event.duration_ms
        sums[11] += event.unpriced
        if event.layer is None:  # else nobody was paid, or another request's upstream took it
            sums[14] += event.duration_ms if event.upstream_ms is None else event.upstream_ms

    def audited(self, event: Audited) -> None:
        """See ``Observer``. Its amount goes into a column of its own, and it is no request."""
        bucket = (
            int(event.at // HOUR_S),
            event.tenant,
            event.model,
            event.upstream,
            *_NO_REQUEST,
            event.usage.estimated,
            event.price_version,
        )
        sums = self._pending.get(bucket)
        if sums is None:
            sums = self._open(bucket)
        sums[11] += event.unpriced
        sums[12 if event.kind is CheckKind.AUDIT else 13] += event.cost_usd

    def take(self) -> dict[Bucket, Sums]:
        """What was booked since the last time."""
        taken, self._pending = self._pending, {}
        self._merging = self._merging and len(taken) >= MODELS_APART
        return taken

    def merge(self, returned: Mapping[Bucket, Sums]) -> None:
        """Take back what could not be written."""
        for bucket, sums in returned.items():
            pending = self._pending.get(bucket)
            if pending is None:
                pending = self._open(bucket)
            for position, amount in enumerate(sums):
                pending[position] += amount

    def _open(self, bucket: Bucket) -> Sums:
        if len(self._pending) >= MODELS_APART:
            hour, tenant, _, *rest = bucket
            bucket = (hour, tenant if len(self._pending) < TENANTS_APART else OTHERS, OTHERS, *rest)
            if not self._merging:
                self._merging = True
                log.warning(
                    "%d sums wait for the ledger: further models, and tenants past %d, are booked together as %s",
                    len(self._pending),
                    TENANTS_APART,
                    OTHERS,
                )
        return self._pending.setdefault(bucket, [0] * len(SUMMED))


def named(row: Sequence[Any]) -> dict[str, Any]:
    """A ledger's row by the names of its columns, for another ledger."""
    return dict(zip((*GROUPED, *SUMMED), row, strict=True))


def row_from(named_row: Mapping[str, Any]) -> tuple[Any, ...]:
    """The same back, whatever strange names and amounts it holds. Raises ``ValueError`` for what is no row."""
    try:
        hour, *groups = (named_row[name] for name in GROUPED)
        bucket = (int(hour), *(group if isinstance(group, str) else bool(group) for group in groups))
        return row_of(bucket, [float(named_row.get(name, 0)) for name in SUMMED])
    except (KeyError, TypeError) as error:
        raise ValueError(f"a row of the ledger lacks {error}") from None


def row_of(bucket: Bucket, sums: Sums) -> tuple[Any, ...]:
    """A bucket as ledgers keep it, whatever strange names and amounts it was booked with."""
    names = (
        part[:_LONGEST_NAME].encode("utf-8", "replace").decode() if isinstance(part, str) else part for part in bucket
    )
    # The comparison is false for what is not a number, too.
    amounts = (
        kind(amount if -_SANE < amount < _SANE else 0) for kind, amount in zip(SUMMED.values(), sums, strict=True)
    )
    return (*names, *amounts)
