from __future__ import annotations

from cacheproxy.events import Served
from cacheproxy.model import CacheStatus, Usage
from cacheproxy.store.books import Books

MISS = Served(
    at=7200.0,
    dialect="openai-chat",
    upstream="openai",
    tenant="alice",
    model="m",
    http_status=200,
    status=CacheStatus.MISS,
    duration_ms=900.0,
    usage=Usage(100, 50, 40, 10),
    cost_usd=0.25,
)


def test_what_is_taken_is_booked_no_more():
    books = Books()
    books.served(MISS)
    ((_, sums),) = books.take().items()
    assert (sums[0], sums[1]) == (1, 0.25)
    assert books.take() == {}


def test_what_could_not_be_written_is_added_to_what_came_since():
    books = Books()
    books.served(MISS)
    taken = books.take()
    books.served(MISS)
    books.merge(taken)
    ((_, sums),) = books.take().items()
    assert sums[0] == 2
