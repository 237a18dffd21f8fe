from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from support.corpora import made_up, write_lines
from support.verdicts import made_up_labels

from cacheproxy import opening
from cacheproxy.cli import run
from cacheproxy.core.labels import LABELS_KEPT
from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.lab.label_file import dump_label
from cacheproxy.settings import Settings

FAST = ["--requests", "60", "--orderings", "1"]


@pytest.fixture(autouse=True)
def hashed(monkeypatch):
    """The commands open an embedder that needs no model."""

    @asynccontextmanager
    async def opened(settings):
        yield HashedEmbedder()

    monkeypatch.setattr(opening, "open_embedder", opened)


@pytest.fixture
def classes(tmp_path):
    rows = ({"class": name, "questions": texts} for name, texts in made_up().classes.items())
    return write_lines(tmp_path / "classes.jsonl", rows)


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {"a": "How do I reset my card?", "b": "How do I reset the card?", "same": 1},
        {"a": "How do I enable 2FA?", "b": "How do I disable 2FA?", "same": 0},
    ]
    return write_lines(tmp_path / "pairs.jsonl", rows * 3)


@pytest.fixture
def labels(tmp_path):
    file = tmp_path / "labels.jsonl"
    file.write_bytes(b"".join(map(dump_label, made_up_labels(300, audits=5))))
    return file


