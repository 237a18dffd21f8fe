"""Training a student on lessons: all of a tiny model, or a LoRA adapter on a larger one.

What was learnt is measured on lessons that are held out, before and after: the loss, and how many questions are
answered word for word as the lesson says. Which ones are held out follows from the questions alone, so that another
run, or another student, is measured on the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from cacheproxy import jsontext
from cacheproxy.backend.loading import ModelOptions, Quantize, load
from cacheproxy.backend.quality import answers, batches, lesson, loss_on
from cacheproxy.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cacheproxy.backend.loading import Loaded
    from cacheproxy.backend.quality import Lesson
    from cacheproxy.jsontext import JsonObject

_FULL_BELOW: Final = 50_000_000
"""Models with fewer parameters are trained as a whole: an adapter would save nothing."""
_FULL_RATE: Final = 1e-3
_LORA_RATE: Final = 2e-4
_MOST_MEASURED: Final = 64
"""Held-out questions that are answered; the loss is taken on all."""


class Method(StrEnum):
    """What is trained."""

    AUTO = "auto"
    FULL = "full"
    LORA = "lora"


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How a student learns."""

    model: ModelOptions
    method: Method = Method.AUTO
    epochs: int = 3
    batch_tokens: int = 4096
    rate: float | None = None
    """The highest learning rate; by the method when None."""
    rank: int = 16
    held_out: float = 0.1
    """Share of the lessons that are not learnt."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """How a student does on lessons that it did not learn."""

    loss: float
    agreement: float
    """Share of questions that it answers word for word, 0..1."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What training did."""

    method: Method
    learnt: int
    held_out: int
    before: Measured
    after: Measured

    def to_json(self) -> JsonObject:
        """For programs."""
        return asdict(self)


def train(options: TrainOptions, lessons: Path, out: Path, progress: Callable[[int, int, float], None]) -> Trained:
    """Teach a student and keep it in ``out``, ready for ``cacheproxy backend``. Blocks for long.

    ``progress`` is told the step, the number of steps and the loss. Raises ``ConfigError``.
    """
    import torch  # noqa: PLC0415 - takes seconds, and --help needs none of it

    torch.manual_seed(options.seed)
    loaded = load(replace(options.model, quantize=Quantize.NONE))
    if loaded.tokenizer.chat_template is None:
        raise ConfigError(f"{loaded.name} has no chat template, and lessons are chats")
    learnt, held = _split(_read(lessons), options.held_out)
    taught = _fitting(loaded, learnt)
    tested = _fitting(loaded, held)
    if not taught:
        raise ConfigError(f"{lessons} holds no lesson that fits {loaded.name}'s {loaded.context} tokens")
    before = _measure(loaded, tested)
    method = options.method
    if method is Method.AUTO:
        method = Method.FULL if loaded.model.num_parameters() < _FULL_BELOW else Method.LORA
    pupil = loaded.model if method is Method.FULL else _with_lora(loaded, options.rank)
    _learn(pupil, taught, options, _FULL_RATE if method is Method.FULL else _LORA_RATE, progress)
    after = _measure(loaded, tested)
    pupil.save_pretrained(out)
    loaded.tokenizer.save_pretrained(out)
    return Trained(method, len(taught), len(tested), before, after)


def _learn(
    pupil: Any,
    lessons: Sequence[Lesson],
    options: TrainOptions,
    usual_rate: float,
    progress: Callable[[int, int, float], None],
) -> None:
    import torch  # noqa: PLC0415 - see train

    weights = [parameter for parameter in pupil.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=options.rate or usual_rate, weight_decay=0.01)
    rounds = list(batches(lessons, max_tokens=options.batch_tokens))
    steps = options.epochs * len(rounds)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=options.rate or usual_rate, total_steps=steps + 1, pct_start=0.1
    )
    dice = torch.Generator().manual_seed(options.seed)
    pupil.train()
    step = 0
    for _ in range(options.epochs):
        for place in torch.randperm(len(rounds), generator=dice).tolist():
            loss = pupil(**{name: tensor.to(pupil.device) for name, tensor in rounds[place].items()}).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            progress(step, steps, loss.item())
    pupil.eval()


def _with_lora(loaded: Loaded, rank: int) -> Any:
    try:
        from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - only this method needs it
    except ImportError as error:
        raise ConfigError("LoRA needs peft: pip install 'cacheproxy[backend]'") from error
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(loaded.model, config)


def _measure(loaded: Loaded, lessons: Sequence[Lesson]) -> Measured:
    if not lessons:
        return Measured(float("nan"), float("nan"))
    asked = lessons[:_MOST_MEASURED]
    told = answers(loaded, [one.prompt for one in asked], max_tokens=max(len(one.answer) for one in asked) + 1)
    wanted = [tuple(token for token in one.answer if token not in loaded.end_tokens) for one in asked]
    same = sum(one == other for one, other in zip(told, wanted, strict=True))
    return Measured(loss_on(loaded.model, lessons), same / len(asked))


def _read(path: Path) -> list[list[JsonObject]]:
    chats = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        messages = _chat(line)
        if messages is None:
            raise ConfigError(f"{path}, line {number}: no chat that ends in a question and its answer")
        chats.append(messages)
    return chats


def _chat(line: bytes) -> list[JsonObject] | None:
    try:
        messages: list[JsonObject] = jsontext.parse(line)["messages"]
        roles = [message["role"] for message in messages[-2:]]
    except (ValueError, KeyError, TypeError):
        return None
    return messages if roles == ["user", "assistant"] else None


def _split(chats: Sequence[list[JsonObject]], share: float) -> tuple[list[list[JsonObject]], list[list[JsonObject]]]:
    learnt: list[list[JsonObject]] = []
    held: list[list[JsonObject]] = []
    for messages in chats:
        digest = blake2b(str(messages[-2]["content"]).encode("utf-8", "replace"), digest_size=4).digest()
        (held if int.from_bytes(digest) < share * 2**32 else learnt).append(messages)
    return learnt, held


def _fitting(loaded: Loaded, chats: Sequence[list[JsonObject]]) -> list[Lesson]:
    """Lessons that fit the model's context; longer ones would be learnt in half."""
    lessons = [lesson(loaded, messages) for messages in chats]
    return [one for one in lessons if len(one.prompt) + len(one.answer) <= loaded.context]
