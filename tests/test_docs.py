"""The documentation is whole and true: whatever is set, sent, counted or typed has its place in it."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml
from support.metrics import every_metric

from cacheproxy.cli.app import app
from cacheproxy.cli.reference import settings_table
from cacheproxy.config import KNOWN
from cacheproxy.core.controls import CONTROL_HEADERS
from cacheproxy.core.guards import GUARDS, objections
from cacheproxy.errors import ProxyError
from cacheproxy.flow import render
from cacheproxy.flow.told import Hit, Miss
from cacheproxy.model import CacheStatus, Entry, Layer, Reason, Usage
from cacheproxy.settings import PriceSettings, Settings
from cacheproxy.upstream.providers import PROVIDERS
from cacheproxy.wire.dialects import DIALECTS

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
WRITE: Final = "CACHEPROXY_TEST_WRITE_DOCS" in os.environ
GENERATED: Final = re.compile(
    r"(?P<begin><!-- (?P<kind>settings|commands)(?:: (?P<names>[^>]*?))? -->\n).*?(?P<end><!-- /(?P=kind) -->)",
    re.DOTALL,
)
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK: Final = re.compile(r"\]\((?!https?://)([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def first_cells(page: str) -> set[str]:
    """The names in the first column of the page's tables."""
    return {
        name
        for row in re.findall(r"^\|([^|]+)\|", text_of(page), re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(group: Any, above: str = "cacheproxy") -> list[tuple[str, Any]]:
    """Every command with its whole name."""
    return [
        found
        for name, command in group.commands.items()
        for found in (
            commands(command, f"{above} {name}") if hasattr(command, "commands") else [(f"{above} {name}", command)]
        )
    ]


def default_of(option: Any) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    bare = option.default is None or option.default is False or option.default == "" or callable(option.default)
    return "" if bare else f"`{option.default}`"


def commands_table() -> str:
    parts = []
    for name, command in commands(typer.main.get_command(app)):
        arguments = " ".join(
            part.metavar or part.name.upper() for part in command.params if part.param_type_name == "argument"
        )
        rows = [
            f"| `{', '.join(option.opts)}` | {default_of(option)} | {option.help} |\n"
            for option in command.params
            if option.param_type_name == "option" and "--help" not in option.opts
        ]
        table = "".join(["\n| flag | default | what it is |\n|---|---|---|\n", *rows]) if rows else ""
        example = (command.epilog or "").removeprefix("Example: ")
        parts.append(f"## {f'{name} {arguments}'.strip()}\n\n{command.help}\n\n```sh\n{example}\n```\n{table}\n")
    return "".join(parts)


def generated(kind: str, names: str | None) -> str:
    if kind == "commands":
        return commands_table()
    return settings_table(None if names in (None, "all") else names.split())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_generated_tables_are_up_to_date(page):
    text = page.read_text(encoding="utf-8")
    fresh = GENERATED.sub(lambda m: m["begin"] + generated(m["kind"], m["names"]) + m["end"], text)
    if WRITE and fresh != text:
        page.write_text(fresh, encoding="utf-8")
    assert WRITE or fresh == text, "run it again with CACHEPROXY_TEST_WRITE_DOCS=1"


def test_there_are_generated_tables():
    assert GENERATED.search(text_of("docs/settings.md"))
    assert GENERATED.search(text_of("docs/commands.md"))
    assert GENERATED.search(text_of("README.md"))


def test_every_setting_is_documented_in_full():
    assert {setting.name for setting in KNOWN.values()} <= first_cells("docs/settings.md")
    assert all(setting.description for setting in KNOWN.values())


def test_every_member_of_a_price_is_documented():
    assert all(f"`{name}`" in text_of("docs/settings.md") for name in PriceSettings.model_fields)


def test_the_settings_of_the_example_file_are_settings():
    for block in blocks(ROOT / "docs/settings.md", "yaml"):
        Settings.model_validate(yaml.safe_load(block))


def test_every_known_provider_is_named():
    text = text_of("docs/settings.md")
    assert [name for name in PROVIDERS if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize(
    ("command", "flag"),
    [(n, f) for n, c in commands(typer.main.get_command(app)) for p in c.params for f in p.opts if f.startswith("--")],
)
def test_every_flag_says_what_it_is(command, flag):
    assert f"## {command}" in text_of("docs/commands.md")
    assert flag == "--help" or flag in text_of("docs/commands.md")


def test_the_defaults_that_serve_shows_are_those_of_the_settings():
    serve = dict(commands(typer.main.get_command(app)))["cacheproxy serve"]
    told = {option.name: option.show_default for option in serve.params if isinstance(option.show_default, str)}
    settings = Settings()
    for name in ("listen", "admin_listen", "mode", "threshold", "embedding_model", "device", "workers", "data_dir"):
        assert told[name] == str(getattr(settings, name) if name != "data_dir" else KNOWN["data_dir"].default), name


def test_every_response_header_is_documented():
    entry = Entry(
        "id", b"", b"", "t", "d", "u", "m", "p", b"{}", Usage(), 0.0, 1.0, created_at=0.0, expires_at=1.0, semantic=True
    )
    told = [
        *render.hit_headers(Hit(entry, Layer.SEMANTIC, 0.9), now=0.5),
        *render.miss_headers(Miss(CacheStatus.MISS, Reason.EXPIRED, 0.9), cost_usd=1.0),
        *render.coalesced_headers(),
    ]
    assert {name for name, _ in told} <= first_cells("README.md")


def test_every_value_of_a_header_is_documented():
    text = text_of("README.md")
    assert all(f"`{value}`" in text for value in [*CacheStatus, *Layer])


def test_every_request_control_is_documented():
    assert set(CONTROL_HEADERS) <= {name.lower() for name in first_cells("README.md")}


def test_every_reason_is_documented():
    assert set(Reason) <= first_cells("docs/wire.md")


def test_every_cached_path_and_dialect_is_documented():
    text = text_of("docs/wire.md")
    assert all(f"`POST {path}`" in text and f"`{dialect.name}`" in text for path, dialect in DIALECTS.items())


def test_every_error_that_a_caller_sees_is_documented():
    inside = {"cacheproxy_turn_too_long", "cacheproxy_config_error"}
    codes = {error.code for error in [ProxyError, *ProxyError.__subclasses__()]} - inside
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)`", text_of("docs/wire.md"), re.MULTILINE)
    assert {code for _, code in rows} == codes
    assert {(str(error.status), error.code) for error in [ProxyError, *ProxyError.__subclasses__()]} >= set(rows)


def test_every_metric_and_its_labels_are_documented():
    text = text_of("docs/operations.md")
    section = text[text.index("\n## Metrics") : text.index("\n**Prices**")]
    documented = {
        name: re.findall(r"`(\w+)`", labels)
        for names, labels in re.findall(r"^\|([^|]+)\|([^|]*)\|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert documented == every_metric()


def test_every_guard_is_documented_with_an_example_that_it_refuses():
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\| (.+?) / (.+?) \|$", text_of("docs/decision.md"), re.MULTILINE)
    assert {f"guard-{name}" for name, _, _ in rows} == {guard.reason for guard in GUARDS}
    for name, one, other in rows:
        assert f"guard-{name}" in objections(one, other)


def anchors(page: Path) -> set[str]:
    """GitHub's names for the page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_can_be_run(page):
    for code in blocks(page, "python"):
        ast.parse(code)
    for code in blocks(page, "sh"):
        shell = shutil.which("sh")
        assert shell is not None
        assert subprocess.run([shell, "-n"], input=code, text=True, check=False).returncode == 0, code


TYPED: Final = [
    (name_of(page), line)
    for page in PAGES
    for code in [*blocks(page, "sh"), *blocks(page, "bash")]
    for line in code.replace("\\\n", " ").splitlines()
    if re.match(r"(\w+=\S+ )*(\S*/)?cacheproxy ", line)
]


@pytest.mark.parametrize(("page", "line"), TYPED)
def test_commands_that_are_shown_can_be_typed(page, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line, comments=True)
    group: Any = typer.main.get_command(app)
    rest = words[next(place for place, word in enumerate(words) if word.endswith("cacheproxy")) + 1 :]
    if ">" in rest:
        rest = rest[: rest.index(">")]
    for word in rest:
        if word.endswith((".jsonl", ".yaml")):
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            Path(word).touch()
        elif word.startswith("./"):
            Path(word).mkdir(exist_ok=True)
    while hasattr(group, "commands"):
        assert rest[0] in group.commands, f"{page}: {line}"
        group, rest = group.commands[rest[0]], rest[1:]
    group.make_context("cacheproxy", rest)  # raises what the command line would say


def test_the_first_commands_are_the_demo_and_the_tests():
    assert [code.strip() for code in blocks(ROOT / "README.md", "sh")][:2] == ["make demo", "make test"]


def test_the_index_leads_to_every_page():
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= {link.partition("#")[0] for link in LINK.findall(text_of("docs/README.md"))}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_that_are_named_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    code = "\n".join([*blocks(page, "sh"), *re.findall(r"`([^`\n]+)`", text)])
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= targets
