"""An evaluation in pictures: PNG files, and one HTML page that holds them all.

matplotlib is an optional extra: it is imported when a plot is drawn, not before.
"""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING, Final

import numpy as np

from cacheproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cacheproxy.lab.tally import Bin, Tally

_SIZE: Final = (7.0, 4.5)
_DPI: Final = 120
_MOST_WRONG: Final = 0.15
_FEWEST: Final = 20
"""Of the strictest candidates: shares of fewer say nothing."""
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "img{max-width:100%}pre{overflow-x:auto;font-size:13px;line-height:1.3}"
)


def require() -> None:
    """Raises ``ConfigError`` without matplotlib: before the work, not after it."""
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - only whether it is there
    except ImportError as error:
        raise ConfigError("plots need matplotlib: pip install 'cacheproxy[plots]', or leave out --out") from error


def figures(tallies: Sequence[Tally]) -> dict[str, Figure]:
    """The plots of an evaluation, by file name."""
    found = {"precision": _precision(tallies), "similarity": _similarity(tallies)}
    scored = {tally.name: tally.reliability() for tally in tallies if tally.scored}
    if scored:
        found["reliability"] = reliability_figure(scored)
    return found


def write(out: Path, title: str, table: str, drawn: Mapping[str, Figure]) -> list[Path]:
    """Each figure as PNG, and ``index.html`` with the table and all of them in itself. Returns what was written."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    parts = [f"<h1>{html.escape(title)}</h1>", f"<pre>{html.escape(table)}</pre>"]
    for name, figure in drawn.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI)
        (out / f"{name}.png").write_bytes(buffer.getvalue())
        written.append(out / f"{name}.png")
        encoded = base64.b64encode(buffer.getvalue()).decode()
        parts.append(
            f'<h2>{html.escape(name)}</h2><img alt="{html.escape(name)}" src="data:image/png;base64,{encoded}">'
        )
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    page = out / "index.html"
    page.write_text(f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>", "utf-8")
    return [*written, page]


def reliability_figure(scored: Mapping[str, Sequence[Bin]]) -> Figure:
    """Predicted chance against the observed share, with its interval: on the diagonal where the model is honest."""
    figure, axes = _empty("predicted chance of being right", "observed share of right ones")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="as predicted")
    for name, bins in scored.items():
        observed = [b.observed for b in bins]
        low = [share.rate - share.interval[0] for share in observed]
        high = [share.interval[1] - share.rate for share in observed]
        axes.errorbar(
            [b.predicted for b in bins],
            [share.rate for share in observed],
            [low, high],
            marker="o",
            capsize=3,
            label=name,
        )
    axes.legend()
    return figure


def _precision(tallies: Sequence[Tally]) -> Figure:
    figure, axes = _empty("hit rate", "precision of semantic hits")
    for tally in tallies:
        rates, wrong = tally.curve()
        if len(rates) > _FEWEST:
            (line,) = axes.plot(rates[_FEWEST:], 1 - wrong[_FEWEST:], linewidth=1, label=tally.name)
            if tally.wrong.of:
                axes.plot([tally.hits.rate], [1 - tally.wrong.rate], marker="o", color=line.get_color())
    axes.set_ylim(1 - _MOST_WRONG, 1.002)
    axes.set_xlim(0, 1)
    axes.set_title("each cut through the candidates' scores; dots: what was served", fontsize=9)
    if axes.lines:
        axes.legend()
    return figure


def _similarity(tallies: Sequence[Tally]) -> Figure:
    """Of the first arm's candidates: those of others differ in little."""
    figure, axes = _empty("similarity of the candidate", "candidates")
    similarities = np.concatenate([run.similarity for run in tallies[0].runs])
    right = np.concatenate([run.candidate_right for run in tallies[0].runs])
    there = similarities > 0
    edges = np.linspace(0, 1, 41).tolist()
    axes.hist(similarities[there & right], edges, alpha=0.6, label="right", color="tab:green")
    axes.hist(similarities[there & ~right], edges, alpha=0.6, label="wrong", color="tab:red")
    axes.set_title(tallies[0].name, fontsize=9)
    axes.legend()
    return figure


def _empty(across: str, up: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional extra

    figure = Figure(_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure, axes