def reported(capsys, *arguments):
    capsys.readouterr()
    assert run([str(argument) for argument in (*arguments, "--json")]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_policy_is_tried_on_classes(classes, capsys):
    report = reported(capsys, "evaluate", classes, *FAST)
    assert [arm["arm"] for arm in report["arms"]] == ["certified 0.01", "threshold 0.95", "vcache 0.01"]
    assert all(arm["requests"] == 60 for arm in report["arms"])
    assert report["embedding_model"] == "hashed-256"


def test_policies_and_their_budgets_can_be_chosen(classes, capsys):
    chosen = ["--policy", "threshold", "--threshold", "0.7", "--threshold", "0.9"]
    report = reported(capsys, "evaluate", classes, *FAST, *chosen)
    assert [arm["arm"] for arm in report["arms"]] == ["threshold 0.7", "threshold 0.9"]
    budgets = ["--policy", "certified", "--policy", "vcache", "--budget", "0.02", "--budget", "0.05"]
    report = reported(capsys, "evaluate", classes, *FAST, *budgets)
    assert [arm["arm"] for arm in report["arms"]] == ["certified 0.02", "certified 0.05", "vcache 0.02", "vcache 0.05"]


def test_the_table_names_every_arm_and_the_prices(classes, capsys):
    assert run(["evaluate", str(classes), *FAST, "--answer-usd", "0.5"]) == 0
    told = capsys.readouterr().out
    assert "vcache 0.01" in told
    assert "$0.5 an answer" in told


def test_pairs_are_decided_on_alone(pairs, capsys):
    report = reported(capsys, "evaluate", pairs, "--policy", "threshold", "--threshold", "0.6")
    (arm,) = report["arms"]
    assert (arm["wrong_per_semantic_hit"]["count"], arm["wrong_per_semantic_hit"]["of"]) == (0, 3)
    assert arm["recall"]["rate"] == 1.0


def test_plots_and_a_page_are_written(classes, tmp_path, capsys):
    assert run(["evaluate", str(classes), *FAST, "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "certified 0.01" in page
    assert (tmp_path / "out" / "precision.png").is_file()
    assert "index.html" in capsys.readouterr().out


def test_plots_without_the_extra_fail_before_any_work(classes, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["evaluate", str(classes), *FAST, "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert "cacheproxy[plots]" in told.err
    assert not told.out


def test_a_prior_is_fitted_and_used(classes, tmp_path, capsys):
    prior = tmp_path / "a" / "prior.json"
    report = reported(capsys, "calibrate", "--train", classes, "--write", prior, "--requests", "60")
    assert report["embedding_model"] == "hashed-256"
    assert 0 < report["wrong"] < report["labels"]
    arms = reported(capsys, "evaluate", classes, *FAST, "--policy", "certified", "--prior", prior)["arms"]
    assert arms[0]["requests"] == 60


def test_a_prior_goes_to_the_data_directory(pairs, tmp_path, capsys):
    assert run(["calibrate", "--train", str(pairs), "--data-dir", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "prior.json").read_text("utf-8"))["trained_on"][0]["labels"] == 6
    assert "6 verdicts, 3 of them wrong" in capsys.readouterr().out


def test_a_prior_can_be_fitted_on_labels(labels, tmp_path, capsys):
    report = reported(capsys, "calibrate", "--train", labels, "--write", tmp_path / "prior.json")
    assert report["labels"] == 305
    assert report["embedding_model"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_another_models_prior_is_refused(labels, classes, tmp_path, capsys):
    prior = tmp_path / "prior.json"
    assert run(["calibrate", "--train", str(labels), "--write", str(prior)]) == 0
    assert run(["evaluate", str(classes), *FAST, "--prior", str(prior)]) == 1
    assert "the embedding model is hashed-256" in capsys.readouterr().err


@pytest.fixture
def verifying(monkeypatch):
    """A verifier is set, which needs no model."""

    class Verifier:
        name = "scripted"

        async def compare(self, asked, stored):
            return 0.75

    @asynccontextmanager
    async def opened(settings, embedder):
        yield Verifier()

    monkeypatch.setattr(opening, "open_verifier", opened)
    monkeypatch.setenv("CACHEPROXY_DECISION__VERIFIER", "scripted")


def test_a_prior_is_fitted_with_the_verifier_that_is_set_and_needs_it(verifying, pairs, tmp_path, capsys, monkeypatch):
    prior = tmp_path / "prior.json"
    assert run(["calibrate", "--train", str(pairs), "--write", str(prior)]) == 0
    assert json.loads(prior.read_text("utf-8"))["verifier"] == "scripted"
    assert reported(capsys, "evaluate", pairs, "--policy", "certified", "--prior", prior)["arms"]
    monkeypatch.delenv("CACHEPROXY_DECISION__VERIFIER")
    assert run(["evaluate", str(pairs), "--prior", str(prior)]) == 1
    assert "made with the verifier scripted, decision.verifier is none" in capsys.readouterr().err


def test_verdicts_of_one_kind_make_no_prior(tmp_path, capsys):
    file = write_lines(tmp_path / "pairs.jsonl", [{"a": "Why?", "b": "But why?", "same": 1}])
    assert run(["calibrate", "--train", str(file), "--write", str(tmp_path / "prior.json")]) == 1
    assert "both kinds are needed" in capsys.readouterr().err
    assert not (tmp_path / "prior.json").exists()


def test_labels_lead_to_a_certificate(labels, tmp_path, capsys):
    report = reported(capsys, "calibrate", labels, "--budget", "0.03", "--out", tmp_path / "out")
    assert report["sources"]["miss"]["of"] == 300
    assert 0.03 in [line["budget"] for line in report["budgets"]]
    assert (tmp_path / "out" / "reliability.png").is_file()
    assert run(["calibrate", str(labels)]) == 0
    assert "certified" in capsys.readouterr().out


@pytest.fixture
def recorded(tmp_path):
    """A data directory whose store has labels of the pool ``default``."""

    record(tmp_path, 300)
    return tmp_path


def record(data_dir, labels):
    async def fill():
        now = time.time()
        async with opening.open_books(Settings(data_dir=data_dir)) as (_, kept):
            await kept.add("default", [replace(label, at=now + label.at / 1e6) for label in made_up_labels(labels)])

    asyncio.run(fill())


def test_the_stores_own_labels_lead_to_a_certificate(recorded, capsys):
    report = reported(capsys, "calibrate", "--data-dir", recorded)
    assert report["sources"]["miss"]["of"] == 300


def test_labels_that_the_store_does_not_keep_any_more_count_as_looked_at(tmp_path, capsys):
    record(tmp_path, LABELS_KEPT + 100)
    report = reported(capsys, "calibrate", "--data-dir", tmp_path)
    assert (report["labels"], report["earlier"]) == (LABELS_KEPT, 100)


def test_a_prior_can_be_fitted_on_the_stores_own_labels(recorded, capsys):
    report = reported(capsys, "calibrate", "--train", "--data-dir", recorded)
    assert report["labels"] == 300
    assert json.loads((recorded / "prior.json").read_text("utf-8"))["trained_on"][0]["name"] == "pool default"


def test_a_pool_without_labels_is_told_with_those_that_have_some(recorded, capsys):
    assert run(["calibrate", "--data-dir", str(recorded), "--pool", "docs"]) == 1
    assert "these have some: default" in capsys.readouterr().err


def test_a_store_that_is_not_there_is_told(tmp_path, capsys):
    assert run(["calibrate", "--data-dir", str(tmp_path)]) == 1
    assert "there is no store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["evaluate", "FILE", "--cold", "--prior", "x"], "--cold", id="cold-with-a-prior"),
        pytest.param(["evaluate", "FILE", "--budget", "2"], "--budget", id="budget"),
        pytest.param(["evaluate", "FILE", "--policy", "best"], "--policy", id="policy"),
    ],
)
def test_wrong_use_is_told(arguments, said, classes, capsys):
    assert run([str(classes) if argument == "FILE" else argument for argument in arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path, capsys):
    assert run(["evaluate", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
