from __future__ import annotations

from io import StringIO

from rich.console import Console

from cacheproxy.lab.outcomes import Outcome, summarise
from cacheproxy.lab.report import render


def drawn(outcomes, duration_s=2.0):
    page = StringIO()
    Console(file=page, width=100).print(render(summarise(outcomes, duration_s=duration_s)))
    return page.getvalue()


def test_everything_that_was_found_is_told():
    text = drawn(
        [
            Outcome(1.25, status="Hit", layer="exact", wrong=False, saved_usd=0.5, input_tokens=10, output_tokens=5),
            Outcome(5.0, status="Hit", layer="semantic", wrong=True),
            Outcome(800.0, status="Miss", reason="no-neighbor", cost_usd=0.25, input_tokens=1000, output_tokens=1),
            Outcome(9.0, "HTTP 500"),
        ]
    )
    for words in (
        "66.7% hits",
        "4 requests in 2.0 s",
        "1 failed",
        "exact hit",
        "800.0",
        "1 of 1  100.00%  (95%:",
        "$0.500000  (15 tokens)",
        "$0.250000  (1,001 tokens)",
        "no-neighbor",
        "HTTP 500",
    ):
        assert words in text


def test_what_did_not_happen_is_left_out():
    text = drawn([], duration_s=0.0)
    assert "nothing to judge" in text
    assert "failed" not in text
    assert "Why there was no hit" not in text
