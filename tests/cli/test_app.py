from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from cacheproxy import __version__
from cacheproxy.cli import run

COMMANDS = [
    ["serve"],
    ["simulate"],
    ["replay"],
    ["stats"],
    *[["cache", name] for name in ("ls", "show", "rm", "purge", "export", "import", "re-embed")],
    *[["config", name] for name in ("check", "show", "schema")],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_help_with_an_example(command, capsys):
    assert run([*command, "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"Example: {'CACHEPROXY_THRESHOLD=.97 ' if command == ['config', 'show'] else ''}cacheproxy" in told
    assert " ".join(command) in told


def test_the_version_is_told(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"cacheproxy {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["nonsense"], "No such command", id="unknown-command"),
        pytest.param(["serve", "--nonsense"], "No such option", id="unknown-flag"),
        pytest.param(["serve", "--threshold", "2"], "--threshold", id="setting-out-of-range"),
        pytest.param(["serve", "--threshold", "much"], "--threshold", id="no-number"),
        pytest.param(["serve", "--config", "/nonexistent.yaml"], "cannot read the settings file", id="no-file"),
        pytest.param(["serve", "--admin-listen", ":8091"], "set admin_token", id="open-administration"),
        pytest.param(["cache", "show"], "ID", id="argument-missing"),
        pytest.param(["stats", "--by", "colour"], "cannot group by 'colour'", id="unknown-group"),
        pytest.param(["stats", "--since", "tomorrow"], "is no duration", id="no-duration"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(arguments, said, capsys):
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"cacheproxy: .+\n", told.err)
    assert said in told.err


def test_without_a_command_the_help_is_shown(capsys):
    assert run([]) == 2
    told = capsys.readouterr()
    assert "serve" in told.out + told.err
    assert "cacheproxy: " not in told.err


def test_a_failure_is_one_line_and_exit_1(tmp_path, capsys):
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE theirs (x)")
    assert run(["cache", "ls", "--store", f"sqlite:///{tmp_path / 'other.db'}"]) == 1
    assert re.fullmatch(r"cacheproxy: .+\n", capsys.readouterr().err)


def test_the_help_imports_nothing_heavy():
    heavy = "{'torch', 'faiss', 'sentence_transformers', 'redis', 'genai_prices', 'aiohttp'}"
    program = (
        f"import sys; from cacheproxy.cli import run; run(['--help']); sys.exit(str(sys.modules.keys() & {heavy}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"


def test_the_package_can_be_run():
    done = subprocess.run([sys.executable, "-m", "cacheproxy", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cacheproxy ")
