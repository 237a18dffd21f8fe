"""``cacheproxy stats``: what the ledger booked, as a table or as JSON."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from cacheproxy.cli.common import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    Misuse,
    StoreOption,
    console,
    existing,
    print_json,
    say,
    seconds,
    settings_from,
    wall_clock,
)
from cacheproxy.cli.economics import told_economics
from cacheproxy.core.certificate import proven
from cacheproxy.core.judge_noise import PAIRS, Noise
from cacheproxy.core.labels import LABELS_KEPT, Label, Source
from cacheproxy.events import GROUPINGS, Tally
from cacheproxy.model import Layer
from cacheproxy.settings import Settings

if TYPE_CHECKING:
    from cacheproxy.server.api.decision_shapes import JudgeTold

_HARDLY_ANYTHING_USD: Final = 0.01
OFFERED: Final = tuple(name for name in GROUPINGS if name != "layer")  # which is a column of its own


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: a group's requests, and its hits by the layer that answered."""

    group: Mapping[str, str]
    requests: int = 0
    hits: Mapping[Layer, int] = field(default_factory=dict)
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    saved_s: float = 0.0
    estimated: int = 0
    unpriced: int = 0
    audit_usd: float = 0.0
    judge_usd: float = 0.0

    @property
    def checks_usd(self) -> float:
        """What it cost to find out whether the cache's answers are right."""
        return self.audit_usd + self.judge_usd

    @property
    def net_saved_usd(self) -> float:
        """What hits saved, less what checking them cost."""
        return self.saved_usd - self.checks_usd

    @property
    def hit_rate(self) -> float:
        """Hits of all layers per request; 0 without requests."""
        return sum(self.hits.values()) / self.requests if self.requests else 0.0

    def plus(self, tally: Tally) -> "Row":
        """This row with one more tally in it, which was grouped by layer too."""
        hits = dict(self.hits)
        if layer := tally.group["layer"]:
            hits[Layer(layer)] = hits.get(Layer(layer), 0) + tally.requests
        return Row(
            group=self.group,
            requests=self.requests + tally.requests,
            hits=hits,
            cost_usd=self.cost_usd + tally.cost_usd,
            saved_usd=self.saved_usd + tally.saved_usd,
            input_tokens=self.input_tokens + tally.input_tokens,
            output_tokens=self.output_tokens + tally.output_tokens,
            saved_input_tokens=self.saved_input_tokens + tally.saved_input_tokens,
            saved_output_tokens=self.saved_output_tokens + tally.saved_output_tokens,
            saved_s=self.saved_s + tally.saved_ms / 1000,
            estimated=self.estimated + tally.estimated,
            unpriced=self.unpriced + tally.unpriced,
            audit_usd=self.audit_usd + tally.audit_usd,
            judge_usd=self.judge_usd + tally.judge_usd,
        )


@dataclass(frozen=True, slots=True)
class Promise:
    """How a pool keeps its error budget in service."""

    pool: str
    labels: int
    audits: int
    """Hits on similar questions that the upstream was asked again for, by a coin."""
    wrong: int
    bound: float
    """Of wrong hits per hit, at 95% confidence, valid whenever one looks."""

    def __str__(self) -> str:
        measured = f"{self.wrong} of {self.audits} audited hits wrong, at most {self.bound:.2%}"
        return f"pool {self.pool}: {self.labels} verdicts; {measured if self.audits else 'no hit audited yet'}"


