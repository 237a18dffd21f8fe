from __future__ import annotations

import pytest

from cacheproxy.cli.reference import settings_table
from cacheproxy.config import KNOWN


def row_of(name: str) -> str:
    head, _, row = settings_table([name]).partition("|---|---|---|---|\n")
    assert head.startswith("| setting |")
    assert row.count("\n") == 1
    return row


@pytest.mark.parametrize(
    ("name", "start"),
    [
        pytest.param(
            "threshold", "| `threshold` | `CACHEPROXY_THRESHOLD` | `0.95` | With the policy threshold", id="number"
        ),
        pytest.param("cache.max_bytes", "| `cache.max_bytes` | `CACHEPROXY_CACHE__MAX_BYTES` | `2GiB` |", id="size"),
        pytest.param("mode", "| `mode` | `CACHEPROXY_MODE` | `semantic` |", id="word"),
        pytest.param("expose_headers", "| `expose_headers` | `CACHEPROXY_EXPOSE_HEADERS` | `true` |", id="flag"),
        pytest.param("listen", "| `listen` | `CACHEPROXY_LISTEN` | `127.0.0.1:8090` |", id="address"),
        pytest.param("prices", "| `prices` | `CACHEPROXY_PRICES` |  |", id="list"),
        pytest.param("admin_token", "| `admin_token` | `CACHEPROXY_ADMIN_TOKEN` |  |", id="unset"),
        pytest.param("upstreams.<name>.url", "| `upstreams.<name>.url` |  |  |", id="of-any-name"),
    ],
)
def test_a_row_tells_name_variable_default_and_meaning(name, start):
    assert row_of(name).startswith(start)


def test_every_setting_has_a_row():
    assert settings_table().count("\n") == len(KNOWN) + 2
