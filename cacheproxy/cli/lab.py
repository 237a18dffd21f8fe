"""``cacheproxy simulate`` and ``cacheproxy replay``: an upstream without an LLM, and questions to send through."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cacheproxy.cli.common import JsonOption, Misuse, address_from, console, print_json, say
from cacheproxy.config import secret_in
from cacheproxy.errors import ConfigError, ProxyError


def simulate(
    *,
    listen: Annotated[
        str, typer.Option(help="Where to listen; port 0 takes a free one.", metavar="HOST:PORT")
    ] = "127.0.0.1:8099",
    delay_ms: Annotated[float, typer.Option(help="Time to the first token.", min=0)] = 0.0,
    tokens_per_s: Annotated[float, typer.Option(help="Speed of the others; 0 is at once.", min=0)] = 0.0,
    questions: Annotated[
        Path | None,
        typer.Option(help="JSON lines of questions with their classes, which its answers will name.", metavar="FILE"),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="The same file, but its answers are worded anew for each question and call; a class keeps its facts.",
            metavar="FILE",
        ),
    ] = None,
    error_rate: Annotated[float, typer.Option(help="Share of requests answered with 500.", min=0, max=1)] = 0.0,
    rate_limit_rate: Annotated[float, typer.Option(help="Share answered with 429.", min=0, max=1)] = 0.0,
    reset_rate: Annotated[float, typer.Option(help="Share cut off in the middle.", min=0, max=1)] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Repeats the failures, and the words of --answers.")] = None,
) -> None:
    """Run a simulated LLM with OpenAI's and Anthropic's APIs until it is interrupted."""
    address = address_from(listen)
    from cacheproxy.lab.questions import classes_of, read_questions  # noqa: PLC0415 - only this command needs it
    from cacheproxy.lab.simulate import SimulateOptions, run_simulate  # noqa: PLC0415 - only this command needs it
    from cacheproxy.upstream.simulated import knowledge_of  # noqa: PLC0415 - only this command needs it

    if questions is not None and answers is not None:
        raise Misuse("--questions and --answers are two ways to answer: give one of them")

    def classes(file: Path) -> dict[str, str]:
        return knowledge_of(classes_of(read_questions(file)))

    options = SimulateOptions(
        host=address.host,
        port=address.port,
        delay_ms=delay_ms,
        tokens_per_s=tokens_per_s,
        error_rate=error_rate,
        rate_limit_rate=rate_limit_rate,
        reset_rate=reset_rate,
        seed=seed,
        knowledge={} if questions is None else classes(questions),
        answers=None if answers is None else classes(answers),
    )
    asyncio.run(run_simulate(options, started=lambda url: say(f"simulated LLM on {url}")))


def replay(
    file: Annotated[Path, typer.Argument(help="JSON lines with text, and class and at if known.", metavar="FILE")],
    *,
    proxy: Annotated[str, typer.Option(help="The proxy's base URL.", metavar="URL")] = "http://127.0.0.1:8090/v1",
    model: Annotated[str, typer.Option(help="The model to ask for.", metavar="NAME")] = "gpt-4o-mini",
    api_key_env: Annotated[
        str | None,
        typer.Option(
            help="The variable with the API key to send.", metavar="VARIABLE", show_default="none: a made-up key"
        ),
    ] = None,
    system: Annotated[str, typer.Option(help="A system prompt in front of every question.", metavar="TEXT")] = "",
    concurrency: Annotated[int, typer.Option(help="Requests under way at a time.", min=1)] = 8,
    speed: Annotated[
        float | None, typer.Option(help="Send at the recorded times instead, this many times faster.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many questions.", min=1)] = None,
    requests: Annotated[
        int | None, typer.Option(help="Draw so many questions, some again and again, instead of each once.", min=1)
    ] = None,
    zipf: Annotated[
        float, typer.Option(help="With --requests: 0 draws all equally often, 1 very unequally.", min=0)
    ] = 0.9,
    seed: Annotated[int, typer.Option(help="With --requests: which questions are drawn.", min=0)] = 1,
    json: JsonOption = False,
) -> None:
    """Send questions through a proxy, and report hits, wrong hits, savings and latencies."""
    from cacheproxy.lab.questions import draw, read_questions  # noqa: PLC0415 - only this command needs it
    from cacheproxy.lab.replay import ReplayOptions  # noqa: PLC0415 - only this command needs it
    from cacheproxy.lab.replay import replay as send  # noqa: PLC0415 - only this command needs it
    from cacheproxy.lab.report import progress_bar, render  # noqa: PLC0415 - only this command needs it

    if requests is not None and speed is not None:
        raise Misuse("--speed needs recorded times, which questions drawn by --requests do not have")
    questions = read_questions(file)[:limit]
    if requests is not None:
        questions = draw(questions, requests, zipf=zipf, seed=seed)
    options = ReplayOptions(proxy_url=proxy, model=model, system=system, concurrency=concurrency, speed=speed)
    if api_key_env is not None:
        options = replace(options, api_key=_key(api_key_env))
    with progress_bar(console(stderr=True), total=len(questions)) as show:
        report = asyncio.run(send(questions, options, progress=show))
    if json:
        print_json(report.to_json())
    else:
        console().print(render(report))
    if report.failed == report.requests:
        reason = next(iter(report.errors), "unknown")
        raise ProxyError(f"every request failed ({reason}): is a proxy at {proxy}?")


def _key(variable: str) -> str:
    try:
        return secret_in(variable)
    except ConfigError as error:
        raise Misuse(f"--api-key-env: {error.message}") from None