def stats(
    *,
    by: Annotated[str, typer.Option(help=f"Group by any of {', '.join(OFFERED)}.", metavar="A,B")] = "model",
    since: Annotated[str | None, typer.Option(help="Only this far back: 24h, 7d.", metavar="AGE")] = None,
    economics: Annotated[bool, typer.Option("--economics", help="What it costs, a forecast, and what-ifs.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Show hit rates and savings."""
    groups = [name.strip() for name in by.split(",") if name.strip()]
    if unknown := [name for name in groups if name not in OFFERED]:
        raise Misuse(f"cannot group by {unknown[0]!r}; there are {', '.join(OFFERED)}")
    start = 0.0 if since is None else wall_clock() - seconds(since)
    settings = existing(settings_from({"config": config, "data_dir": data_dir, "store": store}).settings)
    if economics:
        told_economics(settings, since=start, until=wall_clock(), json=json)
        return
    tallies, promises, judge = asyncio.run(_read(settings, [*groups, "layer"], start))
    rows, total = report(tallies)
    if json:
        print_json(
            {
                "rows": [as_json(row) for row in rows],
                "total": as_json(total),
                "promises": [asdict(promise) for promise in promises],
                "judge": judge.model_dump(mode="json"),
            }
        )
    else:
        console().print(_table(groups, rows, total), markup=False)
        for promise in promises:
            say(str(promise))
        if promises:
            say(_of_judge(judge))


def report(tallies: Sequence[Tally]) -> tuple[list[Row], Row]:
    """A row for each group, in the tallies' order, and one over all. The tallies are grouped by ``layer`` last."""
    rows: dict[tuple[str, ...], Row] = {}
    total = Row({})
    for tally in tallies:
        group = {name: value for name, value in tally.group.items() if name != "layer"}
        values = tuple(group.values())
        rows[values] = rows.get(values, Row(group)).plus(tally)
        total = total.plus(tally)
    return list(rows.values()), total


def as_json(row: Row) -> dict[str, Any]:
    """A row for programs: its group's names beside its numbers, a hit rate for each layer."""
    return {
        **row.group,
        "requests": row.requests,
        "hit_rate": row.hit_rate,
        "hits": {layer.value: row.hits.get(layer, 0) for layer in Layer},
        "cost_usd": row.cost_usd,
        "saved_usd": row.saved_usd,
        "audit_usd": row.audit_usd,
        "judge_usd": row.judge_usd,
        "net_saved_usd": row.net_saved_usd,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "saved_input_tokens": row.saved_input_tokens,
        "saved_output_tokens": row.saved_output_tokens,
        "saved_s": row.saved_s,
        "requests_with_estimated_tokens": row.estimated,
        "requests_without_price": row.unpriced,
    }


async def _read(
    settings: Settings, by: Sequence[str], since: float
) -> "tuple[Sequence[Tally], Sequence[Promise], JudgeTold]":
    from cacheproxy import derive, opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them
    from cacheproxy.server.api.decision_shapes import JudgeTold  # noqa: PLC0415 - likewise

    async with opening.open_books(settings) as (ledger, labels):
        tallies = await ledger.tallies(by, since=since)
        kept = {name: await labels.recent(name, LABELS_KEPT) for name in await labels.pools()}
    name = derive.judge_name(settings)
    noise = Noise.of([pair.right for pair in kept.pop(PAIRS, ()) if pair.root == name])
    return tallies, [promise_of(pool, found) for pool, found in kept.items()], JudgeTold.of(noise)


def _of_judge(told: "JudgeTold") -> str:
    if not told.pairs:
        return "judge: not measured yet"
    share = f"{told.disagreed} of {told.pairs} pairs, {told.low:.2%} to {told.high:.2%} at 95% confidence"
    return f"judge: called two fresh answers different in {share}"


def promise_of(pool: str, labels: Sequence[Label]) -> Promise:
    """What the audits of a pool's hits came to."""
    audits = [label.right for label in labels if label.source is Source.AUDIT]
    wrong = audits.count(False)
    return Promise(pool, len(labels), len(audits), wrong, proven(wrong, len(audits)) if audits else 1.0)


def _table(groups: Sequence[str], rows: Sequence[Row], total: Row) -> Table:
    table = Table(box=None, show_footer=len(rows) > 1)
    for index, name in enumerate(groups):
        table.add_column(name, footer="total" if index == 0 else "")
    for name, footer in _figures(total, total).items():
        table.add_column(name, footer=footer, justify="right")
    for row in rows:
        table.add_row(*row.group.values(), *_figures(row, total).values())
    return table


def _figures(row: Row, total: Row) -> dict[str, str]:
    """What a row says, by column. What nothing of the total is told of has no column.

    ``saved USD`` is what remains of the savings when checks are paid.
    """
    rates = {f"{layer} hits": _percent(row.hits.get(layer, 0), row.requests) for layer in Layer}
    mark = "~" if row.estimated else ""
    return {
        "requests": f"{row.requests:,}",
        **rates,
        "spent USD": _usd(row.cost_usd),
        **({"checks USD": _usd(row.checks_usd)} if total.checks_usd else {}),
        "saved USD": f"{mark}{_usd(row.net_saved_usd)}",
        **({"without price": f"{row.unpriced:,}"} if total.unpriced else {}),
        "saved tokens": f"{mark}{row.saved_input_tokens + row.saved_output_tokens:,}",
        "saved seconds": f"{row.saved_s:,.1f}",
    }


def _usd(amount: float) -> str:
    """Four decimals; six for what would be nothing in four, as after the first few requests."""
    return f"{amount:,.4f}" if abs(amount) >= _HARDLY_ANYTHING_USD or not amount else f"{amount:.6f}"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
