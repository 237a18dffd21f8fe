"""Proven credentials as rows: functions of a connection inside somebody's transaction, as in entries.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

KEPT_S: Final = 30 * 86_400.0
"""Far longer than any proof is good for."""


def proven_at(connection: sqlite3.Connection, credential: str) -> float | None:
    """When an upstream last accepted it."""
    row = connection.execute("SELECT proven_at FROM credentials WHERE credential = ?", (credential,)).fetchone()
    return None if row is None else float(row[0])


def prove(connection: sqlite3.Connection, credential: str, at: float) -> None:
    """An upstream accepted it. A proof that comes late does not set back a later one."""
    connection.execute(
        "INSERT INTO credentials (credential, proven_at) VALUES (?, ?) "
        "ON CONFLICT (credential) DO UPDATE SET proven_at = max(proven_at, excluded.proven_at)",
        (credential, at),
    )


def revoke(connection: sqlite3.Connection, credential: str) -> None:
    """An upstream refused it."""
    connection.execute("DELETE FROM credentials WHERE credential = ?", (credential,))


def forget_stale(connection: sqlite3.Connection, now: float) -> None:
    """Delete proofs that are good for nothing any more."""
    connection.execute("DELETE FROM credentials WHERE proven_at < ?", (now - KEPT_S,))
