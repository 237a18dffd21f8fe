"""How well a model does: the loss on given answers, its own answers, and how a quantised one compares."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from cacheproxy.backend.loading import ModelOptions, Quantize, load
from cacheproxy.batching.packer import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    from cacheproxy.backend.loading import Loaded
    from cacheproxy.jsontext import JsonObject

_BATCH_TOKENS: Final = 4096
_MOST_ANSWER_TOKENS: Final = 64
_NOT_COUNTED: Final = -100


@dataclass(frozen=True, slots=True)
class Lesson:
    """A prompt and the answer to it, in tokens; the end of the turn included."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """A quantised model beside itself in full precision, on the answers that the latter gives."""

    questions: int
    perplexity: float
    perplexity_quantised: float
    same_answers: float
    """Share of questions that both answer word for word alike, 0..1."""
    same_tokens: float
    """Share of tokens for which both would go on alike, 0..1."""
    weight_bytes: int
    weight_bytes_quantised: int

    def to_json(self) -> JsonObject:
        """For programs."""
        return asdict(self)


def lesson(loaded: Loaded, messages: Sequence[JsonObject]) -> Lesson:
    """A chat whose last message is the answer."""
    tokenizer: Any = loaded.tokenizer
    text = tokenizer.apply_chat_template(list(messages[:-1]), add_generation_prompt=True, tokenize=False)
    answer = str(messages[-1]["content"]) + (tokenizer.eos_token or "")
    return Lesson(
        tuple(tokenizer.encode(text, add_special_tokens=False)),
        tuple(tokenizer.encode(answer, add_special_tokens=False)),
    )


def batches(lessons: Sequence[Lesson], *, max_tokens: int, pad: int = 0) -> Iterator[dict[str, torch.Tensor]]:
    """Lessons of like length together, as a model takes them: answers are what counts."""
    import torch  # noqa: PLC0415 - takes seconds, and --help needs none of it

    lengths = [len(one.prompt) + len(one.answer) for one in lessons]
    for places in pack(lengths, max_padded_tokens=max_tokens):
        width = max(lengths[place] for place in places)
        ids = torch.full((len(places), width), pad)
        labels = torch.full((len(places), width), _NOT_COUNTED)
        mask = torch.zeros((len(places), width), dtype=torch.long)
        for row, place in enumerate(places):
            one = lessons[place]
            ids[row, : lengths[place]] = torch.tensor(one.prompt + one.answer)
            labels[row, len(one.prompt) : lengths[place]] = torch.tensor(one.answer)
            mask[row, : lengths[place]] = 1
        yield {"input_ids": ids, "labels": labels, "attention_mask": mask}


def loss_on(model: Any, lessons: Sequence[Lesson]) -> float:
    """Mean loss of a token of the answers, in nats."""
    return _measured(model, lessons)[0]


def answers(
    loaded: Loaded, prompts: Sequence[tuple[int, ...]], *, max_tokens: int = _MOST_ANSWER_TOKENS
) -> list[tuple[int, ...]]:
    """What the model answers, greedily, one prompt at a time; without the end of the turn."""
    import torch  # noqa: PLC0415 - see batches

    found = []
    for prompt in prompts:
        given = torch.tensor([prompt], device=loaded.model.device)
        with torch.inference_mode():
            told = loaded.model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=max(min(max_tokens, loaded.context - len(prompt)), 1),
                do_sample=False,
                eos_token_id=sorted(loaded.end_tokens) or None,
                pad_token_id=0,
            )[0, len(prompt) :].tolist()
        found.append(tuple(token for token in told if token not in loaded.end_tokens))
    return found


def compare(options: ModelOptions, prompts: Callable[[Loaded], Sequence[tuple[int, ...]]]) -> Quality:
    """Quantised as ``options`` say against full precision. Blocks. Raises ``ConfigError``."""
    full = load(ModelOptions(options.model, options.device, options.dtype, Quantize.NONE))
    asked = list(prompts(full))
    said = answers(full, asked)
    end = tuple(sorted(full.end_tokens)[:1])
    lessons = [Lesson(prompt, answer + end) for prompt, answer in zip(asked, said, strict=True)]
    loss, _ = _measured(full.model, lessons)
    weight = full.weight_bytes
    del full
    small = load(options)
    small_loss, same_tokens = _measured(small.model, lessons)
    same = sum(one == other for one, other in zip(answers(small, asked), said, strict=True))
    return Quality(
        questions=len(asked),
        perplexity=math.exp(loss),
        perplexity_quantised=math.exp(small_loss),
        same_answers=same / max(len(asked), 1),
        same_tokens=same_tokens,
        weight_bytes=weight,
        weight_bytes_quantised=small.weight_bytes,
    )


def _measured(model: Any, lessons: Sequence[Lesson]) -> tuple[float, float]:
    """Mean loss of a token, and the share of tokens that the model would have chosen itself."""
    import torch  # noqa: PLC0415 - see batches

    total, right, count = 0.0, 0, 0
    with torch.inference_mode():
        for batch in batches(lessons, max_tokens=_BATCH_TOKENS):
            on_device = {name: tensor.to(model.device) for name, tensor in batch.items()}
            labels = on_device.pop("labels")[:, 1:]
            logits = model(**on_device).logits[:, :-1].float()
            counted = labels != _NOT_COUNTED
            picked = torch.log_softmax(logits, dim=-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            total -= float(picked[counted].sum())
            right += int((logits.argmax(dim=-1) == labels)[counted].sum())
            count += int(counted.sum())
    return total / max(count, 1), right / max(count, 1)
