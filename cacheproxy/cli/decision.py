"""``cacheproxy evaluate`` and ``cacheproxy calibrate``: the hit decision off line, and what verdicts prove about it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

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
    settings_from,
)
from cacheproxy.errors import BadRequest
from cacheproxy.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy import float32
    from numpy.typing import NDArray
    from rich.console import RenderableType
    from rich.progress import Progress

    from cacheproxy.core.features import Features
    from cacheproxy.core.labels import Label
    from cacheproxy.core.likelihood import Likelihood
    from cacheproxy.lab.corpus import Compare
    from cacheproxy.lab.evaluate import Arm
    from cacheproxy.lab.offline import Rules

_PAGE_WIDTH = 180


class PolicyName(StrEnum):
    """What can be evaluated."""

    CERTIFIED = "certified"
    THRESHOLD = "threshold"
    VCACHE = "vcache"


ModelOption = Annotated[
    str | None, typer.Option("--embedding-model", help="The model that compares questions.", show_default="as set")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Write plots there, as PNG and as one HTML page.", metavar="DIR")
]
PriorOption = Annotated[
    Path | None,
    typer.Option("--prior", help="What calibrate --train wrote.", metavar="FILE", show_default="the one that ships"),
]


def evaluate(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines of pairs (a, b, same), classes (class, questions) or questions (text, class).",
            metavar="FILE",
        ),
    ],
    *,
    policy: Annotated[
        list[PolicyName] | None, typer.Option(help="Only this policy; may be repeated.", show_default="all")
    ] = None,
    budget: Annotated[
        list[float] | None,
        typer.Option(
            help="Wrong per hit that certified may have, and delta of vcache; may be repeated.",
            min=0.0001,
            max=0.5,
            show_default="0.01",
        ),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Similarity of the threshold policy; may be repeated.", min=0, max=1, show_default="0.95"),
    ] = None,
    requests: Annotated[int, typer.Option(help="Requests of a stream drawn from classes.", min=10)] = 6_000,
    orderings: Annotated[int, typer.Option(help="Streams, each drawn anew.", min=1)] = 3,
    judge_error: Annotated[float, typer.Option(help="Share of verdicts that are wrong.", min=0, max=0.5)] = 0.0,
    answer_usd: Annotated[float, typer.Option(help="What an answer costs.", min=0)] = 0.00375,
    judge_usd: Annotated[float, typer.Option(help="What a judgement costs.", min=0)] = 0.000138,
    cold: Annotated[bool, typer.Option("--cold", help="Start without a prior.")] = False,
    seed: Annotated[int, typer.Option(help="Which streams are drawn.", min=0)] = 0,
    prior: PriorOption = None,
    embedding_model: ModelOption = None,
    out: OutOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Try policies off line on labelled questions: how often they hit, how often they are wrong, what is saved."""
    from cacheproxy.lab import evaluation, plots  # noqa: PLC0415 - only this command needs them
    from cacheproxy.lab.corpus import corpus_of  # noqa: PLC0415
    from cacheproxy.lab.evaluate import over_pairs, over_streams  # noqa: PLC0415
    from cacheproxy.lab.labelled import read_labelled, texts_of  # noqa: PLC0415
    from cacheproxy.lab.offline import Rules  # noqa: PLC0415
    from cacheproxy.lab.streams import Domain  # noqa: PLC0415
    from cacheproxy.lab.tally import Prices  # noqa: PLC0415

    settings = settings_from({"config": config, "embedding_model": embedding_model}).settings
    labelled = read_labelled(file)
    if out is not None:
        plots.require()
    prices = Prices(answer_usd, judge_usd)
    texts = texts_of(labelled)
    with evaluation.progress_bar(console(stderr=True)) as bar, _models(settings, texts, bar) as read:
        known = _prior(prior, read.model, settings.decision.verifier, cold=cold)
        rules = Rules(judge_error=judge_error, verify=read.compare is not None)
        arms = _arms(policy, budget, threshold, known, rules)
        corpus = corpus_of(texts, read.vectors, read.compare)
        if isinstance(labelled, Domain):
            step = _stepper(bar, arms, requests * orderings)
            tallies = over_streams(
                arms, labelled, corpus, requests=requests, orderings=orderings, seed=seed, on_progress=step
            )
            table = evaluation.render_streams(tallies, prices)
        else:
            step = _stepper(bar, arms, len(labelled))
            tallies = over_pairs(arms, labelled, corpus, seed=seed, on_progress=step)
            table = evaluation.render_pairs(tallies)
    report: dict[str, Any] = {
        "file": str(file),
        "embedding_model": read.model,
        "prices_usd": prices._asdict(),
        "arms": [tally.to_json(prices) for tally in tallies],
    }
    if out is not None:
        report["written"] = _plotted(out, f"cacheproxy evaluate {file.name}", table, plots.figures(tallies))
    _tell(report, table, json=json)


