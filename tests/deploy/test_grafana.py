"""The dashboards are what their panels say, and speak of metrics that exist. That they show data: tests/e2e."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Final

import pytest
import yaml
from support.metrics import every_metric

GRAFANA: Final = Path(__file__).parents[2] / "deploy/grafana"
DASHBOARDS: Final = sorted((GRAFANA / "dashboards").glob("*.json"))
WIDTH: Final = 24


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", GRAFANA / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def panels(file):
    return [panel for panel in json.loads(file.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"]


def test_the_dashboards_are_up_to_date(generate):
    written = {path: path.read_text(encoding="utf-8") for path in DASHBOARDS}
    assert written == generate.files(), "run deploy/grafana/generate.py"


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_panels_speak_of_metrics_that_exist(file):
    known = every_metric()
    for panel in panels(file):
        for target in panel["targets"]:
            for name in re.findall(r"\b(?:cacheproxy|process)_\w+", target["expr"]):
                assert name in known or re.sub(r"_(bucket|sum|count)$", "", name) in known, (panel["title"], name)


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_panels_do_not_lie_over_each_other(file):
    taken = set()
    for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_metric_is_on_a_dashboard():
    text = " ".join(target["expr"] for file in DASHBOARDS for panel in panels(file) for target in panel["targets"])
    assert [name for name in every_metric() if name not in text] == []


def test_names_that_grafana_looks_dashboards_up_by_are_unique():
    told = [json.loads(file.read_text(encoding="utf-8")) for file in DASHBOARDS]
    assert len({each["uid"] for each in told}) == len({each["title"] for each in told}) == len(DASHBOARDS) == 4


def test_grafana_is_told_where_data_and_dashboards_are():
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))
    folder = yaml.safe_load((GRAFANA / "provisioning/dashboards/cacheproxy.yml").read_text(encoding="utf-8"))
    assert [each["type"] for each in source["datasources"]] == ["prometheus"]
    assert [each["type"] for each in folder["providers"]] == ["file"]
