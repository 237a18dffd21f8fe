"""Loading a causal language model: from a folder or the hub, onto a device, quantised if asked for.

What can be wrong with a model is found here and told in one sentence, before anything serves. A folder that holds
a LoRA adapter (``distill train`` makes such) is loaded onto the model that it names.
"""

from __future__ import annotations

import json
import logging
import warnings
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_ADAPTER: Final = "adapter_config.json"
_DEFAULT_CONTEXT: Final = 2048


class Quantize(StrEnum):
    """How the weights of the linear layers are kept. bitsandbytes does both, on GPUs and on CPUs."""

    NONE = "none"
    INT8 = "int8"
    """LLM.int8: 8-bit integers, outlying columns apart in half precision."""
    INT4 = "int4"
    """NF4: 4-bit normal floats in blocks."""


class Dtype(StrEnum):
    """What is computed in. ``auto`` is bfloat16 on a GPU and float32 on a CPU."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model, and how."""

    model: str
    device: str = "auto"
    dtype: Dtype = Dtype.AUTO
    quantize: Quantize = Quantize.NONE


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready to be run, and what goes with it."""

    name: str
    model: Any
    """A ``PreTrainedModel``, whose methods have no types."""
    tokenizer: PreTrainedTokenizerBase
    device: str
    dtype: str
    context: int
    """Tokens that the model was made for, prompt and answer together."""
    end_tokens: frozenset[int]
    weight_bytes: int


def load(options: ModelOptions) -> Loaded:
    """Load a model. Takes seconds to minutes, and blocks. Raises ``ConfigError``, which says what is wrong."""
    from transformers import AutoConfig  # noqa: PLC0415 - takes seconds, and --help needs none of it

    name = options.model
    base = _base_of(name)
    device = _device(options.device)
    _plan_no_attention()
    with _explaining(name):
        tokenizer = _tokenizer(name, base)
        config = AutoConfig.from_pretrained(base)
    dtype = _dtype(options.dtype, device)
    with _explaining(name):
        model = _model(base, options.quantize, device=device, dtype=dtype, attention=_attention(device))
        if base != name:
            model = _with_adapter(model, name, merge=options.quantize is Quantize.NONE)
    if options.quantize is Quantize.NONE:
        model = model.to(device)
    model.eval()
    _check_finite(model, name)
    tokens = _vocabulary(tokenizer)
    if tokens > model.get_input_embeddings().weight.shape[0]:
        raise ConfigError(
            f"{name}: its tokenizer has {tokens} tokens, more than the model: they do not belong together"
        )
    text = config.get_text_config()
    loaded = Loaded(
        name=name,
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        context=int(getattr(text, "max_position_embeddings", 0) or _DEFAULT_CONTEXT),
        end_tokens=_end_tokens(model, tokenizer),
        weight_bytes=weight_bytes(model),
    )
    log.info(
        "%s on %s in %s%s: %.0f MiB of weights, %d tokens of context",
        name,
        device,
        loaded.dtype,
        "" if options.quantize is Quantize.NONE else f", linear layers in {options.quantize}",
        loaded.weight_bytes / 2**20,
        loaded.context,
    )
    return loaded


def weight_bytes(model: Any) -> int:
    """Bytes that parameters and buffers take as they are stored, shared ones once."""
    tensors = {tensor.data_ptr(): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _base_of(name: str) -> str:
    """The model itself: what an adapter's folder says that it belongs to, anything else as it is."""
    adapter = Path(name) / _ADAPTER
    if not adapter.is_file():
        return name
    try:
        base = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, OSError) as error:
        raise ConfigError(f"{adapter} does not name the model that it belongs to: {error}") from error
    return str(base)


def _tokenizer(name: str, base: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer  # noqa: PLC0415 - see load

    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        name if (Path(name) / "tokenizer_config.json").is_file() else base
    )
    if not found.is_fast:
        raise ConfigError(f"{name}: the tokenizer has no tokenizer.json, which the server needs")
    return found


def _model(base: str, quantize: Quantize, *, device: str, dtype: torch.dtype, attention: str) -> Any:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - see load

    more: dict[str, Any] = {}
    if quantize is not Quantize.NONE:
        more = {"quantization_config": _quantization(quantize, dtype), "device_map": {"": device}}
    found: Any = AutoModelForCausalLM.from_pretrained(
        base, dtype=dtype, attn_implementation=attention, output_loading_info=True, **more
    )
    model, notes = found
    if missing := sorted(notes["missing_keys"]):
        raise ConfigError(
            f"{base}: the files are incomplete: no weights for {missing[0]} and {len(missing) - 1} others"
        )
    return model


