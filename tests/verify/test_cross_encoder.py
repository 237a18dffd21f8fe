"""A cross-encoder is loaded, scores pairs between 0 and 1, and is refused when it cannot serve."""

import asyncio

import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from cacheproxy.errors import ConfigError, PortUnavailable
from cacheproxy.verify.cross_encoder import open_cross_encoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "how", "do", "i", "reset", "my", "card", "pin", "?"]


def tiny(folder, *, labels=1):
    """A model of random weights, as small as one can be."""
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=32,
        num_labels=labels,
        initializer_range=1.0,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


async def test_scores_are_those_of_sentence_transformers(tmp_path):
    name = tiny(tmp_path / "model")
    pairs = [("how do i reset my pin ?", "reset my card"), ("card", "pin ?")]
    verifier = await open_cross_encoder(name, device="cpu")
    try:
        scores = await asyncio.gather(*(verifier.compare(*pair) for pair in pairs))
    finally:
        await verifier.aclose()
    expected = CrossEncoder(name, device="cpu").predict(pairs, activation_fn=torch.nn.Sigmoid())
    assert scores == pytest.approx([float(each) for each in expected], abs=1e-5)
    assert verifier.name == name
    assert scores[0] != scores[1]


async def test_a_model_of_several_scores_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="gives 3 scores a pair"):
        await open_cross_encoder(tiny(tmp_path / "model", labels=3), device="cpu")


async def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigError, match=f"cross-encoder {tmp_path} cannot be loaded"):
        await open_cross_encoder(str(tmp_path), device="cpu")


async def test_after_the_end_every_caller_is_told(tmp_path):
    verifier = await open_cross_encoder(tiny(tmp_path / "model"), device="cpu")
    await verifier.aclose()
    with pytest.raises(PortUnavailable):
        await verifier.compare("a", "b")
