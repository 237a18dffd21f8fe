"""What stands in for a store that is away fails as one does, and loses none of the sums."""

import pytest

from cacheproxy.errors import PortUnavailable
from cacheproxy.events import Audited, CheckKind, Served
from cacheproxy.model import CacheStatus
from cacheproxy.store.away import AwaitedLedger, Away
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_ledger import SqliteLedger


@pytest.fixture
async def ledger(tmp_path):
    async with open_sqlite(tmp_path / "cache.db", clock=lambda: 0.0) as store:
        yield SqliteLedger(store.database)


def served():
    return Served(
        at=0.0,
        dialect="openai-chat",
        upstream="default",
        tenant="t",
        model="m",
        http_status=200,
        status=CacheStatus.BYPASS,
        duration_ms=1.0,
    )


async def test_each_call_fails_and_no_key_may_be_there():
    away = Away()
    assert not away.may_hold(b"key")
    for call in (away.load(["id"]), away.news(), away.add("pool", [], batch=1)):
        with pytest.raises(PortUnavailable, match="not been reached"):
            await call


async def test_reading_the_vectors_fails_as_the_other_calls_do():
    """A search by meaning was answered with 500: what was to be gone through was no iterator."""
    with pytest.raises(PortUnavailable, match="not been reached"):
        async for _ in Away().vectors():
            pass


async def test_what_was_summed_is_booked_by_the_ledger_that_comes_and_so_is_what_comes_then(ledger):
    awaited = AwaitedLedger()
    awaited.served(served())
    awaited.audited(Audited(at=0.0, model="m", tenant="t", upstream="u", kind=CheckKind.AUDIT, cost_usd=0.5))
    await awaited.flush()
    with pytest.raises(PortUnavailable):
        await awaited.tallies(())
    await awaited.adopt(ledger)
    awaited.served(served())
    await ledger.flush()
    (tally,) = await awaited.tallies(())
    assert (tally.requests, tally.audit_usd) == (2, 0.5)


async def test_a_ledger_that_goes_again_keeps_what_it_was_given(ledger, monkeypatch):
    awaited = AwaitedLedger()
    awaited.served(served())
    booked = []

    async def fails(rows):
        booked.extend(rows)
        raise PortUnavailable("gone again")

    monkeypatch.setattr(ledger, "book", fails)
    await awaited.adopt(ledger)
    assert [row["requests"] for row in booked] == [1]
