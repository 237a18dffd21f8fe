"""What every judge promises: a verdict for any two texts, whatever they hold, and never an exception."""

from __future__ import annotations

import pytest

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.judge.chain import automatic
from cacheproxy.judge.equality import EqualityJudge
from cacheproxy.judge.llm import JudgeModel, LlmJudge
from cacheproxy.judge.semantic import SemanticJudge
from cacheproxy.model import Usage, Verdict
from cacheproxy.upstream.scripted import Answer, ScriptedUpstream

TEXTS = ["", "Paris", "\ud800 lone", "\x00", '{"a": ', "[" * 5000, "word " * 3000, "x" * 30_000, "\u2028", "Yes. " * 40]


class Free:
    """Prices and a budget that never object."""

    version = "free"

    def usd(self, *, model: str, upstream: str, usage: Usage) -> float | None:
        return 0.0

    def reserve(self, usd: float) -> bool:
        return True

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        pass


def llm():
    model = JudgeModel("m", "http://up.example/v1/chat/completions", "up")
    upstream = ScriptedUpstream(lambda _: Answer(chunks=[b'{"choices": [{"message": {"content": "SAME"}}]}']))
    return LlmJudge(model, upstream=lambda _: upstream, prices=Free(), budget=Free(), fence=lambda: "fence")


JUDGES = {
    "equality": EqualityJudge,
    "semantic": lambda: SemanticJudge(HashedEmbedder()),
    "llm": llm,
    "auto": lambda: automatic(HashedEmbedder(), llm()),
}


@pytest.mark.parametrize("name", JUDGES)
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:8]))
async def test_any_texts_get_a_verdict(name, text):
    verdict = await JUDGES[name]().judge(text, text, "Paris is the capital of France.")
    assert isinstance(verdict, Verdict)
    assert verdict.why


@pytest.mark.parametrize("name", JUDGES)
async def test_an_answer_says_the_same_as_itself(name):
    assert (await JUDGES[name]().judge("Which city?", "It is Paris.", "It is Paris.")).same is True
