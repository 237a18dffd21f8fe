from __future__ import annotations

import sys

import numpy as np
import pytest

from cacheproxy.errors import ConfigError
from cacheproxy.lab import plots
from cacheproxy.lab.offline import SEMANTIC, Run
from cacheproxy.lab.tally import Tally

PNG = b"\x89PNG"


def tally(*, scored):
    count = 60
    right = np.arange(count) % 10 != 0
    chance = np.linspace(0.1, 0.99, count)
    outcome = np.where(chance > 0.5, SEMANTIC, 0).astype(np.int8)
    run = Run(outcome, (outcome == SEMANTIC) & ~right, [None] * count, np.linspace(0.3, 1.0, count), chance, right)
    return Tally("ours <1%>", [run], scored)


def test_each_plot_is_a_picture_and_the_page_holds_them_all(tmp_path):
    drawn = plots.figures([tally(scored=True)])
    written = plots.write(tmp_path / "out", "a <title>", "hits & more", drawn)
    assert [path.name for path in written] == ["precision.png", "similarity.png", "reliability.png", "index.html"]
    assert all(path.read_bytes().startswith(PNG) for path in written[:3])
    page = written[-1].read_text("utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page
    assert "a &lt;title&gt;" in page
    assert "hits &amp; more" in page


def test_a_policy_without_chances_has_no_reliability_plot():
    assert set(plots.figures([tally(scored=False)])) == {"precision", "similarity"}


def test_precision_is_drawn_against_hit_rate():
    (axes,) = plots.figures([tally(scored=True)])["precision"].axes
    curve = axes.lines[0].get_xydata()
    assert curve[-1] == pytest.approx([1.0, 0.9])


def test_without_the_extra_one_is_told_its_name(monkeypatch):
    plots.require()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"cacheproxy\[plots\]"):
        plots.require()
