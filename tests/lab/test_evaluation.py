from __future__ import annotations

import io

import numpy as np
from rich.console import Console
from support.verdicts import made_up_labels

from cacheproxy.lab.calibration import certificate_of
from cacheproxy.lab.evaluation import progress_bar, render_certificate, render_pairs, render_streams
from cacheproxy.lab.offline import SEMANTIC, Run
from cacheproxy.lab.tally import Prices, Tally


def told(thing):
    paper = io.StringIO()
    Console(file=paper, width=160).print(thing)
    return paper.getvalue()


def tally(count=100, wrong=1):
    flags = np.arange(count) < wrong
    run = Run(np.full(count, SEMANTIC, np.int8), flags, [None] * count, np.full(count, 0.9), np.zeros(count), ~flags)
    return Tally("threshold 0.9", [run])


def test_streams_are_told_with_their_interval_and_the_prices():
    text = told(render_streams([tally()], Prices(0.5, 0.25)))
    assert "1.00% (0.03% to 5.45%)" in text
    assert "$50.00 (100%)" in text
    assert "$0.5 an answer and $0.25 a judgement" in text


def test_an_arm_that_hits_nothing_is_told_too():
    zeros = np.zeros(1)
    nothing = Tally("exact", [Run(zeros.astype(np.int8), zeros > 0, [None], zeros, zeros, zeros > 0)])
    assert "none" in told(render_streams([nothing], Prices()))


def test_pairs_are_told_with_precision_and_recall():
    text = told(render_pairs([tally()]))
    assert "100 of 100" in text
    assert "99.0%" in text


def test_a_certificate_is_told_budget_by_budget():
    text = told(render_certificate(certificate_of(made_up_labels(400, audits=9), budget=0.03, prior=None)))
    assert "audit" in text
    assert "3.00%" in text
    assert "observed" in text


def test_a_broken_promise_is_told():
    found = certificate_of(made_up_labels(300, audits=30, audits_right=False), budget=0.01, prior=None)
    assert "broke the promise" in told(render_certificate(found))


def test_a_bar_moves_and_goes_away():
    paper = io.StringIO()
    with progress_bar(Console(file=paper)) as bar:
        bar.advance(bar.add_task("embedding", total=2), 2)
    assert "embedding" not in paper.getvalue().splitlines()[-1:]
