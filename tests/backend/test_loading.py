from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cacheproxy.backend.loading import Dtype, ModelOptions, Quantize, load, prompts_of, weight_bytes
from cacheproxy.errors import ConfigError


@pytest.fixture
def copied(model, tmp_path):
    return Path(shutil.copytree(model, tmp_path / "copy"))


def greedy(loaded, question):
    (prompt,) = prompts_of(loaded, [question])
    found = loaded.model.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)
    return loaded.tokenizer.decode(found[0, len(prompt) :], skip_special_tokens=True)


def test_a_folder_is_loaded_in_full_precision(loaded, model):
    assert (loaded.name, loaded.device, loaded.dtype, loaded.context) == (model, "cpu", "float32", 512)
    assert loaded.end_tokens == {loaded.tokenizer.eos_token_id}
    assert greedy(loaded, "Who wrote Hamlet?") == "Shakespeare wrote Hamlet."


@pytest.mark.parametrize("quantize", [Quantize.INT8, Quantize.INT4])
def test_quantised_it_is_smaller_and_still_knows(loaded, model, quantize):
    small = load(ModelOptions(model, device="cpu", quantize=quantize))
    linear = sum(p.numel() for name, p in loaded.model.named_parameters() if "proj" in name)
    saved = loaded.weight_bytes - small.weight_bytes
    assert saved > 2.5 * linear  # of four bytes each
    assert greedy(small, "Who wrote Hamlet?") == "Shakespeare wrote Hamlet."


def test_half_precision_takes_half(loaded, model):
    half = load(ModelOptions(model, device="cpu", dtype=Dtype.BFLOAT16))
    assert half.dtype == "bfloat16"
    assert half.weight_bytes < 0.6 * loaded.weight_bytes


def test_tied_weights_count_once(loaded):
    assert weight_bytes(loaded.model) < 4 * loaded.model.num_parameters() + 4096


def test_a_missing_model_is_told_in_one_sentence():
    with pytest.raises(ConfigError, match="no such folder"):
        load(ModelOptions("/nowhere/at-all", device="cpu"))


def test_damaged_weights_are_told(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="damaged"):
        load(ModelOptions(str(copied), device="cpu"))


def test_weights_that_are_no_numbers_are_told(copied):
    weights = load_file(copied / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"model\.norm\.weight holds numbers that are not finite"):
        load(ModelOptions(str(copied), device="cpu"))


def test_weights_that_are_missing_are_told(copied):
    weights = load_file(copied / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"no weights for model\.norm\.weight"):
        load(ModelOptions(str(copied), device="cpu"))


def test_another_models_tokenizer_is_told(copied):
    config = json.loads((copied / "config.json").read_text())
    small = load_file(copied / "model.safetensors")
    small["model.embed_tokens.weight"] = small["model.embed_tokens.weight"][:100].clone()
    save_file(small, copied / "model.safetensors", metadata={"format": "pt"})
    (copied / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    with pytest.raises(ConfigError, match="do not belong together"):
        load(ModelOptions(str(copied), device="cpu"))


def test_half_precision_that_a_cpu_is_bad_at_is_refused(model):
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        load(ModelOptions(model, device="cpu", dtype=Dtype.FLOAT16))


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_told(model, device):
    with pytest.raises(ConfigError, match=device):
        load(ModelOptions(model, device=device))


def test_an_adapter_without_its_model_is_told(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="does not name the model"):
        load(ModelOptions(str(tmp_path), device="cpu"))
