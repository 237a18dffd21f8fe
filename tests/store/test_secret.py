from __future__ import annotations

import stat

import pytest

from cacheproxy.errors import ConfigError
from cacheproxy.store.secret import server_secret


def test_it_is_made_once_and_its_owners_alone(tmp_path):
    made = server_secret(tmp_path / "data")
    assert len(made) == 32
    assert server_secret(tmp_path / "data") == made
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600


def test_what_is_none_is_told_with_what_to_do(tmp_path):
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(ConfigError, match="delete it"):
        server_secret(tmp_path)
