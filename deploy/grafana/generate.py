"""Writes the Grafana dashboards in ``dashboards/`` from the panels in ``panels/``.

    python deploy/grafana/generate.py

What the panels show is worth reading and reviewing; the JSON around them is the same for all. The JSON files are in
the tree, so that Grafana needs nothing of this; a test holds that they are what would be written.

A panel has a title, what it ``tells``, and a ``query``, or ``queries`` by legend. In one ``{HERE}`` and ``{HERE, ...}``
narrow it to the jobs and instances that were chosen above the panels, and ``RATE`` is the range of a rate. Queries need
no recording rules. ``kind`` is timeseries unless said otherwise, ``width`` is in 24ths, ``steps`` are colours from a
value on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parent
WIDTH: Final = 24
SIZES: Final = {"stat": (4, 5), "timeseries": (8, 8), "heatmap": (12, 8), "table": (12, 8)}
HERE: Final = 'job=~"$job", instance=~"$instance"'
RATE: Final = "[$__rate_interval]"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def query(text: str) -> str:
    """A query as Prometheus gets it, once Grafana has filled in its variables."""
    return text.replace("{HERE", "{" + HERE).replace("RATE", RATE)


def panel_json(panel: dict[str, Any], number: int, place: dict[str, int]) -> dict[str, Any]:
    """One panel as Grafana has it."""
    kind = panel.get("kind", "timeseries")
    defaults: dict[str, Any] = {"unit": panel.get("unit", "short")}
    options = panel.get("options", {})
    if kind == "timeseries":
        shape = {"fillOpacity": 25, "stacking": {"mode": "normal"}} if panel.get("stacked") else {"fillOpacity": 5}
        defaults |= {"min": 0, "custom": {"lineWidth": 1, "showPoints": "never", **shape}}
        options = {"tooltip": {"mode": "multi"}, **options}
    if steps := panel.get("steps"):
        colours = [{"value": value, "color": colour} for value, colour in steps]
        defaults["thresholds"] = {"mode": "absolute", "steps": colours}
    queries = panel["queries"] if "queries" in panel else {"": panel["query"]}
    snapshot = kind in {"stat", "table"}
    return {
        "id": number,
        "type": kind,
        "title": panel["title"],
        "description": panel["tells"],
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": query(text),
                "legendFormat": legend,
                "instant": snapshot,
                "range": not snapshot,
                "format": {"heatmap": "heatmap", "table": "table"}.get(kind, "time_series"),
            }
            for at, (legend, text) in enumerate(queries.items())
        ],
    }


def panels_json(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The panels row by row, from left to right, each below what is above it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        heading = {"type": "row", "title": row["title"], "collapsed": False, "gridPos": place, "panels": []}
        panels.append({"id": len(panels) + 1, **heading})
        x, y, tallest = 0, y + 1, 0
        for panel in row["panels"]:
            width, height = SIZES[panel.get("kind", "timeseries")]
            width = panel.get("width", width)
            if x + width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            panels.append(panel_json(panel, len(panels) + 1, {"x": x, "y": y, "w": width, "h": height}))
            x, tallest = x + width, max(tallest, height)
        y += tallest
    return panels


def variable(name: str, text: str) -> dict[str, Any]:
    """A choice above the panels, of the values that a label has."""
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": text, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard_json(name: str, dashboard: dict[str, Any]) -> dict[str, Any]:
    """One dashboard as Grafana has it."""
    broken = {
        "name": "Promises broken",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "red",
        "expr": query("changes(cacheproxy_promise_trips_total{HERE}RATE) > 0"),
        "titleFormat": "{{scope}} went back to shadow",
    }
    return {
        "uid": f"cacheproxy-{name}",
        "title": dashboard["title"],
        "description": dashboard["tells"],
        "tags": ["cacheproxy"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "title": "cacheproxy", "tags": ["cacheproxy"], "keepTime": True}],
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                variable("job", "label_values(cacheproxy_build_info, job)"),
                variable("instance", 'label_values(cacheproxy_build_info{job=~"$job"}, instance)'),
            ]
        },
        "annotations": {"list": [broken]},
        "panels": panels_json(dashboard["rows"]),
    }


def files() -> dict[Path, str]:
    """Every dashboard's file and its text."""
    return {
        ROOT / "dashboards" / f"{source.stem}.json": json.dumps(
            dashboard_json(source.stem, yaml.safe_load(source.read_text(encoding="utf-8"))), indent=2
        )
        + "\n"
        for source in sorted((ROOT / "panels").glob("*.yml"))
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
