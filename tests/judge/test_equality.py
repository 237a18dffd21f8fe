"""Canonical equality as a judge: it speaks about values, and is silent about prose."""

from __future__ import annotations

import pytest

from cacheproxy.judge.equality import EqualityJudge


@pytest.mark.parametrize(
    ("cached", "fresh", "same"),
    [
        ("Paris", "**paris**.", True),
        ("Paris", "London", False),
        ('{"n": 1, "m": 2}', '{"m": 2, "n": 1}', True),
        ('{"n": 1}', '{"n": 2}', False),
        ("It takes three days to arrive.", "You will have it within three days.", None),
    ],
)
async def test_it_speaks_where_spelling_can_tell(cached, fresh, same):
    verdict = await EqualityJudge().judge("?", cached, fresh)
    assert (verdict.same, verdict.cost_usd, verdict.by) == (same, 0.0, "equality")
    assert verdict.why
