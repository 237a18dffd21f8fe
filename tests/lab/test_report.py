from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from cacheproxy.lab.outcomes import Outcome, summarise
from cacheproxy.lab.replay import Progress
from cacheproxy.lab.report import progress_bar, render


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
        "$0.5000  (66.7% of the cost; 15 tokens)",
        "$0.2500  (1,001 tokens)",
        "no-neighbor",
        "HTTP 500",
    ):
        assert words in text


@pytest.mark.parametrize(("slow", "told"), [(1, False), (20, True)])
def test_a_model_that_did_not_keep_up_was_only_a_line_among_the_reasons(slow, told):
    outcomes = [Outcome(1.0, status="Miss", reason="no-neighbor")] * 80
    text = drawn([*outcomes, *[Outcome(1.0, status="Miss", reason="embedder-unavailable")] * slow])
    assert ("docs/operations.md" in text) == told


def test_what_did_not_happen_is_left_out():
    text = drawn([], duration_s=0.0)
    assert "nothing to judge" in text
    assert "failed" not in text
    assert "of the cost" not in text
    assert "why there was no hit" not in text


def test_the_bar_tells_how_far_it_is_and_goes_away():
    page = StringIO()
    console = Console(file=page, width=100, force_terminal=True)
    with progress_bar(console, total=3) as show:
        show(Progress(done=2, total=3, hits=1, errors=0))
    text = page.getvalue()
    assert "2/3" in text
    assert "1 hits, 0 failed" in text
    assert text.endswith("\x1b[2K")  # the line is erased
