"""Questions that are near each other, and verdicts that make or break a pool's promise on them."""

from support.candidates import label

from cacheproxy.core.labels import Source

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = [f"{ASKED} please", f"{ASKED}!", f"{ASKED} exactly", f"Kindly {ASKED}"]


def teach(world, count=600, *, start=0, right=lambda number: number % 4 != 0, pool=None):
    """Verdicts that a rule can be made from: near answers are right, far ones wrong."""
    pool = pool or world.pool
    for number in range(start, start + count):
        verdict = label(world.clock.now, right=right(number), root=f"root {number}")
        pool.saw(verdict.features)
        world.flow.pools.add(pool, verdict)


async def break_the_promise(world):
    """Hits, each of which its audit finds wrong."""
    await world.ask(ASKED)
    for question in SIMILAR[:3]:
        assert (await world.ask(question)).cache == ("Hit", "semantic")


def audit_wrong_hits(world):
    """Enough of them to break the promise, and some that come after that."""
    for number in range(5):
        verdict = label(world.clock.now, right=False, root=f"wrong {number}", source=Source.AUDIT)
        world.flow.pools.add(world.pool, verdict)
