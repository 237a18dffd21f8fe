"""What is read when Prometheus asks."""

from cacheproxy.server.collectors import GAUGES, GaugeCollector
from cacheproxy.server.metrics import Metrics


def test_a_gauge_is_read_anew_each_time():
    held = {"entries": 1.0}
    collector = GaugeCollector({"entries": lambda: held["entries"]})
    first = [sample.value for family in collector.collect() for sample in family.samples]
    held["entries"] = 2.0
    second = [sample.value for family in collector.collect() for sample in family.samples]
    assert (first, second) == ([1.0], [2.0])


def test_a_part_that_is_not_there_is_no_empty_one():
    assert [family.name for family in GaugeCollector({}).collect()] == []


def test_every_gauge_can_be_kept():
    metrics = Metrics()
    for place, name in enumerate(GAUGES):
        metrics.watch(name, lambda place=place: place)
    text = metrics.render().decode()
    assert all(f"\ncacheproxy_{name} {place}.0" in text for place, name in enumerate(GAUGES))
