"""The command line as a whole: which commands there are, and how each ends.

Exit status 0, 1 when it failed, 2 when it was used wrongly. A failure is one line on standard error that says what
to do; a traceback is a fault of this program.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

from cacheproxy import __version__
from cacheproxy.cli import api, backend, cache, cache_entry, config, decision, distill, keys, lab, moving, serve, stats
from cacheproxy.cli.common import say
from cacheproxy.errors import ProxyError

_FAILED: Final = 1


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    if wanted:
        say(f"cacheproxy {__version__}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A drop-in reverse proxy that answers repeated and similar LLM requests from a cache.",
    epilog="Example: cacheproxy serve --listen 127.0.0.1:8090",
)
app.command(epilog="Example: cacheproxy serve --upstream-url http://127.0.0.1:8000/v1 --threshold .97")(serve.serve)
app.command(epilog="Example: cacheproxy simulate --listen 127.0.0.1:8099 --delay-ms 300")(lab.simulate)
app.command(epilog="Example: cacheproxy replay questions.jsonl --proxy http://127.0.0.1:8090/v1")(lab.replay)
app.command(epilog="Example: cacheproxy evaluate questions.jsonl --budget 0.01 --out report")(decision.evaluate)
app.command(epilog="Example: cacheproxy calibrate --train questions.jsonl")(decision.calibrate)
app.command(epilog="Example: cacheproxy backend ./my-model --quantize int8 --listen 127.0.0.1:8100")(backend.backend)
app.command(epilog="Example: cacheproxy stats --by model,day --since 7d")(stats.stats)
app.command(epilog="Example: cacheproxy api '/requests?limit=5'")(api.api)
cache.app.add_typer(cache_entry.app)
cache.app.command("export", epilog="Example: cacheproxy cache export everything.jsonl")(moving.export_file)
cache.app.command("import", epilog="Example: cacheproxy cache import everything.jsonl")(moving.import_file)
cache.app.command("move", epilog="Example: cacheproxy cache move --to redis://127.0.0.1:6379")(moving.move)
app.add_typer(cache.app, name="cache")
app.add_typer(keys.app, name="keys")
app.add_typer(config.app, name="config")
app.add_typer(distill.app, name="distill")


@app.callback()
def _root(
    *, _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False
) -> None:
    """Options that stand before a command."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit status."""
    try:
        status = app(list(arguments), prog_name="cacheproxy", standalone_mode=False)
    except TyperException as error:
        if not error.format_message():
            return error.exit_code  # for want of a command the help was shown, which says it all
        return _fail(error.format_message() + _hint(error), error.exit_code)
    except typer.Abort:
        return _fail("cancelled", _FAILED)
    except (ProxyError, OSError) as error:
        return _fail(str(error), _FAILED)
    return status if isinstance(status, int) else 0


def main() -> None:
    """The entry point of the installed command."""
    sys.exit(run(sys.argv[1:]))


def _hint(error: TyperException) -> str:
    """Where the usage is explained, for mistakes that the command line's own parser found."""
    context = getattr(error, "ctx", None)
    return "" if context is None else f" (see `{context.command_path} --help`)"


def _fail(message: str, status: int) -> int:
    typer.echo("cacheproxy: " + " ".join(message.split()), err=True)
    return status
