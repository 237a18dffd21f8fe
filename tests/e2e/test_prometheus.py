"""A real Prometheus scrapes a running proxy after traffic: every panel of every dashboard shows something."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest
import yaml
from support.servers import PATIENCE_S, proxy_from, proxy_settings

from cacheproxy.lab.questions import read_questions

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
PANELS: Final = {
    f"{file.stem}: {panel['title']}": [target["expr"] for target in panel["targets"]]
    for file in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
    for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]
    if panel["type"] != "row"
}
RECORDED: Final = [
    rule["record"]
    for group in yaml.safe_load((DEPLOY / "prometheus/rules/recording.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
EMPTY: Final = {"operations: Failed calls": "no call to store, index, embedder or judge fails here"}
"""Panels that show nothing, and why. Their queries must at least be understood."""
VARIABLES: Final = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m", "$__range": "5m"}
QUESTIONS: Final = 16


def tool(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH: install Prometheus (Debian's package prometheus has both)")
    return found


def nowhere():
    """An address that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{held.getsockname()[1]}"


def post(url, body):
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-prometheus"}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            response.read()
    except urllib.error.HTTPError as error:
        error.read()


def traffic(proxy, questions):
    """Something of everything: questions twice, one without a price, one nobody answers, no JSON."""

    def ask(question, *, base=proxy.v1, model="gpt-4o-mini"):
        body = {"model": model, "messages": [{"role": "user", "content": question}]}
        post(f"{base}/chat/completions", json.dumps(body).encode())

    for question in questions:
        ask(question)
        ask(question)
    ask(questions[0], model="a-model-of-ours")
    ask(questions[0], base=f"{proxy.url}/nobody/v1")
    post(f"{proxy.v1}/chat/completions", b"no JSON")


class Prometheus:
    def __init__(self, url):
        self._url = url

    def api(self, path, **query):
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{urlencode(query)}", timeout=PATIENCE_S) as response:
            return json.load(response)["data"]

    def values(self, query):
        """The values that a query has at the moment, those that are none left out."""
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)
        found = self.api("query", query=query)["result"]
        return [value for series in found if not math.isnan(value := float(series["value"][1]))]

    def wait_for(self, query, least):
        """Poll until a query has a value of at least so much."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if max(self.values(query), default=-math.inf) >= least:
                    return
            except OSError:
                pass  # it has not started yet
            time.sleep(0.2)
        raise AssertionError(f"{query} never came to {least}")


@pytest.fixture(scope="module")
def proxy(host, simulated, tmp_path_factory):
    """A proxy with a local server that is down, so that each miss is one that falls back."""
    settings = proxy_settings(
        tmp_path_factory.mktemp("watched"),
        f"{simulated}/v1",
        local={"url": f"http://{nowhere()}/v1", "usd_per_gpu_hour": 1.0},
        upstreams={"nobody": {"url": f"http://{nowhere()}/v1"}},
    )
    with host.open(proxy_from(settings)) as served:
        yield served


@pytest.fixture(scope="module")
def prometheus(proxy, tmp_path_factory):
    """Prometheus, once it has seen the proxy before, between and after two lots of traffic."""
    program, folder = tool("prometheus"), tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus/rules/*.yml")]
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "cacheproxy")
    (folder / "admin_token").write_text("asked for by no listener on loopback", encoding="utf-8")
    job["authorization"] = {"credentials_file": str(folder / "admin_token")}
    job["static_configs"] = [{"targets": [proxy.admin.removeprefix("http://")]}]
    config["scrape_configs"] = [job]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = nowhere()
    arguments = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": address,
        "log.level": "warn",
    }
    process = subprocess.Popen([program, *(f"--{name}={value}" for name, value in arguments.items())])
    try:
        prometheus = Prometheus(f"http://{address}")
        questions = [question.text for question in read_questions(bundled())][:QUESTIONS]
        half = QUESTIONS // 2
        traffic(proxy, questions[:half])
        prometheus.wait_for("sum(cacheproxy_requests_total)", 2 * half)
        traffic(proxy, questions[half:])
        done = 2 * QUESTIONS
        prometheus.wait_for("sum(cacheproxy_requests_total)", done)
        # A rate needs two points of a series, and rules are evaluated after that.
        prometheus.wait_for(f"min_over_time(sum(cacheproxy_requests_total)[3s:1s]) >= {done}", done)
        prometheus.wait_for("job:cacheproxy_net_saved_usd:rate1h", -math.inf)
        yield prometheus
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def bundled():
    from importlib.resources import files  # noqa: PLC0415 - one use

    return files("cacheproxy") / "data" / "banking77_sample.jsonl"


@pytest.mark.parametrize("panel", PANELS)
def test_each_panel_shows_something(prometheus, panel):
    shown = [prometheus.values(query) for query in PANELS[panel]]
    assert (shown == [[] for _ in shown]) if panel in EMPTY else all(shown)


def test_only_panels_that_exist_are_excused():
    assert EMPTY.keys() <= PANELS.keys()


@pytest.mark.parametrize("name", RECORDED)
def test_each_recorded_series_is_there(prometheus, name):
    assert prometheus.values(name)


def test_no_rule_fails(prometheus):
    rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > len(RECORDED)
    assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []


def test_a_calm_proxy_pages_nobody(prometheus):
    alerts = prometheus.api("alerts")["alerts"]
    assert [alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"] == []


def test_promtool_finds_no_fault_with_the_metrics(proxy):
    with urllib.request.urlopen(f"{proxy.admin}/metrics", timeout=PATIENCE_S) as response:
        text = response.read()
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout.decode() + done.stderr.decode()) == (0, "")
