"""The embedded database's tables, and how a file comes to have them.

``user_version`` counts the migrations that a file has seen. A file of a later release, or of another program, is
refused and left as it is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cacheproxy.errors import ConfigError
from cacheproxy.store import codec

if TYPE_CHECKING:
    import sqlite3

    from cacheproxy.model import Entry

APPLICATION_ID: Final = 0x43505859
"""``CPXY``: marks the file as ours (see the SQLite file format, offset 68)."""

_FIRST: Final = (
    # What selects, orders and counts. The entry itself (codec.py) and its vector lie apart, so that counting a hit
    # does not rewrite an answer.
    """
    CREATE TABLE entries (
        number     INTEGER PRIMARY KEY,
        id         TEXT    NOT NULL UNIQUE,
        key        BLOB    NOT NULL,
        scope      BLOB    NOT NULL,
        namespace  TEXT    NOT NULL,
        created_at REAL    NOT NULL,
        expires_at REAL    NOT NULL,
        used_at    REAL    NOT NULL,
        hits       INTEGER NOT NULL DEFAULT 0,
        size       INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE TABLE payloads (number INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT",
    "CREATE TABLE vectors (number INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT",
    "CREATE INDEX entries_by_key ON entries (key, id)",
    "CREATE INDEX entries_by_scope ON entries (scope)",
    "CREATE INDEX entries_by_expiry ON entries (expires_at)",
    "CREATE INDEX entries_by_use ON entries (used_at)",
    """
    CREATE TABLE tags (
        tag    TEXT    NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (tag, number)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX tags_by_entry ON tags (number)",
    # Kept by triggers, so that limits cost no scan whoever writes.
    "CREATE TABLE totals (entries INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT",
    "INSERT INTO totals VALUES (0, 0)",
    """
    CREATE TRIGGER entry_came AFTER INSERT ON entries BEGIN
        UPDATE totals SET entries = entries + 1, bytes = bytes + NEW.size;
    END
    """,
    """
    CREATE TRIGGER entry_went AFTER DELETE ON entries BEGIN
        UPDATE totals SET entries = entries - 1, bytes = bytes - OLD.size;
        DELETE FROM payloads WHERE number = OLD.number;
        DELETE FROM vectors WHERE number = OLD.number;
        DELETE FROM tags WHERE number = OLD.number;
    END
    """,
    # What other processes follow. AUTOINCREMENT: a sequence number is never used twice, even after trimming.
    """
    CREATE TABLE log (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        writer   TEXT NOT NULL,
        kind     TEXT NOT NULL CHECK (kind IN ('put', 'vector', 'gone')),
        entry_id TEXT NOT NULL,
        key      BLOB NOT NULL,
        scope    BLOB NOT NULL
    ) STRICT
    """,
    "CREATE TABLE credentials (credential TEXT PRIMARY KEY, proven_at REAL NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    # Sums per hour since the epoch; '' stands for none.
    """
    CREATE TABLE ledger (
        hour                INTEGER NOT NULL,
        tenant              TEXT    NOT NULL,
        model               TEXT    NOT NULL,
        upstream            TEXT    NOT NULL,
        dialect             TEXT    NOT NULL,
        status              TEXT    NOT NULL,
        layer               TEXT    NOT NULL,
        reason              TEXT    NOT NULL,
        estimated           INTEGER NOT NULL,
        price_version       TEXT    NOT NULL,
        requests            INTEGER NOT NULL,
        cost_usd            REAL    NOT NULL,
        saved_usd           REAL    NOT NULL,
        input_tokens        INTEGER NOT NULL,
        output_tokens       INTEGER NOT NULL,
        cache_read_tokens   INTEGER NOT NULL,
        cache_write_tokens  INTEGER NOT NULL,
        saved_input_tokens  INTEGER NOT NULL,
        saved_output_tokens INTEGER NOT NULL,
        saved_ms            REAL    NOT NULL,
        duration_ms         REAL    NOT NULL,
        PRIMARY KEY (hour, tenant, model, upstream, dialect, status, layer, reason, estimated, price_version)
    ) STRICT, WITHOUT ROWID
    """,
)

_UNPRICED: Final = ("ALTER TABLE ledger ADD COLUMN unpriced INTEGER NOT NULL DEFAULT 0",)

_VERDICTS: Final = (
    # NULL: the entry is its own root. A root may be known before its vector is, which then has no bytes.
    "ALTER TABLE vectors ADD COLUMN root TEXT",
    "CREATE INDEX vectors_by_root ON vectors (root) WHERE root IS NOT NULL",
    # The features are of the version beside them (core/likelihood.py), and mean nothing to another.
    """
    CREATE TABLE labels (
        number    INTEGER PRIMARY KEY,
        pool      TEXT    NOT NULL,
        at        REAL    NOT NULL,
        root      TEXT    NOT NULL,
        version   INTEGER NOT NULL,
        features  BLOB    NOT NULL,
        is_right  INTEGER NOT NULL,
        source    TEXT    NOT NULL,
        inclusion REAL    NOT NULL,
        principal TEXT    NOT NULL
    ) STRICT
    """,
    "CREATE INDEX labels_by_pool ON labels (pool, number)",
    "CREATE INDEX labels_by_age ON labels (at)",
    "CREATE TABLE suspended (entry_id TEXT PRIMARY KEY, at REAL NOT NULL, note TEXT NOT NULL) STRICT, WITHOUT ROWID",
    """
    CREATE TABLE blocked (
        prompt_hash BLOB NOT NULL,
        root        TEXT NOT NULL,
        at          REAL NOT NULL,
        PRIMARY KEY (root, prompt_hash)
    ) STRICT, WITHOUT ROWID
    """,
    # Pools whose promise was broken: they serve nothing similar until labels say otherwise, restarted or not.
    "CREATE TABLE broken (pool TEXT PRIMARY KEY, at REAL NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX suspended_by_age ON suspended (at)",
    "CREATE INDEX blocked_by_age ON blocked (at)",
    "ALTER TABLE ledger ADD COLUMN audit_usd REAL NOT NULL DEFAULT 0",
    "ALTER TABLE ledger ADD COLUMN judge_usd REAL NOT NULL DEFAULT 0",
)

_KEYS: Final = (
    # Virtual keys, as digests. REAL holds the infinity of those that never expire.
    """
    CREATE TABLE keys (
        name       TEXT PRIMARY KEY,
        tenant     TEXT NOT NULL,
        digest     BLOB NOT NULL UNIQUE,
        hint       TEXT NOT NULL,
        created_at REAL NOT NULL,
        expires_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)

_FOLLOWED: Final = (
    # How often each kind of thing was written. A row bears the number of its last write and who wrote it, so that other
    # processes read what is new to them alone. Marks (suspended, blocked) are few, and are read anew as a whole.
    "CREATE TABLE stamps (name TEXT PRIMARY KEY, stamp INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "INSERT INTO stamps VALUES ('labels', 0), ('marks', 0), ('credentials', 0)",
    "ALTER TABLE labels ADD COLUMN writer TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE labels ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE broken ADD COLUMN writer TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE broken ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE credentials ADD COLUMN refused INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE credentials ADD COLUMN writer TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE credentials ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX labels_by_stamp ON labels (stamp)",
    "CREATE INDEX broken_by_stamp ON broken (stamp)",
    "CREATE INDEX credentials_by_stamp ON credentials (stamp)",
    # Labels that a pool ever had, kept or not: each doubling has spent of its confidence, and a restart must not spend
    # it again.
    "CREATE TABLE totals_of_pools (pool TEXT PRIMARY KEY, labels INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "INSERT INTO totals_of_pools SELECT pool, count(*) FROM labels GROUP BY pool",
)

_SEARCHED: Final = (
    # What operators look for. The prompt is in small letters, which SQLite itself knows of ASCII alone.
    """
    CREATE TABLE about (
        number INTEGER PRIMARY KEY,
        model  TEXT NOT NULL,
        tenant TEXT NOT NULL,
        prompt BLOB NOT NULL
    ) STRICT
    """,
    "INSERT INTO about SELECT number, entry_model(payload), entry_tenant(payload), entry_prompt(payload) FROM payloads",
    "CREATE TRIGGER entry_about_went AFTER DELETE ON entries BEGIN DELETE FROM about WHERE number = OLD.number; END",
)

_DAYS: Final = (
    # How long upstreams took. Before, that was not written down; nearly all of what a miss takes is its upstream.
    "ALTER TABLE ledger ADD COLUMN upstream_ms REAL NOT NULL DEFAULT 0",
    "UPDATE ledger SET upstream_ms = duration_ms WHERE layer = ''",
    # The same sums by day, so that a year is told in a fraction of a second.
    """
    CREATE TABLE ledger_days (
        day                 INTEGER NOT NULL,
        tenant              TEXT    NOT NULL,
        model               TEXT    NOT NULL,
        upstream            TEXT    NOT NULL,
        dialect             TEXT    NOT NULL,
        status              TEXT    NOT NULL,
        layer               TEXT    NOT NULL,
        reason              TEXT    NOT NULL,
        estimated           INTEGER NOT NULL,
        price_version       TEXT    NOT NULL,
        requests            INTEGER NOT NULL,
        cost_usd            REAL    NOT NULL,
        saved_usd           REAL    NOT NULL,
        input_tokens        INTEGER NOT NULL,
        output_tokens       INTEGER NOT NULL,
        cache_read_tokens   INTEGER NOT NULL,
        cache_write_tokens  INTEGER NOT NULL,
        saved_input_tokens  INTEGER NOT NULL,
        saved_output_tokens INTEGER NOT NULL,
        saved_ms            REAL    NOT NULL,
        duration_ms         REAL    NOT NULL,
        unpriced            INTEGER NOT NULL,
        audit_usd           REAL    NOT NULL,
        judge_usd           REAL    NOT NULL,
        upstream_ms         REAL    NOT NULL,
        PRIMARY KEY (day, tenant, model, upstream, dialect, status, layer, reason, estimated, price_version)
    ) STRICT, WITHOUT ROWID
    """,
    """
    INSERT INTO ledger_days
    SELECT hour / 24, tenant, model, upstream, dialect, status, layer, reason, estimated, price_version,
        sum(requests), sum(cost_usd), sum(saved_usd), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
        sum(cache_write_tokens), sum(saved_input_tokens), sum(saved_output_tokens), sum(saved_ms), sum(duration_ms),
        sum(unpriced), sum(audit_usd), sum(judge_usd), sum(upstream_ms)
    FROM ledger GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    """,
)


def _outline(table: str, name: str) -> tuple[str, str]:
    """Sums by day once more, by ``name`` and little else: some thousands of rows a year."""
    return (
        f"""
    CREATE TABLE {table} (
        day                 INTEGER NOT NULL,
        {name:<19} TEXT    NOT NULL,
        status              TEXT    NOT NULL,
        layer               TEXT    NOT NULL,
        estimated           INTEGER NOT NULL,
        requests            INTEGER NOT NULL,
        cost_usd            REAL    NOT NULL,
        saved_usd           REAL    NOT NULL,
        input_tokens        INTEGER NOT NULL,
        output_tokens       INTEGER NOT NULL,
        cache_read_tokens   INTEGER NOT NULL,
        cache_write_tokens  INTEGER NOT NULL,
        saved_input_tokens  INTEGER NOT NULL,
        saved_output_tokens INTEGER NOT NULL,
        saved_ms            REAL    NOT NULL,
        duration_ms         REAL    NOT NULL,
        unpriced            INTEGER NOT NULL,
        audit_usd           REAL    NOT NULL,
        judge_usd           REAL    NOT NULL,
        upstream_ms         REAL    NOT NULL,
        PRIMARY KEY (day, {name}, status, layer, estimated)
    ) STRICT, WITHOUT ROWID
    """,
        f"""
    INSERT INTO {table}
    SELECT day, {name}, status, layer, estimated,
        sum(requests), sum(cost_usd), sum(saved_usd), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
        sum(cache_write_tokens), sum(saved_input_tokens), sum(saved_output_tokens), sum(saved_ms), sum(duration_ms),
        sum(unpriced), sum(audit_usd), sum(judge_usd), sum(upstream_ms)
    FROM ledger_days GROUP BY 1, 2, 3, 4, 5
    """,  # noqa: S608 - names of this file
    )


_OUTLINES: Final = (*_outline("ledger_outline", "model"), *_outline("ledger_tenants", "tenant"))
"""What the overview and economics are made of."""

_BATCHES: Final = (
    # The last batch of each writer, of what must not count twice (batches.py).
    """
    CREATE TABLE batches (
        writer TEXT    NOT NULL,
        about  TEXT    NOT NULL,
        number INTEGER NOT NULL,
        at     REAL    NOT NULL,
        PRIMARY KEY (writer, about)
    ) STRICT, WITHOUT ROWID
    """,
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    _FIRST,
    _UNPRICED,
    _VERDICTS,
    _KEYS,
    _FOLLOWED,
    _SEARCHED,
    _DAYS,
    _OUTLINES,
    _BATCHES,
)
"""Statements that lead from each version to the next. Released ones never change; new ones are added at the end."""


def prepare(connection: sqlite3.Connection) -> None:
    """Create or migrate the tables, in one transaction. Raises ``ConfigError`` for a file that is not ours to use."""
    if _version(connection) == len(MIGRATIONS):
        return  # writes nothing, so that a full disk or a read-only file still serves what it has
    _read_entries_in_sql(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[_version(connection) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _read_entries_in_sql(connection: sqlite3.Connection) -> None:
    """Let migrations take out of payloads what new columns want; of damaged ones nothing."""

    @lru_cache(maxsize=1)
    def decoded(payload: bytes) -> Entry | None:
        try:
            return codec.decode(payload)
        except (codec.CorruptEntry, codec.NewerEntry):
            return None

    def model(payload: bytes) -> str:
        return codec.named(entry.model) if (entry := decoded(payload)) else ""

    def tenant(payload: bytes) -> str:
        return codec.named(entry.tenant) if (entry := decoded(payload)) else ""

    def prompt(payload: bytes) -> bytes:
        return codec.folded(entry.prompt) if (entry := decoded(payload)) else b""

    for read in (model, tenant, prompt):
        connection.create_function(f"entry_{read.__name__}", 1, read, deterministic=True)


def _version(connection: sqlite3.Connection) -> int:
    # In one statement, and so in one state: another process may be creating the tables at this moment.
    application, version, tables = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) "
        "FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if tables and application != APPLICATION_ID:
        raise ConfigError("the database file belongs to another program: choose another path for the store")
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"the database file has schema {version}, this release knows up to {len(MIGRATIONS)}: "
            "upgrade cacheproxy, or choose another path for the store"
        )
    return int(version)
