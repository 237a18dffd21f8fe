from __future__ import annotations

import logging

import pytest

from cacheproxy.events import Served
from cacheproxy.model import CacheStatus, Usage
from cacheproxy.store import books as module
from cacheproxy.store.books import OTHERS, Books

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


@pytest.fixture
def narrow(monkeypatch):
    """Few buckets wait."""
    monkeypatch.setattr(module, "MODELS_APART", 4)
    monkeypatch.setattr(module, "TENANTS_APART", 8)


def flood(books, **names):
    """One request each under names that nobody had before."""
    for number in range(100):
        books.served(MISS._replace(**{name: f"{name}-{number}" for name in names}))


def money(taken):
    return sum(sums[1] for sums in taken.values())


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("names", [{"model": 1}, {"tenant": 1}, {"model": 1, "tenant": 1}], ids="+".join)
def test_a_stream_of_fresh_names_is_summed_under_one_name_and_no_money_is_lost(names):
    """Past 10,000 buckets models were merged, but each fresh tenant was a bucket more, without end."""
    books = Books()
    flood(books, **names)
    taken = books.take()
    assert len(taken) <= 8 + 1
    assert money(taken) == 100 * MISS.cost_usd
    assert max(taken.values())[0] > 1


@pytest.mark.usefixtures("narrow")
def test_many_models_are_merged_before_any_tenant_is():
    books = Books()
    flood(books, model=1)
    books.served(MISS._replace(tenant="bob", model="late"))
    assert {tenant for _, tenant, *_ in books.take()} == {"alice", "bob"}


@pytest.mark.usefixtures("narrow")
def test_what_comes_back_again_and_again_stays_bounded_too():
    """Sums that no flush wrote were merged with what came meanwhile, and both were taken for the next one."""
    books, taken = Books(), {}
    for _ in range(10):
        flood(books, tenant=1, model=1)
        books.merge(taken)
        taken = books.take()
    assert len(taken) <= 8 + 1
    assert money(taken) == 1000 * MISS.cost_usd


@pytest.mark.usefixtures("narrow")
def test_that_names_are_lost_is_said_once_while_it_goes_on(caplog):
    books = Books()
    with caplog.at_level(logging.WARNING):
        flood(books, tenant=1)
        books.take()
        flood(books, tenant=1)
    (record,) = caplog.records
    assert OTHERS in record.getMessage()
    books.take()
    books.served(MISS)
    books.take()  # by now there are few again
    flood(books, tenant=1)
    assert len(caplog.records) == 2
