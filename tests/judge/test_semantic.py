"""The semantic judge: nearness both ways and the same facts; where its thresholds come from."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from cacheproxy.core.agreement import Disagreement, Facts
from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.errors import Overloaded, PortUnavailable
from cacheproxy.judge.semantic import Nearness, SemanticJudge, Thresholds, decide
from cacheproxy.lab.questions import SAMPLE, read_questions
from cacheproxy.model import Reason
from cacheproxy.upstream.rewording import reworded

OTHER_NUMBER = Disagreement(Reason.GUARD_NUMBERS, frozenset({"3"}), frozenset({"5"}))
MISSING_NUMBER = Disagreement(Reason.GUARD_NUMBERS, frozenset({"3"}), frozenset())
NO_FACTS = Facts((), 0)


def near(whole, *, mean=0.0, least=1.0, objection=""):
    return Nearness(whole=whole, mean=mean, least=least, objection=objection)


@pytest.mark.parametrize(
    ("nearness", "stated", "long", "same"),
    [
        pytest.param(near(0.80), NO_FACTS, False, True, id="near"),
        pytest.param(near(0.70), NO_FACTS, False, None, id="grey"),
        pytest.param(near(0.50), NO_FACTS, False, False, id="far"),
        pytest.param(near(None, mean=0.80), NO_FACTS, False, True, id="near-by-its-sentences"),
        pytest.param(near(0.65), Facts((), 3), False, True, id="less-near-with-the-same-facts"),
        pytest.param(near(0.55), Facts((), 3), False, False, id="far-with-the-same-facts"),
        pytest.param(near(0.95), Facts((OTHER_NUMBER,), 2), False, False, id="another-number"),
        pytest.param(near(0.95), Facts((OTHER_NUMBER,), 6), True, None, id="another-number-among-many-facts"),
        pytest.param(near(0.70), Facts((OTHER_NUMBER,), 6), True, False, id="another-number-and-not-near"),
        pytest.param(near(0.80), Facts((MISSING_NUMBER,), 0), False, True, id="one-says-less"),
        pytest.param(near(0.80), Facts((MISSING_NUMBER,) * 3, 1), False, None, id="one-says-much-less"),
        pytest.param(near(0.99, objection="negation"), NO_FACTS, False, False, id="a-guard-objects"),
        pytest.param(near(0.80, least=0.1), NO_FACTS, False, None, id="a-sentence-without-counterpart"),
        pytest.param(near(0.80, least=0.1), Facts((), 3), False, True, id="an-aside-beside-the-same-facts"),
    ],
)
def test_the_rule(nearness, stated, long, same):
    assert decide(nearness, stated, Thresholds(), long=long)[0] is same


class Broken:
    """An embedder that fails, or whose window is one word."""

    model, dimension = "broken", 8

    def __init__(self, error=None, window=1):
        self.error = error
        self.inner = HashedEmbedder(8, window=window)
        self.asked = []

    async def embed(self, text):
        if self.error:
            raise self.error
        self.asked.append(text)
        return await self.inner.embed(text)


LONG = "The parcel that you have sent back will reach us within five working days."


@pytest.mark.parametrize("error", [PortUnavailable("no model"), Overloaded("busy")], ids=["gone", "busy"])
async def test_an_embedder_that_fails_gives_no_verdict(error):
    verdict = await SemanticJudge(Broken(error)).judge("q", LONG, "We get the parcel soon.")
    assert (verdict.same, verdict.by, verdict.why) == (None, "semantic", error.message)


async def test_equal_answers_need_no_embedding():
    embedder = Broken(PortUnavailable("no model"))
    assert (await SemanticJudge(embedder).judge("q", "Paris", "**Paris**")).same is True


async def test_a_text_past_the_window_is_cut():
    embedder = Broken(window=5)
    verdict = await SemanticJudge(embedder).judge("q", LONG, LONG.replace("parcel", "box"))
    assert verdict.by == "semantic"
    assert max(len(text.split()) for text in embedder.asked) == 14  # tried whole, refused, then halved
    assert min(len(text.split()) for text in embedder.asked) == 3


async def test_a_word_past_the_window_gives_no_verdict():
    verdict = await SemanticJudge(Broken(window=1)).judge("q", "a" * 500 + " b c d", LONG)
    assert verdict.same is None
    assert "window" in verdict.why


async def test_an_answer_of_very_many_sentences_is_not_judged():
    long = " ".join(f"This is sentence number {number} of many." for number in range(65))
    verdict = await SemanticJudge(HashedEmbedder()).judge("q", long, LONG)
    assert (verdict.same, verdict.why) == (None, "over 64 sentences")


@pytest.mark.parametrize(("cached", "fresh"), [("", LONG), (LONG, ""), ("\u3002", "!"), ("...", LONG)])
async def test_empty_answers_are_judged_too(cached, fresh):
    assert (await SemanticJudge(HashedEmbedder()).judge("q", cached, fresh)).same is False


@pytest.mark.asyncio(loop_scope="package")
async def test_hand_written_pairs_are_judged_right(minilm, answer_pairs):
    """The thresholds were chosen on the even lines; the odd ones say how well that carries over. None is wrong."""
    judge = SemanticJudge(minilm)
    asked = [(pair["question"], pair["cached"], pair["fresh"]) for pair in answer_pairs]
    there = await asyncio.gather(*(judge.judge(*pair) for pair in asked))
    back = await asyncio.gather(*(judge.judge(question, fresh, cached) for question, cached, fresh in asked))
    assert [verdict.same for verdict in there] == [verdict.same for verdict in back]
    told = Counter((pair["kind"], verdict.same) for pair, verdict in zip(answer_pairs, there, strict=True))
    assert told == {("reworded", True): 28, ("neighbour", False): 21, ("neighbour", None): 1, ("altered", False): 18}


@pytest.mark.timeout(400)  # two thousand sentences through the model: long where the cores are shared
@pytest.mark.asyncio(loop_scope="package")
@pytest.mark.parametrize("same", [True, False], ids=["one-class", "two-classes"])
async def test_reworded_answers_of_the_simulated_upstream_are_judged_right(minilm, same):
    """At least 97 in 100 each way, over pairs of BANKING77's intents; a verdict that is missing is wrong."""
    judge = SemanticJudge(minilm)
    labels = sorted({question.label for question in read_questions(SAMPLE)})
    pairs = [
        (reworded(labels[n % 35], "", 2 * n), reworded(labels[(n + (0 if same else 1 + n % 34)) % 35], "", 2 * n + 1))
        for n in range(105)
    ]
    assert all(cached != fresh for cached, fresh in pairs)
    verdicts = await asyncio.gather(*(judge.judge("How does this work?", *pair) for pair in pairs))
    assert sum(verdict.same is same for verdict in verdicts) >= 0.97 * len(pairs)


async def test_every_sentence_was_embedded_anew_for_each_candidate():
    embedder = Broken(window=256)
    judge = SemanticJudge(embedder)
    for cached in ("It takes two days. Ask for it at the desk.", "It takes two days. Write to the help desk."):
        await judge.judge("How long?", cached, "You get it in two days. Go to the desk.")
    assert len(embedder.asked) == len(set(embedder.asked))


async def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("cacheproxy.judge.semantic.REMEMBERED", 2)
    judge = SemanticJudge(Broken(window=256))
    await judge.judge("How long?", "It takes two days. Ask for it at the desk.", "It takes a week. Go to the desk.")
    assert len(judge._known) == 2
