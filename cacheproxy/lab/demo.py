"""``make demo``: real questions through the proxy in front of a simulated LLM, and what came of it.

    python -m cacheproxy.lab.demo [--keep] [--requests N] [--zipf S] [--seed N]

The simulated LLM and the proxy are processes of their own, started as a user would start them and ended by their own
ids, however the demo ends. What they keep goes into a new temporary folder, which is removed. Nothing but loopback is
used. The ports are the documented ones where they are free.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.panel import Panel

from cacheproxy.errors import ProxyError
from cacheproxy.jsontext import dump
from cacheproxy.lab.questions import SAMPLE, draw, read_questions
from cacheproxy.lab.replay import ReplayOptions, replay
from cacheproxy.lab.report import progress_bar, render

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Sequence

    from cacheproxy.lab.outcomes import ReplayReport

DATA_PORT: Final = 8090
ADMIN_PORT: Final = 8091
UPSTREAM_PORT: Final = 8099
_HOST: Final = "127.0.0.1"
_END_S: Final = 10.0
_EMBEDDER_MS: Final = 2_000
_LOG_LINES: Final = 15
_INTERRUPTED: Final = 130
_PLAIN_WIDTH: Final = 100
_TRY: Final = "Can you tell me how to cancel a transfer?"
"""No question of the sample, but near to one that is asked often."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo sends, and how fast the simulated LLM is."""

    requests: int = 1_500
    zipf: float = 0.6
    """How unequally often questions come, see ``questions.draw``."""
    seed: int = 1
    keep: bool = False
    """Leave proxy and simulated LLM running until Ctrl-C."""
    budget: float = 0.03
    """The share of hits on similar questions that may be wrong. Looser than the proxy's default, which a thousand
    questions could not show to be kept."""
    concurrency: int = 16
    delay_ms: float = 250.0
    """Until the first token, like a fast hosted model."""
    tokens_per_s: float = 120.0
    data_port: int = DATA_PORT
    admin_port: int = ADMIN_PORT
    upstream_port: int = UPSTREAM_PORT


async def demo(options: DemoOptions, console: Console) -> ReplayReport:
    """Run the demo; with ``keep`` until it is cancelled or the proxy ends. Raises ``ProxyError``."""
    sample = read_questions(SAMPLE)
    questions = draw(sample, options.requests, zipf=options.zipf, seed=options.seed)
    console.print(
        Panel.fit(
            "SIMULATED UPSTREAM: no LLM is asked. Answers are made up on this machine,\n"
            f"{options.delay_ms:.0f} ms to the first token and {options.tokens_per_s:.0f} tokens/s after it; "
            "prices are those of gpt-4o-mini.",
            style="bold yellow",
        )
    )
    with tempfile.TemporaryDirectory(prefix="cacheproxy-demo-") as folder:
        data_dir = Path(folder)
        console.print("starting the simulated LLM and the proxy (the embedding model takes some seconds) ...")
        async with _simulated(options, data_dir) as upstream_url, _proxy(options, upstream_url, data_dir) as running:
            console.print(f"proxy on {running.url}, in front of {upstream_url}")
            console.print(f"dashboard on {await _announced(running.process, 'admin plane ', running.log_file)}/")
            console.print(f"promised: at most {options.budget:.0%} of the hits on similar questions are wrong")
            console.print(f"{len(questions):,} questions of bank customers, {options.concurrency} at a time:")
            with progress_bar(console, total=len(questions)) as show:
                replay_options = ReplayOptions(proxy_url=running.url, concurrency=options.concurrency)
                report = await replay(questions, replay_options, progress=show)
            console.print(render(report))
            console.print(_NOTE)
            if report.failed == report.requests:
                raise ProxyError(f"every request failed: {', '.join(report.errors)}\n{running.log()}")
            if options.keep:
                console.print(_kept(running.url, data_dir), soft_wrap=True, markup=False, highlight=False)
                await running.process.wait()
    return report


_NOTE: Final = """\
The upstream was simulated, and how often questions came again was drawn (Zipf). A wrong hit was
given to a question of another BANKING77 intent than its own; having one intent is a proxy for
having one answer."""


def curl_line(url: str, question: str, *, api_key: str) -> str:
    """A shell command that asks the proxy one question."""
    body = dump({"model": ReplayOptions().model, "messages": [{"role": "user", "content": question}]}).decode()
    return (
        f"curl -i {url}/chat/completions -H 'content-type: application/json' "
        f"-H 'authorization: Bearer {api_key}' -d '{body}'"
    )


