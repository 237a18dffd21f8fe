"""A file becomes ours once, and only if it is ours to have."""

import sqlite3

import pytest
from support.stores import make_entry

from cacheproxy.errors import ConfigError
from cacheproxy.model import Selection
from cacheproxy.store import codec, entries, schema


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def pragma(connection, name):
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_an_empty_file_gets_the_tables_and_our_mark(connection):
    schema.prepare(connection)
    assert pragma(connection, "application_id") == schema.APPLICATION_ID
    assert pragma(connection, "user_version") == len(schema.MIGRATIONS)
    assert connection.execute("SELECT entries, bytes FROM totals").fetchall() == [(0, 0)]
    assert not connection.in_transaction


def test_a_prepared_file_is_left_as_it_is(connection):
    schema.prepare(connection)
    connection.execute("PRAGMA query_only = ON")
    schema.prepare(connection)


def test_a_later_schema_is_refused_and_left_as_it_is(connection):
    schema.prepare(connection)
    connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="upgrade cacheproxy"):
        schema.prepare(connection)
    assert pragma(connection, "user_version") == 99


def test_another_program_s_file_is_refused_and_left_as_it_is(connection):
    connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(ConfigError, match="another program"):
        schema.prepare(connection)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


def test_a_migration_that_fails_leaves_nothing_behind(connection, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE more (x)", "NOT SQL")))
    with pytest.raises(sqlite3.OperationalError):
        schema.prepare(connection)
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


def test_a_file_of_an_earlier_schema_is_migrated_and_keeps_its_rows(connection, monkeypatch):
    schema.prepare(connection)
    connection.execute("INSERT INTO meta VALUES ('kept', 'yes')")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE more (x)",)))
    schema.prepare(connection)
    assert pragma(connection, "user_version") == len(schema.MIGRATIONS)
    assert connection.execute("SELECT value FROM meta").fetchall() == [("yes",)]
    assert connection.execute("SELECT count(*) FROM more").fetchone() == (0,)


def test_vectors_and_sums_of_the_schema_before_verdicts_are_kept(connection, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
    schema.prepare(connection)
    connection.execute("INSERT INTO vectors VALUES (7, x'00')")
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info (ledger)")]
    connection.execute(f"INSERT INTO ledger VALUES ({', '.join('1' * len(columns))})")
    monkeypatch.undo()
    schema.prepare(connection)
    assert connection.execute("SELECT number, vector, root FROM vectors").fetchall() == [(7, b"\0", None)]
    assert connection.execute("SELECT requests, audit_usd, judge_usd FROM ledger").fetchall() == [(1, 0, 0)]


def test_entries_of_the_schema_before_searching_are_found(connection, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:5])
    schema.prepare(connection)
    entry = make_entry("a", prompt="Grüße")
    payloads = [(1, codec.encode(entry)), (2, b"damaged")]
    connection.executemany("INSERT INTO payloads VALUES (?, ?)", payloads)
    connection.executemany(
        "INSERT INTO entries VALUES (?, ?, x'01', x'02', '', 0, 1, 0, 0, 10)", [(1, entry.id), (2, "id-damaged")]
    )
    monkeypatch.undo()
    schema.prepare(connection)
    for selection in (Selection(text="GRÜSSE"), Selection(model=entry.model), Selection(tenant=entry.tenant)):
        assert entries.count(connection, entries.selected(selection)) == 1
    assert entries.count(connection, entries.EVERYTHING) == 2


def test_the_sums_of_the_schema_before_days_are_told_by_day(connection, monkeypatch):
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:6])
    schema.prepare(connection)
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info (ledger)")]
    row = dict.fromkeys(columns, 1) | {"duration_ms": 70.0}
    for hour, layer in [(47, ""), (48, ""), (48, "exact"), (71, "")]:
        row |= {"hour": hour, "layer": layer}
        connection.execute(f"INSERT INTO ledger VALUES ({', '.join('?' * len(columns))})", list(row.values()))
    monkeypatch.undo()
    schema.prepare(connection)
    rows = "SELECT day, layer, requests, upstream_ms FROM ledger_days ORDER BY day, layer"
    sums = [(1, "", 1, 70.0), (2, "", 2, 140.0), (2, "exact", 1, 0.0)]
    assert connection.execute(rows).fetchall() == sums
    for outline in ("ledger_outline", "ledger_tenants"):
        assert connection.execute(rows.replace("ledger_days", outline)).fetchall() == sums
