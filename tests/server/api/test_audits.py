"""What judges said lately is told with its reasons; of earlier runs, what labels remember."""

from __future__ import annotations

import pytest
from support.candidates import always, label
from support.judging import Coin, ScriptedJudge, different, same
from support.panel import NOW

from cacheproxy.core.labels import Source

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED} please"


async def test_a_verdict_on_a_miss_is_told_with_its_judge(panels):
    panel = await panels(policy="certified", judge=ScriptedJudge(different))
    await panel.ask(ASKED)
    await panel.ask("Pray tell what reverse proxies do")
    told = await panel.told("/audits")
    (audit,) = told["audits"]
    assert (audit["verdict"], audit["source"], audit["judge"], audit["pool"]) == (
        "wrong",
        "miss",
        "scripted",
        "default",
    )
    assert audit["entry"] == (await panel.entries(text="please tell"))[0]["id"]
    assert 0 < audit["similarity"] < 1
    assert told["since_start"]


async def test_an_audited_hit_leads_to_its_explanation(panels):
    panel = await panels(policy="certified", prior=always(5.0), judge=ScriptedJudge(same), dice=Coin(0.0))
    await panel.ask(ASKED)
    hit = await panel.ask(SIMILAR)
    (audit,) = (await panel.told("/audits"))["audits"]
    assert (audit["verdict"], audit["source"], audit["entry"]) == ("right", "audit", hit["X-CacheProxy-Entry"])
    (decision,) = (await panel.told(f"/explain?request={audit['request_id']}"))["decisions"]
    assert (decision["prompt"], decision["verdict"]) == (SIMILAR, "right")


@pytest.fixture
async def remembering(panel):
    """A pool with labels of an earlier run."""
    pool = panel.flow.pools.named("default")
    pool.restore(
        [
            label(NOW - 100 + number, right=number % 2 == 0, source=Source.AUDIT, root=f"r{number}", principal="alice")
            for number in range(5)
        ],
        ever=5,
    )
    return panel


async def test_earlier_verdicts_are_filled_in_from_labels(remembering):
    told = await remembering.told("/audits?limit=3")
    assert [audit["entry"] for audit in told["audits"]] == ["r4", "r3", "r2"]
    assert [audit["verdict"] for audit in told["audits"]] == ["right", "wrong", "right"]
    assert (told["audits"][0]["tenant"], told["audits"][0]["judge"], told["since_start"]) == ("alice", "", False)


async def test_a_verdict_of_this_run_is_not_told_twice(panels):
    panel = await panels(policy="certified", judge=ScriptedJudge(same))
    await panel.ask(ASKED)
    await panel.ask("Pray tell what reverse proxies do")
    assert len(panel.flow.pools.named("default").labels) == 1
    assert len((await panel.told("/audits"))["audits"]) == 1
