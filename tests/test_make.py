"""What make would do, without doing it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
MAKE: Final = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def dry_run(*arguments: str, **environ: str) -> str:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "CACHEPROXY", "MFLAGS"))
    }
    assert MAKE is not None
    done = subprocess.run(
        [MAKE, "--dry-run", "--always-make", *arguments],
        cwd=ROOT,
        env=inherited | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("target", ["run", "demo", "test", "check", "bench", "setup"])
def test_each_target_sets_up_first(target):
    commands = dry_run(target)
    assert commands.index("-m venv") < commands.index("--editable")


def test_torch_comes_first_and_alone_may_have_another_index():
    plain, named = dry_run("setup"), dry_run("setup", "TORCH_INDEX=file:///wheels")
    torch = re.search(r"install .*--no-deps +torch\n", plain)

    assert torch is not None
    assert torch.start() < plain.index("--editable")
    assert "--index-url" not in plain
    assert [line for line in named.splitlines() if "--index-url" in line] == [
        line for line in named.splitlines() if line.endswith(" torch")
    ]


def test_the_simulated_llm_is_announced_and_behind_the_proxy():
    commands = dry_run("run", "SIMULATE=1")

    assert "SIMULATED UPSTREAM" in commands
    assert re.search(r"simulate --listen (\S+) .*\n.*\n.*serve --upstream-url http://\1/v1", commands)
    assert "simulate" not in dry_run("run")


def test_the_proxy_was_put_in_front_of_whatever_had_the_simulated_llms_port():
    if sys.prefix != str(ROOT / ".venv"):
        pytest.skip("the tests run in another environment than make's")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        host, port = taken.getsockname()
        done = subprocess.run(
            [MAKE, "run", "SIMULATE=1", f"SIMULATED={host}:{port}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode != 0
    assert f"cannot listen on {host}:{port}" in done.stderr
    assert "data plane" not in done.stdout


def test_every_requirement_is_pinned():
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]

    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins


def test_the_default_is_to_say_what_there_is():
    assert MAKE is not None
    done = subprocess.run([MAKE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"make {target} " in done.stdout for target in ("run", "demo", "test", "check", "bench", "setup"))


def test_no_registry_is_named():
    texts = [(ROOT / name).read_text() for name in ("Makefile", "constraints.txt", "pyproject.toml", ".ci/run")]
    assert not any(re.search(r"https?://(?!127\.)[a-z0-9.]*(pypi|pythonhosted|pytorch)", text) for text in texts)
