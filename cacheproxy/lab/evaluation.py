"""An evaluation and a certificate for people, drawn with rich."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cacheproxy.lab.tally import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from cacheproxy.lab.calibration import Certificate
    from cacheproxy.lab.tally import Bin, Prices, Proportion, Tally


@contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """Bars for embedding and for each arm, gone when the work is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield bar


def render_streams(tallies: Sequence[Tally], prices: Prices) -> RenderableType:
    """Arms over streams."""
    limits = [f"at <= {limit:.0%}" for limit in LIMITS]
    table = _table("arm", "hits", "2nd half", "wrong/semantic hit (95%)", "wrong/requests", *limits, "net saving")
    for tally in tallies:
        table.add_row(
            tally.name,
            f"{tally.hits.rate:.1%}",
            f"{tally.late_hits.rate:.1%}",
            _share(tally.wrong),
            f"{tally.wrong_per_request.rate:.2%}",
            *(f"{tally.reachable(limit):.1%}" for limit in LIMITS),
            _saving(tally, prices),
        )
    return Group(
        table,
        "",
        Text(
            "Hits are exact and semantic ones. At <= 1, 2, 5% wrong per semantic hit: the hit rate with the best cut\n"
            "through an arm's scores, in hindsight. Net saving: what semantic hits saved, less audits and judgements,\n"
            "at "
            f"${prices.answer_usd:g} an answer and ${prices.judge_usd:g} a judgement.",
            "dim",
        ),
    )


def render_pairs(tallies: Sequence[Tally]) -> RenderableType:
    """Arms on pairs: served is what the second question gets of the first one's answer."""
    limits = [f"served at <= {limit:.0%} wrong" for limit in LIMITS]
    table = _table("arm", "served", "wrong per served (95%)", "precision", "recall", *limits)
    for tally in tallies:
        table.add_row(
            tally.name,
            f"{tally.wrong.of:,} of {tally.requests:,}",
            _share(tally.wrong),
            f"{1 - tally.wrong.rate:.1%}" if tally.wrong.of else "",
            f"{tally.recall.rate:.1%}",
            *(f"{tally.reachable(limit):.1%}" for limit in LIMITS),
        )
    return table


def render_certificate(found: Certificate) -> RenderableType:
    """Labels by source, thresholds by budget, and how honest predicted chances are."""
    labels = _table("labels from", "count", "wrong (95%)")
    for source, share in found.sources.items():
        labels.add_row(source, f"{share.of:,}", _share(share))
    thresholds = _table("budget", "stage", "served from, estimated", "served from, certified", "wrong (95%)", "bound")
    for line in found.lines:
        thresholds.add_row(
            f"{line.budget:.2%}",
            line.stage.value,
            _chance(line.estimated),
            _chance(line.certified),
            _share(line.wrong),
            f"{line.bound:.2%}" if line.wrong.of else "",
        )
    notes = [
        Text(
            f"{found.counted:,} of {found.labels:,} count: the newest, and so many of one answer or caller.",
            "dim",
        )
    ]
    if found.tripped:
        notes.insert(0, Text("The audits among them broke the promise; labels from before that are void.", "bold red"))
    return Group(labels, "", *notes, "", thresholds, "", _reliability(found.reliability))


def _reliability(bins: Sequence[Bin]) -> Table:
    table = _table("predicted", "observed (95%)", "labels")
    for each in bins:
        table.add_row(f"{each.predicted:.1%}", _share(each.observed), f"{each.observed.of:,}")
    return table


def _share(share: Proportion) -> str:
    if not share.of:
        return "none"
    low, high = share.interval
    return f"{share.rate:.2%} ({low:.2%} to {high:.2%})"


def _saving(tally: Tally, prices: Prices) -> str:
    gross = tally.gross_usd(prices)
    net = tally.net_usd(prices)
    return f"${net:,.2f} ({net / gross:.0%})" if gross else f"${net:,.2f}"


def _chance(chance: float | None) -> str:
    return "" if chance is None else f"{chance:.2%}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
