"""What continuous integration sets up: a Redis 8, unless there is one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

REDIS8: Final = Path(__file__).parent.parent / ".ci" / "redis8"


@pytest.fixture
def server(tmp_path):
    """A program that says it were such a server."""
    path = tmp_path / "redis-server"
    path.write_text("#!/bin/sh\necho 'Redis server v=8.4.1 sha=00000000:0 malloc=libc bits=64 build=0'\n")
    path.chmod(0o755)
    return path


def printed(**environment):
    given = {name: value for name, value in os.environ.items() if name != "CACHEPROXY_TEST_REDIS8"}
    return subprocess.run([REDIS8], env=given | environment, capture_output=True, text=True, check=True).stdout.strip()


def test_a_redis_8_that_is_named_is_taken(server):
    assert printed(CACHEPROXY_TEST_REDIS8=str(server)) == str(server)


def test_a_redis_8_that_is_installed_is_taken(server):
    assert printed(PATH=f"{server.parent}:{os.environ['PATH']}") == str(server)
