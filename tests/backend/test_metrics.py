from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

from cacheproxy.backend.engine import Counts, Load
from cacheproxy.backend.metrics import Metrics


def rendered():
    metrics = Metrics()
    engine = SimpleNamespace(
        load=Load(2, 5, 0.25), counts=Counts(output_tokens=9, admitted=3, waited_s=1.5, restarts=1)
    )
    metrics.watch(engine)
    metrics.requests.labels("chat", "200").inc()
    return metrics.render().decode()


def test_an_engine_is_reported_as_it_is_when_asked():
    text = rendered()
    for line in (
        "cacheproxy_backend_waiting 2.0",
        "cacheproxy_backend_running 5.0",
        "cacheproxy_backend_kv_used_ratio 0.25",
        "cacheproxy_backend_output_tokens_total 9.0",
        "cacheproxy_backend_queue_seconds_total 1.5",
        "cacheproxy_backend_restarts_total 1.0",
        'cacheproxy_backend_requests_total{api="chat",status="200"} 1.0',
    ):
        assert f"{line}\n" in text


def test_every_metric_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "backend.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", rendered(), re.MULTILINE))
    assert {name for name in names if not name.endswith("_created")} == set(
        re.findall(r"^\| `(cacheproxy_backend_\w+)`", page, re.MULTILINE)
    )
