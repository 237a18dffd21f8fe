"""Prometheus's own tools accept the configuration, and each alert fires when it should and not before."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml
from support.metrics import every_metric

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "deploy/prometheus"
RULES: Final = sorted((PROMETHEUS / "rules").glob("*.yml"))
UNIT_TESTS: Final = sorted((PROMETHEUS / "tests").glob("*.yml"))
SEVERITIES: Final = {"page", "ticket"}


def rules(kind):
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS: Final = rules("alert")
RECORDED: Final = {rule["record"] for rule in rules("record")}


@pytest.fixture(scope="module")
def promtool():
    """Runs promtool; what it said, once it is content."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on PATH: install Prometheus (Debian's package prometheus has both)")

    def run(*arguments, **more):
        done = subprocess.run(
            [found, *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False, **more
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_promtool_accepts_the_configuration_and_its_rules(promtool, tmp_path):
    token = tmp_path / "admin_token"
    token.write_text("a token", encoding="utf-8")
    text = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    here = text.replace("/run/cacheproxy/admin_token", str(token)).replace("rules/*", f"{PROMETHEUS}/rules/*")
    (tmp_path / "prometheus.yml").write_text(here, encoding="utf-8")
    told = promtool("check", "config", tmp_path / "prometheus.yml")
    assert told.count("SUCCESS") == 2 + len(RULES)  # the configuration, its rule files, and each of them


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should(promtool, file):
    promtool("test", "rules", file)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_is_tested_firing_and_quiet(alert):
    tests = [test for file in UNIT_TESTS for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == alert["alert"]]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_each_alert_says_how_bad_what_and_what_to_do(alert):
    assert alert["labels"]["severity"] in SEVERITIES
    assert {"summary", "description", "runbook_url"} == alert["annotations"].keys()
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert alert["alert"] in headings
    assert anchor == alert["alert"].lower()


@pytest.mark.parametrize("rule", [*rules("record"), *ALERTS], ids=lambda rule: rule.get("record") or rule["alert"])
def test_rules_speak_of_metrics_that_exist(rule):
    bare = re.sub(r'"[^"]*"', "", rule["expr"])
    named = set(re.findall(r"\b(?:job\w*:\w+:\w+|cacheproxy_\w+|process_\w+)\b", bare))
    named = {re.sub(r"_(bucket|sum|count)$", "", name) if name not in every_metric() else name for name in named}
    assert named <= every_metric().keys() | RECORDED
