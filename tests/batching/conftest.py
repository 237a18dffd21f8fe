import pytest

from cacheproxy.batching.batcher import Batcher


@pytest.fixture
async def opened():
    """Makes batchers and closes them."""
    batchers = []

    def make(compute, **options):
        batchers.append(Batcher(compute, name="doubler", **options))
        return batchers[-1]

    yield make
    for batcher in batchers:
        await batcher.aclose()
