from __future__ import annotations

import stat

import pytest

from cacheproxy.errors import ConfigError
from cacheproxy.store.secret import keep_secret, server_secret


def test_it_is_made_once_and_its_owners_alone(tmp_path):
    made = server_secret(tmp_path / "data")
    assert len(made) == 32
    assert server_secret(tmp_path / "data") == made
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600


def test_what_is_none_is_told_with_what_to_do(tmp_path):
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(ConfigError, match="delete it"):
        server_secret(tmp_path)


def test_a_secret_that_comes_with_its_entries_is_kept_where_there_is_none(tmp_path):
    for _ in range(2):
        keep_secret(tmp_path / "new", b"s" * 32)
    assert server_secret(tmp_path / "new") == b"s" * 32
    assert (tmp_path / "new" / "secret").stat().st_mode & 0o777 == 0o600


def test_a_secret_that_is_in_use_is_not_replaced(tmp_path):
    mine = server_secret(tmp_path)
    with pytest.raises(ConfigError, match="another secret"):
        keep_secret(tmp_path, b"s" * 32)
    assert server_secret(tmp_path) == mine