def free_port(port: int) -> int:
    """The port if it can be listened on, else 0, which stands for any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return 0
    return port


@dataclass(frozen=True, slots=True)
class _Running:
    """A process of ours that is ready. ``url`` is what it said to listen on."""

    process: Process
    url: str
    log_file: Path

    def log(self) -> str:
        """The last lines of what it wrote to standard error."""
        return _last_lines(self.log_file)


@asynccontextmanager
async def _simulated(options: DemoOptions, folder: Path) -> AsyncIterator[str]:
    arguments = [
        "simulate",
        f"--listen={_HOST}:{free_port(options.upstream_port)}",
        f"--delay-ms={options.delay_ms}",
        f"--tokens-per-s={options.tokens_per_s}",
        f"--answers={SAMPLE}",
    ]
    async with _started(arguments, says="simulated LLM on ", log_file=folder / "simulate.log") as running:
        yield running.url


@asynccontextmanager
async def _proxy(options: DemoOptions, upstream_url: str, folder: Path) -> AsyncIterator[_Running]:
    settings = folder / "cacheproxy.yaml"
    # Named, so that no settings file of the user's is read. The patience is for machines that have other work to do.
    settings.write_text(f"max_wrong_per_hit: {options.budget}\ndeadlines: {{embedder_ms: {_EMBEDDER_MS}}}\n")
    arguments = [
        "serve",
        f"--config={settings}",
        f"--listen={_HOST}:{free_port(options.data_port)}",
        f"--admin-listen={_HOST}:{free_port(options.admin_port)}",
        f"--upstream-url={upstream_url}",
        f"--data-dir={folder}",
        f"--store=sqlite:///{folder / 'cacheproxy.sqlite3'}",
    ]
    async with _started(arguments, says="data plane ", log_file=folder / "serve.log") as running:
        yield running


@asynccontextmanager
async def _started(arguments: Sequence[str], *, says: str, log_file: Path) -> AsyncIterator[_Running]:
    """One of our commands in a process of its own, once it says where it listens; ended when the block is left."""
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cacheproxy", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        yield _Running(process, await _announced(process, says, log_file), log_file)
    finally:
        await _end(process)


async def _announced(process: Process, says: str, log_file: Path) -> str:
    """The address, the last word of the line that holds ``says``."""
    assert process.stdout is not None  # noqa: S101 - it was asked for as a pipe
    async for line in process.stdout:
        if says in (text := line.decode()):
            return text.split()[-1]
    raise ProxyError(f"{says.strip()} did not start:\n{_last_lines(log_file)}")


async def _end(process: Process) -> None:
    """Ask the process to end, and make it if it does not."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _last_lines(log_file: Path) -> str:
    return "\n".join(log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def _kept(url: str, data_dir: Path) -> str:
    return (
        f"\nProxy and simulated LLM stay up until Ctrl-C. Ask something similar to what was asked:\n\n"
        f"  {curl_line(url, _TRY, api_key=ReplayOptions().api_key)}\n\n"
        f"What it booked: .venv/bin/cacheproxy stats --data-dir {data_dir}\n"
    )


def _options(arguments: Sequence[str] | None) -> DemoOptions:
    usual = DemoOptions()
    parser = argparse.ArgumentParser(prog="python -m cacheproxy.lab.demo", description="Show the cache at work.")
    parser.add_argument("--keep", action="store_true", help="leave proxy and simulated LLM running until Ctrl-C")
    parser.add_argument("--requests", type=int, default=usual.requests, help="how many questions are sent")
    parser.add_argument("--zipf", type=float, default=usual.zipf, help="0: all equally often; 1: very unequally")
    parser.add_argument("--seed", type=int, default=usual.seed, help="which questions are drawn")
    return DemoOptions(**vars(parser.parse_args(arguments)))


async def _until_stopped(options: DemoOptions, console: Console) -> None:
    """The demo, ended by SIGTERM and by a terminal that goes away as by Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs is in a task
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await demo(options, console)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo on a terminal; the exit status."""
    options = _options(arguments)
    console = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)
    try:
        asyncio.run(_until_stopped(options, console))
    except ProxyError as error:
        console.print(f"demo: {error}", style="bold red", markup=False)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0 if options.keep else _INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