def calibrate(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="JSON lines of labels, in place of the store's own; with --train also of what evaluate reads.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    *,
    train: Annotated[bool, typer.Option("--train", help="Fit a prior on them instead.")] = False,
    pool: Annotated[str, typer.Option(help="Whose labels, without a FILE.")] = "default",
    write: Annotated[
        Path | None,
        typer.Option(
            help="With --train: where the prior goes.", metavar="FILE", show_default="prior.json in --data-dir"
        ),
    ] = None,
    budget: Annotated[float, typer.Option(help="Wrong per hit that is allowed.", min=0.0001, max=0.5)] = 0.01,
    requests: Annotated[int, typer.Option(help="With --train: requests drawn from classes.", min=10)] = 6_000,
    seed: Annotated[int, typer.Option(help="With --train: which.", min=0)] = 0,
    prior: PriorOption = None,
    embedding_model: ModelOption = None,
    out: OutOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Report what recorded verdicts prove: thresholds for each budget, their bounds, how honest the chances are."""
    flags = {"config": config, "embedding_model": embedding_model, "data_dir": data_dir, "store": store}
    settings = settings_from(flags).settings
    if train:
        if file is None:
            model, verdicts = settings.embedding_model, _verdicts_of(_stored(settings, pool)[0])
        else:
            model, verdicts = _verdicts(file, settings, requests=requests, seed=seed)
        name = f"pool {pool}" if file is None else file.name
        verifier = settings.decision.verifier
        _train(name, model, verdicts, write or settings.prior, verifier=verifier, json=json)
        return
    from cacheproxy.lab import evaluation, plots  # noqa: PLC0415 - only this command needs them
    from cacheproxy.lab.calibration import certificate_of  # noqa: PLC0415
    from cacheproxy.lab.label_file import read_labels  # noqa: PLC0415

    if out is not None:
        plots.require()
    labels, ever = _stored(settings, pool) if file is None else (_known(read_labels(file), settings), None)
    known = _prior(prior, settings.embedding_model, settings.decision.verifier, cold=False)
    found = certificate_of(labels, budget=budget, prior=known, guards_final=settings.guards.final, ever=ever)
    table = evaluation.render_certificate(found)
    report = found.to_json()
    if out is not None:
        drawn = {"reliability": plots.reliability_figure({"labels": found.reliability})}
        report["written"] = _plotted(out, "cacheproxy calibrate", table, drawn)
    _tell(report, table, json=json)


def _stored(settings: Settings, pool: str) -> "tuple[Sequence[Label], int]":
    """The labels that the proxy recorded for a pool, and how many there have been, kept or not."""
    from cacheproxy import opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them
    from cacheproxy.core.judge_noise import PAIRS  # noqa: PLC0415
    from cacheproxy.core.labels import LABELS_KEPT  # noqa: PLC0415

    async def read() -> "tuple[Sequence[Label], int, Sequence[str]]":
        async with opening.open_books(existing(settings)) as (_, labels):
            return await labels.recent(pool, LABELS_KEPT), await labels.total(pool), await labels.pools()

    found, ever, kept = asyncio.run(read())
    if not found:
        pools = [name for name in kept if name != PAIRS]
        known = f"these have some: {', '.join(pools)}" if pools else "no pool has any; `mode: shadow` gathers them"
        raise BadRequest(f"pool {pool} has no labels; {known}")
    return _known(found, settings), ever


def _known(labels: "Sequence[Label]", settings: Settings) -> "list[Label]":
    """The labels without what other verifiers said than the one that is set."""
    from cacheproxy.core.features import verifier_number  # noqa: PLC0415 - numpy takes its time
    from cacheproxy.core.prior import NO_VERIFIER  # noqa: PLC0415

    name = settings.decision.verifier
    return [label.known_to(0.0 if name == NO_VERIFIER else verifier_number(name)) for label in labels]


def _verdicts_of(labels: "Sequence[Label]") -> "list[tuple[Features, bool]]":
    return [(label.features, label.right) for label in labels]


def _train(
    name: str, model: str, verdicts: "Sequence[tuple[Features, bool]]", write: Path, *, verifier: str, json: bool
) -> None:
    from cacheproxy.core.prior import TrainedOn, dump_prior, train  # noqa: PLC0415 - only this command needs them

    wrong = sum(not right for _, right in verdicts)
    if not 0 < wrong < len(verdicts):
        raise BadRequest(f"{name} leads to {len(verdicts)} verdicts, {wrong} of them wrong; both kinds are needed.")
    trained_on = TrainedOn(name, len(verdicts), wrong)
    write.parent.mkdir(parents=True, exist_ok=True)
    prior = dump_prior(train(verdicts), embedding_model=model, trained_on=[trained_on], verifier=verifier)
    write.write_text(prior, "utf-8")
    if json:
        print_json({"written": str(write), "embedding_model": model, "labels": len(verdicts), "wrong": wrong})
    else:
        say(f"fitted on {len(verdicts):,} verdicts, {wrong:,} of them wrong; for {model}: {write}")


def _verdicts(file: Path, settings: Settings, *, requests: int, seed: int) -> tuple[str, "list[tuple[Features, bool]]"]:
    """The embedding model, and what the file teaches: labels as they are, pairs and classes by trying them."""
    from cacheproxy.lab import evaluation  # noqa: PLC0415 - only this command needs them
    from cacheproxy.lab.corpus import Profiles  # noqa: PLC0415
    from cacheproxy.lab.label_file import are_labels, read_labels  # noqa: PLC0415
    from cacheproxy.lab.labelled import read_labelled, texts_of  # noqa: PLC0415
    from cacheproxy.lab.streams import Domain  # noqa: PLC0415
    from cacheproxy.lab.training import verdicts_on_pairs, verdicts_on_stream  # noqa: PLC0415

    if are_labels(file):
        return settings.embedding_model, _verdicts_of(_known(read_labels(file), settings))
    labelled = read_labelled(file)
    texts = texts_of(labelled)
    with evaluation.progress_bar(console(stderr=True)) as bar, _models(settings, texts, bar) as read:
        if not isinstance(labelled, Domain):
            return read.model, verdicts_on_pairs(labelled, Profiles(texts), read.vectors, read.compare)
        task = bar.add_task("stream", total=requests)
        return read.model, verdicts_on_stream(
            labelled,
            read.vectors,
            requests=requests,
            seed=seed,
            compare=read.compare,
            on_progress=lambda _: bar.advance(task),
        )


class _Read(NamedTuple):
    """What models say of texts."""

    model: str
    vectors: "NDArray[float32]"
    compare: "Compare | None"
    """The verifier that is set, by the texts' places; asked while the models are open."""


@contextmanager
def _models(settings: Settings, texts: Sequence[str], bar: "Progress") -> Iterator[_Read]:
    """The texts read by the embedding model, and the verifier, for as long as the block lasts."""
    from cacheproxy import opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them
    from cacheproxy.lab.corpus import comparing, embed_all  # noqa: PLC0415

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            embedder = runner.run(stack.enter_async_context(opening.open_embedder(settings)))
            verifier = runner.run(stack.enter_async_context(opening.open_verifier(settings, embedder)))
            task = bar.add_task("embedding", total=len(texts))
            vectors = runner.run(embed_all(embedder, texts, lambda count: bar.advance(task, count)))
            yield _Read(embedder.model, vectors, None if verifier is None else comparing(verifier, texts, runner.run))
        finally:
            runner.run(stack.aclose())


def _prior(file: Path | None, model: str, verifier: str, *, cold: bool) -> "Likelihood | None":
    from cacheproxy.core.prior import load_prior, shipped_prior  # noqa: PLC0415 - numpy and scipy take their time

    if cold:
        if file is not None:
            raise Misuse("--cold starts without a prior, --prior names one")
        return None
    if file is None:
        return shipped_prior(embedding_model=model)
    return load_prior(file.read_text("utf-8"), embedding_model=model, verifier=verifier)


def _arms(
    policies: Sequence[PolicyName] | None,
    budgets: Sequence[float] | None,
    thresholds: Sequence[float] | None,
    prior: "Likelihood | None",
    rules: "Rules",
) -> "list[Arm]":
    from cacheproxy.lab.evaluate import certified, threshold, vcache  # noqa: PLC0415 - only evaluate needs them

    arms: list[Arm] = []
    for policy in policies or list(PolicyName):
        match policy:
            case PolicyName.CERTIFIED:
                arms += [certified(each, prior, rules=rules) for each in budgets or [0.01]]
            case PolicyName.THRESHOLD:
                arms += [threshold(each) for each in thresholds or [0.95]]
            case PolicyName.VCACHE:
                arms += [vcache(each, rules) for each in budgets or [0.01]]
    return arms


def _stepper(bar: "Progress", arms: "Sequence[Arm]", total: int) -> Callable[[str, int], None]:
    tasks = {arm.name: bar.add_task(arm.name, total=total) for arm in arms}
    return lambda name, _: bar.advance(tasks[name])


def _plotted(out: Path, title: str, table: "RenderableType", drawn: "dict[str, Figure]") -> list[str]:
    from rich.console import Console  # noqa: PLC0415 - only with --out

    from cacheproxy.lab import plots  # noqa: PLC0415

    paper = StringIO()
    Console(file=paper, width=_PAGE_WIDTH).print(table)
    return [str(path) for path in plots.write(out, title, paper.getvalue(), drawn)]


def _tell(report: dict[str, Any], table: "RenderableType", *, json: bool) -> None:
    if json:
        print_json(report)
        return
    console().print(table)
    for path in report.get("written", ()):
        say(f"wrote {path}")
