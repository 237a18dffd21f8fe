"""``cacheproxy distill``: from the cache's answers to a small model that gives them itself."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cacheproxy.cli.common import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    Misuse,
    StoreOption,
    console,
    existing,
    one_of,
    print_json,
    say,
    seconds,
    settings_from,
    wall_clock,
)
from cacheproxy.config import calm_threads
from cacheproxy.model import Selection

app = typer.Typer(no_args_is_help=True, help="Train a small model on the cache's answers.")


@app.command("export", epilog="Example: cacheproxy distill export lessons.jsonl --min-hits 2 --older-than 1d")
def export_lessons(
    file: Annotated[Path, typer.Argument(help="Where to write chats as JSON lines.", metavar="FILE")],
    *,
    scope: Annotated[str, typer.Option(help="Hexadecimal digits at the start of the scope.", metavar="HEX")] = "",
    namespace: Annotated[str | None, typer.Option(help="Entries of this namespace.")] = None,
    min_hits: Annotated[int, typer.Option(help="Answers that were served at least so often.", min=0)] = 0,
    older_than: Annotated[
        str | None, typer.Option(help="Stored longer ago than this: time enough to be called wrong.", metavar="AGE")
    ] = None,
    newer_than: Annotated[str | None, typer.Option(help="Stored no longer ago than this.", metavar="AGE")] = None,
    min_scope: Annotated[
        int, typer.Option(help="Leave out scopes with fewer questions: histories of conversations.", min=1)
    ] = 2,
    system: Annotated[
        str, typer.Option(help="The system prompt that these requests had; the cache knows its hash.", metavar="TEXT")
    ] = "",
    json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
) -> None:
    """Write cached questions and answers as chats, of tenants that agreed, without personal data."""
    now = wall_clock()
    settings = settings_from({"config": config, "data_dir": data_dir, "store": store}).settings
    tenants = frozenset(settings.distill.consenting_tenants)
    if not tenants:
        raise Misuse(
            "no tenant has agreed: name them in distill.consenting_tenants (see `cacheproxy stats --by tenant`)"
        )
    from cacheproxy import opening  # noqa: PLC0415 - the adapters are heavy, and --help needs none of them
    from cacheproxy.backend.distill_export import LessonRules, export  # noqa: PLC0415

    rules = LessonRules(
        tenants=tenants,
        selection=Selection(
            scope_prefix=scope,
            namespace=namespace,
            older_than=None if older_than is None else now - seconds(older_than),
            min_hits=min_hits,
        ),
        newer_than=0.0 if newer_than is None else now - seconds(newer_than),
        min_scope=min_scope,
        system=system,
    )

    async def run() -> None:
        async with opening.open_judged(existing(settings)) as (opened, labels):
            with file.open("wb") as out:
                done = await export(opened, labels, rules, out.write, now=now)
        if json:
            print_json({"lessons": done.lessons, "left_out": done.left_out})
            return
        say(f"{done.lessons} lessons in {file}")
        for why, count in done.left_out.most_common():
            say(f"  {count} left out: {why}")

    asyncio.run(run())


@app.command("train", epilog="Example: cacheproxy distill train lessons.jsonl ./small-model --out ./student --epochs 5")
def train_student(
    file: Annotated[Path, typer.Argument(help="Chats as JSON lines.", metavar="FILE", exists=True)],
    model: Annotated[str, typer.Argument(help="The student: a folder or hub name.", metavar="MODEL")],
    *,
    out: Annotated[Path, typer.Option(help="Where to keep what it became.", metavar="DIR")],
    method: Annotated[
        str, typer.Option(help="full, lora, or auto: full below 50 million parameters.", metavar="NAME")
    ] = "auto",
    epochs: Annotated[int, typer.Option(help="How often each lesson is seen.", min=1)] = 3,
    rate: Annotated[
        float | None, typer.Option(help="Highest learning rate.", min=0, show_default="1e-3 full, 2e-4 lora")
    ] = None,
    rank: Annotated[int, typer.Option(help="Rank of the adapter's matrices.", min=1)] = 16,
    batch_tokens: Annotated[int, typer.Option(help="Tokens in one step, padding included.", min=1)] = 4096,
    held_out: Annotated[float, typer.Option(help="Share of lessons kept for measuring.", min=0, max=0.9)] = 0.1,
    seed: Annotated[int, typer.Option(help="Makes a run repeatable.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...", metavar="NAME")] = "auto",
    json: JsonOption = False,
) -> None:
    """Teach a small model these answers; serve it with `cacheproxy backend DIR`."""
    calm_threads()
    from cacheproxy.backend.distill_train import Method, TrainOptions, train  # noqa: PLC0415 - see export
    from cacheproxy.backend.loading import ModelOptions  # noqa: PLC0415

    options = TrainOptions(
        model=ModelOptions(model, device),
        method=one_of(Method, "--method", method),
        epochs=epochs,
        batch_tokens=batch_tokens,
        rate=rate,
        rank=rank,
        held_out=held_out,
        seed=seed,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True)) as bar:
        task = bar.add_task("learning", total=None)
        report = train(
            options,
            file,
            out,
            lambda step, steps, loss: bar.update(task, completed=step, total=steps, description=f"loss {loss:.3f}"),
        )
    if json:
        print_json(report.to_json())
        return
    say(f"{report.learnt} lessons learnt ({report.method}), {report.held_out} held out; kept in {out}")
    say(f"  held-out loss      {report.before.loss:.3f} -> {report.after.loss:.3f}")
    say(f"  same answers       {report.before.agreement:.0%} -> {report.after.agreement:.0%}")
    say(f"  cacheproxy backend {out}")
