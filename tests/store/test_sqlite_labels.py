"""What is particular to labels in the embedded database: rows of other releases are never misread."""

import logging

import pytest

from cacheproxy.core.features import FEATURE_NAMES, Features
from cacheproxy.core.labels import Label, Source
from cacheproxy.core.likelihood import VERSION
from cacheproxy.errors import PortUnavailable
from cacheproxy.store.database import open_database
from cacheproxy.store.sqlite_labels import SqliteLabels

LABEL = Label(1.0, "root", Features(*range(len(FEATURE_NAMES))), right=True, source=Source.MISS)


@pytest.fixture
async def database(tmp_path):
    async with open_database(tmp_path / "cache.db", clock=lambda: 0.0) as database:
        yield database


@pytest.fixture
def labels(database):
    return SqliteLabels(database)


async def change(database, sql, *values):
    await database.write(lambda rows: rows.execute(sql, values).rowcount, doing="change")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        pytest.param("version", VERSION + 1, id="a later version"),
        pytest.param("version", VERSION - 1, id="an earlier version"),
        pytest.param("features", b"\0" * 8, id="features cut short"),
        pytest.param("source", "hearsay", id="an unknown source"),
    ],
)
async def test_a_label_that_would_be_misread_is_left_out_and_counted(database, labels, caplog, column, value):
    caplog.set_level(logging.WARNING)
    await labels.add("pool", [LABEL, LABEL, LABEL])
    await change(database, f"UPDATE labels SET {column} = ? WHERE number = 2", value)
    assert list(await labels.recent("pool", 9)) == [LABEL, LABEL]
    assert labels.skipped == 1
    assert "1 labels of pool pool" in caplog.text


async def test_labels_of_another_version_do_not_take_the_place_of_readable_ones(database, labels):
    await labels.add("pool", [LABEL] * 4)
    await change(database, "UPDATE labels SET version = ? WHERE number > 2", VERSION + 1)
    assert len(await labels.recent("pool", 2)) == 2


async def test_features_come_back_to_the_last_bit(labels):
    odd = Features(*(1 / (3 + place) for place in range(len(FEATURE_NAMES))))
    await labels.add("pool", [Label(0.0, "root", odd, right=False, source=Source.AUDIT)])
    (kept,) = await labels.recent("pool", 1)
    assert kept.features == odd


async def test_labels_are_all_kept_or_none(database, labels):
    broken = Label(0.0, "\ud800", LABEL.features, right=True, source=Source.MISS)
    with pytest.raises(PortUnavailable):
        await labels.add("pool", [LABEL, broken])
    assert list(await labels.recent("pool", 9)) == []


async def test_a_label_takes_little_room(database, labels):
    await labels.add("pool", [LABEL] * 4000)
    pages = await database.read(lambda rows: rows.execute("PRAGMA page_count").fetchone()[0], doing="measure")
    assert pages * 4096 / 4000 < 400
