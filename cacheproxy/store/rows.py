"""Many rows by few statements.

Each statement that SQLite runs is a chance to lose the interpreter to another thread, for milliseconds when that one
is busy; ``executemany`` runs one for each row. Here a thousand rows are a handful.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_ROWS_AT_ONCE: Final = 128
"""A power of two. With a dozen columns far below SQLite's limit on parameters, which is 32,766 and more."""


def execute_with_rows(connection: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Run ``sql``, which has ``{rows}`` where a table of the given rows belongs, once for each 128 of them."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE]
        # Filled up to a power of two, so that there are only eight texts to compile and to keep.
        places = 1 << (len(block) - 1).bit_length()
        padding = [block[-1]] * (places - len(block))
        statement = _with_places(sql, len(block[0]), places)
        connection.execute(statement, (*chain.from_iterable(block), *chain.from_iterable(padding), len(block)))


@cache
def _with_places(sql: str, columns: int, places: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return sql.format(rows=f"SELECT * FROM (VALUES {', '.join([row] * places)}) LIMIT ?")  # noqa: S608 - nothing but question marks
