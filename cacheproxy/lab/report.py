"""A replay for people, drawn with rich: how far it is, and its report."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Group
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from cacheproxy.model import Layer, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console, RenderableType

    from cacheproxy.lab.outcomes import ReplayReport, Share
    from cacheproxy.lab.replay import Progress

_KINDS: Final = {
    Layer.EXACT.value: "exact hit",
    Layer.SEMANTIC.value: "semantic hit",
    Layer.COALESCED.value: "coalesced",
    "miss": "no hit",
}
_MANY: Final = 0.05
_TOO_SLOW: Final = Text(
    "The embedding model was often too slow for its deadline on this machine, so similar questions\n"
    "were not compared: see `embedder-unavailable` in docs/operations.md.",
    "bold yellow",
)


@contextmanager
def progress_bar(console: Console, *, total: int) -> Iterator[Callable[[Progress], None]]:
    """A bar that moves with what it is told, and goes away with the block."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[hits]} hits, {task.fields[errors]} failed"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("replay", total=total, hits=0, errors=0)
        yield lambda far: bar.update(task, completed=far.done, hits=far.hits, errors=far.errors)


def render(report: ReplayReport) -> RenderableType:
    """The whole report: what answered and how fast, what was wrong, what was saved, and why there was no hit."""
    parts: list[RenderableType] = [_headline(report), _answers(report), _facts(report)]
    if report.reasons:
        parts.append(_counts("why there was no hit", report.reasons))
    if report.reasons.get(Reason.EMBEDDER_UNAVAILABLE, 0) > _MANY * report.requests:
        parts.append(_TOO_SLOW)
    if report.errors:
        parts.append(_counts("what failed", report.errors))
    return Group(*(Group(part, "") for part in parts))


def _headline(report: ReplayReport) -> Text:
    rate = report.requests / report.duration_s if report.duration_s else 0.0
    return Text.assemble(
        (f"{report.hit_rate:.1%} hits", "bold green"),
        f"  {report.requests:,} requests in {report.duration_s:.1f} s ({rate:,.0f}/s)",
        (f", {report.failed:,} failed", "bold red") if report.failed else "",
    )


def _answers(report: ReplayReport) -> Table:
    table = _table("answered by", "requests", "share", "p50 ms", "p95 ms")
    for kind, name in _KINDS.items():
        latency = report.latency[kind]
        share = f"{latency.requests / report.requests:.1%}" if report.requests else ""
        times = (f"{latency.p50_ms:,.1f}", f"{latency.p95_ms:,.1f}") if latency.requests else ("", "")
        table.add_row(name, f"{latency.requests:,}", share, *times)
    return table


def _facts(report: ReplayReport) -> Table:
    table = _table("", "", headed=False)
    table.add_row("wrong semantic hits", _share(report.wrong_per_semantic_hit))
    table.add_row("wrong hits, of all hits", _share(report.wrong_per_hit))
    table.add_row("wrong hits, of all answers", _share(report.wrong_per_request))
    whole = report.saved_usd + report.spent_usd
    part = f"{report.saved_usd / whole:.1%} of the cost; " if whole else ""
    table.add_row("saved", f"${report.saved_usd:,.4f}  ({part}{report.saved_tokens:,} tokens)")
    table.add_row("spent", f"${report.spent_usd:,.4f}  ({report.bought_tokens:,} tokens)")
    return table


def _share(share: Share) -> str:
    if not share.of:
        return "nothing to judge"
    low, high = share.interval
    return f"{share.count:,} of {share.of:,}  {share.rate:.2%}  (95%: {low:.2%} to {high:.2%})"


def _counts(title: str, counts: Mapping[str, int]) -> Table:
    table = _table(title, "requests")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    return table


def _table(first: str, *others: str, headed: bool = True) -> Table:
    table = Table(box=box.SIMPLE_HEAD if headed else None, show_edge=False, show_header=headed, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right" if headed else "left")
    return table
