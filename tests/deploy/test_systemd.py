"""The systemd unit: systemd finds nothing wrong with it, and the proxy starts as it says."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from support.deployed import DEPLOY, env_file, health_command, status_of

from cacheproxy.config import load

UNIT = (DEPLOY / "systemd" / "cacheproxy.service").read_text(encoding="utf-8")
ANALYZE = shutil.which("systemd-analyze")
FILLED = {"CACHEPROXY_ADMIN_TOKEN": "t" * 16, "CACHEPROXY_PROXY_KEYS": "k" * 16}
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def directives(name):
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def environment():
    words = [word for line in directives("Environment") for word in line.split()]
    return env_file(".env.example") | FILLED | dict(word.split("=", 1) for word in words)


@pytest.fixture
def installed(tmp_path):
    """The unit, its program being one that is here."""
    unit = tmp_path / "cacheproxy.service"
    unit.write_text(UNIT.replace("/opt/cacheproxy/bin/cacheproxy", "/bin/true"), encoding="utf-8")
    return unit


@needs_systemd
def test_systemd_understands_every_line(installed):
    done = subprocess.run([ANALYZE, "verify", "--man=no", installed], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert installed.name not in done.stdout + done.stderr  # other units of the machine may have their faults


@needs_systemd
def test_systemd_calls_it_well_confined(installed):
    done = subprocess.run(
        [ANALYZE, "security", "--offline=true", "--threshold=20", installed],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_there_is_time_to_drain():
    deadlines = load(flags={}, environ=environment()).settings.deadlines
    assert float(directives("TimeoutStopSec")[0]) > deadlines.drain_s + deadlines.unready_s


def test_it_writes_its_own_directory_alone():
    (state,) = directives("StateDirectory")
    assert directives("ProtectSystem") == ["strict"]
    assert directives("ReadWritePaths") == []
    assert environment()["CACHEPROXY_DATA_DIR"] == f"/var/lib/{state}"


def test_the_proxy_starts_as_it_says_and_ends_well(start, place, tmp_path):
    place.paths["/var/lib/cacheproxy"] = str(tmp_path / "state")
    program, *command = directives("ExecStart")[0].split()
    assert program == "/opt/cacheproxy/bin/cacheproxy"
    where = {  # it takes the defaults, and these are their ports here
        "CACHEPROXY_LISTEN": "127.0.0.1:8090",
        "CACHEPROXY_ADMIN_LISTEN": "127.0.0.1:8091",
        "CACHEPROXY_MODE": "exact",  # the embedding model takes long to load, and test_compose.py loads it
    }
    running = start(command, environment() | where)
    running.until_healthy(health_command(["CMD", "python", "/opt/healthy.py", "http://127.0.0.1:8090/readyz"], place))
    assert status_of(place.url(8090, "/v1/models"))[0] == 401
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert running.close() == 0
