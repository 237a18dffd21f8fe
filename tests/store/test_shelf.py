"""Vectors that wait in a file."""

import numpy as np
import pytest

from cacheproxy.errors import ConfigError
from cacheproxy.store.shelf import open_shelf

ONE = np.array([0.6, 0.8], np.float32)


async def test_what_was_kept_is_there_at_the_next_opening(tmp_path):
    async with open_shelf(tmp_path, store="s", model="m") as shelf:
        await shelf.keep({"a": ONE, "too long": None})
    async with open_shelf(tmp_path, store="s", model="m") as shelf:
        assert set(await shelf.known(["a", "too long", "other"])) == {"a", "too long"}
        taken = await shelf.take(["a", "too long"])
        assert taken["a"].tolist() == ONE.tolist()
        assert taken["too long"] is None


@pytest.mark.parametrize("other", [{"model": "other"}, {"store": "other"}], ids=["model", "store"])
async def test_each_store_and_model_has_its_own(tmp_path, other):
    async with open_shelf(tmp_path, store="s", model="m") as shelf:
        await shelf.keep({"a": ONE})
    async with open_shelf(tmp_path, **{"store": "s", "model": "m", **other}) as shelf:
        assert list(await shelf.known(["a"])) == []


async def test_nothing_stays_behind(tmp_path):
    async with open_shelf(tmp_path, store="s", model="m") as shelf:
        await shelf.keep({"a": ONE})
        await shelf.clear()
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        async with open_shelf(tmp_path / "file", store="s", model="m"):
            pass
