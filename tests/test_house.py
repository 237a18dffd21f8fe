"""The house holds: imports point down, fences stand, every module has its tests, no file grows past reading."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "cacheproxy"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))
TESTS: Final = sorted((ROOT / "tests").rglob("*.py"))
MAX_LINES: Final = 400
MAX_DEPTH: Final = 2

TESTED_ELSEWHERE: Final = {
    "__main__": "one call, made by tests/cli/test_app.py",
    "backend/api": "two records and protocols, used by the tests of each API and of the server in tests/backend",
    "backend/engine": "a protocol and records; tests/backend runs every engine",
    "events": "records; tests/contracts/test_ledger.py sums them up",
    "flow/messages": "protocols and two records, used by tests/flow/test_proxy.py and tests/server/test_data_plane.py",
    "model": "records without behaviour; everything else's tests use them",
    "ports": "protocols; tests/contracts runs a suite for each port over every adapter",
    "server/api/decision_shapes": "records; tests/server/api/test_decision.py and test_openapi.py",
    "server/api/entry_shapes": "records; tests/server/api/test_entries.py and test_openapi.py",
    "server/api/figure_shapes": "records; tests/server/api/test_overview.py and test_openapi.py",
    "server/api/live_shapes": "records; tests/server/api/test_live.py and test_openapi.py",
    "server/api/shapes": "the base of all shapes; the tests of every page",
    "store/redis_catalogue": "tests/contracts/test_store_selections.py, over every Redis",
    "store/redis_credentials": "tests/contracts/test_store.py, over every Redis",
    "store/redis_keys": "tests/contracts/test_keys.py, over every Redis",
    "store/redis_labels": "tests/contracts/test_labels.py, over every Redis",
    "store/redis_scripts": "scripts; each is run by tests/store/test_redis.py and the contracts",
    "tracing": "protocols; tests/flow/test_trace.py has what the flow tells, tests/telemetry who hears it",
    "wire/dialect": "a protocol; each dialect's tests",
    "workers/embedding": "tests/e2e/test_workers.py starts it, kills it and has it started again",
    "workers/worker": "tests/e2e/test_workers.py starts, kills, drains and replaces it under traffic",
}
"""Modules without a test file of their own, and why."""


def name_of(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").as_posix()


def test_floors_and_fences_hold():
    linter = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert linter.returncode == 0, linter.stdout + linter.stderr


@pytest.mark.parametrize("module", [m for m in MODULES if m.name != "__init__.py"], ids=name_of)
def test_each_module_has_its_test_file(module):
    name = name_of(module)
    folder, _, last = name.rpartition("/")
    exists = (ROOT / "tests" / folder / f"test_{last}.py").is_file()
    assert exists != (name in TESTED_ELSEWHERE), "either a test file or a reason for none, not both"


def test_only_existing_modules_are_excused():
    names = {name_of(module) for module in MODULES}
    assert TESTED_ELSEWHERE.keys() <= names


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_test_file_is_too_long_to_read(file):
    assert file.read_text(encoding="utf-8").count("\n") <= MAX_LINES


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_no_file_is_too_long_to_read(module):
    assert module.read_text(encoding="utf-8").count("\n") <= MAX_LINES


def test_folders_are_at_most_two_deep():
    deepest = [module for module in MODULES if len(module.relative_to(PACKAGE).parts) > MAX_DEPTH + 1]
    assert deepest == []


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_each_module_says_what_it_is(module):
    assert module.read_text(encoding="utf-8").startswith(('"""', 'r"""'))
