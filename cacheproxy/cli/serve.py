"""``cacheproxy serve``: the proxy itself."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cacheproxy import __version__
from cacheproxy.address import Address
from cacheproxy.cli.common import ConfigOption, DataDirOption, StoreOption, say, settings_from
from cacheproxy.config import calm_threads, load
from cacheproxy.logs import set_up_log
from cacheproxy.settings import Policy

if TYPE_CHECKING:
    from cacheproxy.settings import Settings
    from cacheproxy.workers.serving import Serving


def serve(
    *,
    listen: Annotated[
        str | None, typer.Option(help="Where callers connect.", metavar="HOST:PORT", show_default="127.0.0.1:8090")
    ] = None,
    admin_listen: Annotated[
        str | None,
        typer.Option(help="Where metrics and administration are.", metavar="HOST:PORT", show_default="127.0.0.1:8091"),
    ] = None,
    upstream_url: Annotated[
        str | None,
        typer.Option(help="Base URL, with /v1, of the LLM API.", metavar="URL", show_default="the providers' own"),
    ] = None,
    data_dir: DataDirOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    mode: Annotated[
        str | None, typer.Option(help="semantic, exact, shadow or off.", metavar="MODE", show_default="semantic")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="certified, threshold or vcache.", metavar="POLICY", show_default="certified")
    ] = None,
    max_wrong_per_hit: Annotated[
        float | None,
        typer.Option(help="The share of similar hits that may be wrong.", metavar="0..0.5", show_default="0.01"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="With the policy threshold: the least similarity that is served.", metavar="0..1", show_default="0.95"
        ),
    ] = None,
    embedding_model: Annotated[
        str | None,
        typer.Option(
            help="The model that compares questions.",
            metavar="NAME",
            show_default="sentence-transformers/all-MiniLM-L6-v2",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, mps ...", metavar="NAME", show_default="auto")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve.", metavar="N", show_default="1")] = None,
    allow_open: Annotated[
        bool | None, typer.Option("--allow-open", help="Accept that anyone who connects spends a key of yours.")
    ] = None,
) -> None:
    """Run the proxy until it is interrupted."""
    flags: dict[str, Any] = {
        "listen": listen,
        "admin_listen": admin_listen,
        "upstream_url": upstream_url,
        "data_dir": data_dir,
        "store": store,
        "config": config,
        "mode": mode,
        "policy": policy,
        "max_wrong_per_hit": max_wrong_per_hit,
        "threshold": threshold,
        "embedding_model": embedding_model,
        "device": device,
        "workers": workers,
        "allow_open": allow_open,
    }
    loaded = settings_from(flags)
    calm_threads()
    _serve(loaded.settings, flags)


def _serve(settings: "Settings", flags: dict[str, Any]) -> None:
    from cacheproxy.workers.serving import Operator  # noqa: PLC0415 - what serves is heavy, and --help needs none of it

    several = settings.workers > 1

    def log_as(settings: "Settings") -> None:
        set_up_log(settings.log, process="supervisor" if several else "")

    log_as(settings)
    operator = Operator(
        read=lambda: load(flags=flags).settings, on_settings=log_as, on_ready=lambda serving: say(banner(serving))
    )
    if several:
        from cacheproxy.workers.supervisor import supervise  # noqa: PLC0415 - only where there are several processes

        supervise(settings, operator)
    else:
        from cacheproxy.workers.alone import serve_alone  # noqa: PLC0415 - likewise

        serve_alone(settings, operator)


def banner(running: "Serving") -> str:
    """What a proxy that has just started is, and a line to paste."""
    settings = running.settings
    rows = {
        "data plane": f"http://{running.data}/v1",
        "admin plane": f"http://{running.admin}",
        "dashboard": f"http://{running.admin}/",
        "upstream": running.upstream_url,
        "store": running.store,
        "model": running.model or f"none, exact only: {running.no_model}",
        "policy": f"mode {settings.mode}, {_promise(settings)}",
    }
    if settings.workers > 1:
        rows["workers"] = str(settings.workers)
    described = "\n".join(f"  {name:<12} {value}" for name, value in rows.items())
    return f"""cacheproxy {__version__} serves

{described}

  export OPENAI_BASE_URL=http://{running.data}/v1 ANTHROPIC_BASE_URL=http://{running.data}
  {_example(running.data)}
"""


def _promise(settings: "Settings") -> str:
    match settings.policy:
        case Policy.CERTIFIED:
            return f"certified: at most {settings.max_wrong_per_hit * 100:g}% of similar hits wrong"
        case Policy.THRESHOLD:
            return f"threshold {settings.threshold:g}"
        case Policy.VCACHE:
            return f"vcache, delta {settings.max_wrong_per_hit:g}"


def _example(address: Address) -> str:
    body = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is a cache?"}]}'
    return (
        f"curl -i http://{address}/v1/chat/completions -H 'content-type: application/json' "
        f"-H \"authorization: Bearer $OPENAI_API_KEY\" -d '{body}'"
    )