def _quantization(quantize: Quantize, dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401, PLC0415 - only with --quantize
        import transformers  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError("--quantize needs bitsandbytes: pip install 'cacheproxy[backend]'") from error
    # Said once for every layer and every token, of what was asked for.
    warnings.filterwarnings("ignore", message="MatMul8bitLt: inputs will be cast")
    config: Any = transformers.BitsAndBytesConfig
    if quantize is Quantize.INT8:
        return config(load_in_8bit=True)
    return config(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=True,
    )


def _with_adapter(model: Any, name: str, *, merge: bool) -> Any:
    """The adapter on its model. In full precision it becomes part of the weights, and costs nothing from then on."""
    try:
        from peft import PeftModel  # noqa: PLC0415 - only adapters need it
    except ImportError as error:
        raise ConfigError(f"{name} is a LoRA adapter, which needs peft: pip install 'cacheproxy[backend]'") from error
    adapted: Any = PeftModel.from_pretrained(model, name)
    whole: Any = adapted.merge_and_unload() if merge else adapted.base_model.model
    return whole


def _device(asked: str) -> str:
    import torch  # noqa: PLC0415 - see load

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(asked).type
    except RuntimeError as error:
        raise ConfigError(f"device {asked!r} is none that torch knows") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {asked!r} is not there on this machine; use auto or cpu")
    return asked


def _dtype(asked: Dtype, device: str) -> torch.dtype:
    import torch  # noqa: PLC0415 - see load

    on_cpu = device == "cpu"
    if asked is Dtype.FLOAT16 and on_cpu:
        raise ConfigError("float16 is not for CPUs, where it is slow and overflows; use float32 or bfloat16")
    chosen = (Dtype.FLOAT32 if on_cpu else Dtype.BFLOAT16) if asked is Dtype.AUTO else asked
    found: torch.dtype = getattr(torch, chosen)
    return found


def _attention(device: str) -> str:
    """FlashAttention where it is installed, whose paged kernels need no mask; torch's own elsewhere."""
    if not device.startswith("cuda"):
        return "sdpa"
    from transformers.utils.import_utils import (  # noqa: PLC0415 - see load
        is_flash_attn_2_available,
        is_flash_attn_3_available,
    )

    if is_flash_attn_3_available():
        return "flash_attention_3"
    return "flash_attention_2" if is_flash_attn_2_available() else "sdpa"


def _plan_no_attention() -> None:
    """Keep torch from cuDNN's attention, which makes a plan for each shape that it meets; every step has another.

    On an H200 a model of 1B gave a third of the tokens per second with it.
    """
    import torch  # noqa: PLC0415 - see load

    torch.backends.cuda.enable_cudnn_sdp(False)


def _end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    config = model.generation_config
    told = [config.eos_token_id if config is not None else None, tokenizer.eos_token_id]
    ends: set[int] = set()
    for value in told:
        ends.update(value if isinstance(value, list) else [] if value is None else [value])
    return frozenset(ends)


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> int:
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def _check_finite(model: Any, name: str) -> None:
    """Damaged files often hold numbers that are none: better told now than in every answer."""
    import torch  # noqa: PLC0415 - see load

    for parameter, tensor in model.named_parameters():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{name}: {parameter} holds numbers that are not finite: the weights are damaged")


class _explaining:  # noqa: N801 - reads as what it does: with _explaining(name)
    """Turns what loading raises into one sentence."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        _quiet()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, ConfigError) or not isinstance(error, Exception):
            return
        raise ConfigError(f"model {self._name} cannot be loaded: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    import torch  # noqa: PLC0415 - see load
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415
    from safetensors import SafetensorError  # noqa: PLC0415

    if isinstance(error, torch.OutOfMemoryError):
        return "it does not fit the device's memory; a smaller model or --quantize int8 takes less"
    if isinstance(error, SafetensorError):
        return f"its weights are damaged ({error}); fetch the files again"
    offline = isinstance(error, HFValidationError | LocalEntryNotFoundError | HfHubHTTPError)
    if (
        offline
        or "is not a local folder" in str(error)
        or "couldn't connect" in str(error)
        or "Repo id must be" in str(error)
    ):
        return "there is no such folder, and the model hub did not give it; name a folder with config.json and weights"
    return " ".join(str(error).split())[:300] or type(error).__name__


def _quiet() -> None:
    """No progress bars of the libraries in a server's log."""
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 - see load
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    with suppress(AttributeError):
        disable_progress_bars()
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it without annotations


def prompts_of(loaded: Loaded, questions: list[str]) -> Iterator[tuple[int, ...]]:
    """Each question as the chat prompt that the model's template makes of it."""
    for question in questions:
        chat = [{"role": "user", "content": question}]
        ids: Any = loaded.tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        yield tuple(ids)
