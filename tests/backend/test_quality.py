from __future__ import annotations

import pytest
import torch

from cacheproxy.backend.loading import ModelOptions, Quantize, prompts_of
from cacheproxy.backend.quality import Lesson, answers, batches, compare, lesson, loss_on

ASKED = ["Who wrote Hamlet?", "What is two plus two?", "What is the capital of Italy?"]


def chat(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_the_loss_is_that_of_the_answers_alone(loaded):
    one = lesson(loaded, chat("Who wrote Hamlet?", "Shakespeare wrote Hamlet."))
    ids = torch.tensor([one.prompt + one.answer])
    labels = ids.clone()
    labels[0, : len(one.prompt)] = -100
    with torch.inference_mode():
        expected = loaded.model(ids, labels=labels).loss.item()
    other = lesson(loaded, chat("What is two plus two?", "Two plus two is four."))
    assert loss_on(loaded.model, [one]) == pytest.approx(expected, abs=1e-5)
    assert loss_on(loaded.model, [one, other]) < 0.05


def test_what_it_was_not_taught_costs_more(loaded):
    right = lesson(loaded, chat("Who wrote Hamlet?", "Shakespeare wrote Hamlet."))
    wrong = lesson(loaded, chat("Who wrote Hamlet?", "A spider wrote Hamlet."))
    assert loss_on(loaded.model, [wrong]) > 10 * loss_on(loaded.model, [right])


def test_answers_are_those_that_it_was_taught(loaded):
    (told,) = answers(loaded, list(prompts_of(loaded, ASKED[:1])))
    assert loaded.tokenizer.decode(told) == "Shakespeare wrote Hamlet."


def test_every_lesson_is_in_one_batch():
    lessons = [Lesson((1,) * size, (2, 3)) for size in (1, 30, 2, 31, 3)]
    found = list(batches(lessons, max_tokens=70))
    assert sum(len(batch["input_ids"]) for batch in found) == 5
    assert all(batch["input_ids"].numel() <= 70 for batch in found)
    assert sum(int((batch["labels"] != -100).sum()) for batch in found) == 10


@pytest.mark.parametrize("quantize", [Quantize.INT8, Quantize.INT4])
def test_a_quantised_model_is_compared_with_itself(model, quantize):
    options = ModelOptions(model, device="cpu", quantize=quantize)
    report = compare(options, lambda loaded: list(prompts_of(loaded, ASKED)))
    assert report.questions == 3
    assert report.weight_bytes_quantised < report.weight_bytes
    assert report.same_answers == 1.0
    assert report.same_tokens == 1.0
    assert 1 <= report.perplexity < report.perplexity_quantised * 1.05
    assert set(report.to_json()) >= {"perplexity", "same_answers", "weight_bytes"}
