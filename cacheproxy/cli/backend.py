"""``cacheproxy backend``: a language model of one's own behind the APIs that everybody speaks."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from cacheproxy.cli.common import Misuse, address_from, one_of, print_json, say, wall_clock
from cacheproxy.config import calm_threads
from cacheproxy.log_settings import LogSettings
from cacheproxy.logs import set_up_log

if TYPE_CHECKING:
    from cacheproxy.backend.loading import ModelOptions
    from cacheproxy.backend.quality import Quality
    from cacheproxy.backend.running import Running

_CHECKED: Final = 64
"""Questions that a quantised model is checked with."""


def backend(
    model: Annotated[str, typer.Argument(help="A folder or hub name; a LoRA adapter's folder too.", metavar="MODEL")],
    *,
    listen: Annotated[
        str, typer.Option(help="Where to listen; port 0 takes a free one.", metavar="HOST:PORT")
    ] = "127.0.0.1:8100",
    name: Annotated[str, typer.Option(help="What requests call the model.", metavar="NAME", show_default="MODEL")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...", metavar="NAME")] = "auto",
    dtype: Annotated[
        str,
        typer.Option(help="auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.", metavar="NAME"),
    ] = "auto",
    quantize: Annotated[
        str, typer.Option(help="Keep the weights as int8 or int4.", metavar="int8|int4", show_default="none")
    ] = "none",
    assistant: Annotated[
        str, typer.Option(help="A smaller model that drafts for whoever is alone.", metavar="MODEL")
    ] = "",
    prompt_lookup: Annotated[
        int, typer.Option(help="Draft so many tokens from the prompt instead.", min=0, show_default="none")
    ] = 0,
    max_batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens computed in one step.", min=1, show_default="as the device allows")
    ] = None,
    max_running: Annotated[int, typer.Option(help="Answers generated at a time; GPUs do with more.", min=1)] = 32,
    max_waiting: Annotated[int, typer.Option(help="Answers that may wait; beyond it 503.", min=1)] = 256,
    kv_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens in the key-value cache.", min=1, show_default="as the device allows"),
    ] = None,
    graphs: Annotated[
        bool, typer.Option(help="Record a GPU's work and replay it: faster, and without logprobs.")
    ] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the quantised model with full precision, and end.")
    ] = False,
    embedding_model: Annotated[
        str, typer.Option(help="Serve this model under /v1/embeddings too.", metavar="NAME", show_default="none")
    ] = "",
) -> None:
    """Serve a local language model with OpenAI's and Anthropic's APIs until it is interrupted."""
    address = address_from(listen)
    set_up_log(LogSettings())
    calm_threads()
    from cacheproxy.backend.batched import BatchOptions  # noqa: PLC0415 - torch takes seconds, and --help needs none of it
    from cacheproxy.backend.loading import Dtype, ModelOptions, Quantize  # noqa: PLC0415
    from cacheproxy.backend.running import BackendOptions, run_backend  # noqa: PLC0415
    from cacheproxy.backend.speculative import Drafting  # noqa: PLC0415

    options = BackendOptions(
        model=ModelOptions(model, device, one_of(Dtype, "--dtype", dtype), one_of(Quantize, "--quantize", quantize)),
        listen=address,
        name=name,
        batch=BatchOptions(max_batch_tokens, max_running, max_waiting, kv_tokens, graphs),
        drafting=Drafting(assistant, prompt_lookup),
        embedding_model=embedding_model,
    )
    if check:
        print_json(_quality(options.model).to_json())
        return
    run_backend(options, now=wall_clock, on_ready=lambda running: say(banner(running)))


def _quality(options: "ModelOptions") -> "Quality":
    """On the bundled questions, the same for every model."""
    from cacheproxy.backend.loading import Quantize, prompts_of  # noqa: PLC0415 - see backend
    from cacheproxy.backend.quality import compare  # noqa: PLC0415
    from cacheproxy.lab.questions import SAMPLE, read_questions  # noqa: PLC0415

    if options.quantize is Quantize.NONE:
        raise Misuse("--check compares a quantised model: add --quantize int8 or int4")
    questions = [question.text for question in read_questions(SAMPLE)][:_CHECKED]
    return compare(options, lambda loaded: list(prompts_of(loaded, questions)))


def banner(running: "Running") -> str:
    """What a server that is warm is, and how a proxy is put in front of it."""
    return (
        f"{running.name} on {running.device} in {running.dtype}, "
        f"{running.weight_bytes / 2**20:.0f} MiB of weights, {running.context} tokens of context: {running.url}\n"
        f"  cacheproxy serve --upstream-url {running.url}"
    )
