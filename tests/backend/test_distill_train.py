"""Lessons are learnt, and the whole way from the cache to a model that serves."""

from __future__ import annotations

import json

import openai
import pytest

from cacheproxy.address import Address
from cacheproxy.backend.distill_export import LessonRules, export
from cacheproxy.backend.distill_train import Method, TrainOptions, train
from cacheproxy.backend.loading import ModelOptions, load
from cacheproxy.backend.running import BackendOptions, open_backend
from cacheproxy.errors import ConfigError
from cacheproxy.model import Selection
from cacheproxy.settings import Settings
from cacheproxy.store.sqlite import open_sqlite
from cacheproxy.store.sqlite_labels import SqliteLabels
from cacheproxy.wiring import open_proxy

NEW = {
    "The moon is round and white.": [
        "What is the moon?",
        "Tell me what the moon is.",
        "Moon: what is it?",
        "So what is the moon?",
    ],
    "A cat has four legs.": [
        "How many legs has a cat?",
        "Legs of a cat?",
        "A cat has how many legs?",
        "How many legs a cat has?",
    ],
    "Snow is cold and wet.": [
        "What is snow like?",
        "Tell me what snow is like.",
        "Snow: what is it like?",
        "So what is snow like?",
    ],
}
PAIRS = [(question, answer) for answer, asked in NEW.items() for question in asked]


def write(path, pairs):
    chats = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in pairs
    ]
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    return path


@pytest.fixture
def lessons(tmp_path):
    return write(tmp_path / "lessons.jsonl", PAIRS)


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    with one_thread():
        yield


@pytest.mark.parametrize(("method", "rate", "epochs"), [(Method.FULL, 4e-3, 40), (Method.LORA, 2e-2, 60)])
def test_what_is_held_out_is_known_better_afterwards(model, lessons, tmp_path, method, rate, epochs):
    steps = []
    options = TrainOptions(ModelOptions(model, device="cpu"), method=method, epochs=epochs, rate=rate, held_out=0.25)
    report = train(options, lessons, tmp_path / "student", lambda *told: steps.append(told))
    assert report.learnt + report.held_out == len(PAIRS)
    assert report.held_out >= 2
    assert report.before.agreement == 0
    assert report.after.loss < report.before.loss / 2
    assert report.after.agreement >= report.before.agreement
    assert [step for step, _, _ in steps] == list(range(1, steps[-1][1] + 1))
    student = load(ModelOptions(str(tmp_path / "student"), device="cpu"))
    assert student.end_tokens
    assert (tmp_path / "student" / "adapter_config.json").exists() == (method is Method.LORA)


def test_the_same_seed_gives_the_same_student(model, lessons, tmp_path):
    options = TrainOptions(ModelOptions(model, device="cpu"), epochs=2, held_out=0.25)
    reports = [train(options, lessons, tmp_path / name, lambda *_: None) for name in "ab"]
    assert reports[0] == reports[1]
    assert reports[0].method is Method.FULL


@pytest.mark.parametrize("line", ["{", "{}", '{"messages": []}', '{"messages": [{"role": "user", "content": "x"}]}'])
def test_what_is_no_lesson_is_named_with_its_line(model, lessons, tmp_path, line):
    with lessons.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=f"line {len(PAIRS) + 1}"):
        train(TrainOptions(ModelOptions(model, device="cpu")), lessons, tmp_path / "s", lambda *_: None)


def test_nothing_that_fits_is_told(model, tmp_path):
    path = write(tmp_path / "long.jsonl", [("word " * 600, "x")])
    with pytest.raises(ConfigError, match="no lesson that fits"):
        train(TrainOptions(ModelOptions(model, device="cpu"), held_out=0), path, tmp_path / "s", lambda *_: None)


async def test_what_the_cache_held_the_student_answers_itself(model, tmp_path, big_model):
    """A large model behind the proxy, its answers in the cache, a student that learns them and serves in its place."""
    held = [asked[-1] for asked in NEW.values()]
    async with big_model(dict(PAIRS)) as upstream:
        settings = Settings(
            listen="127.0.0.1:0",
            admin_listen="127.0.0.1:0",
            data_dir=tmp_path / "data",
            upstream_url=upstream,
            policy="threshold",
            threshold=1.0,
            deadlines={"store_ms": 20_000, "embedder_ms": 20_000},
        )
        async with (
            open_proxy(settings) as proxy,
            openai.AsyncOpenAI(base_url=f"http://{proxy.data}/v1", api_key="sk-me", max_retries=0) as client,
        ):
            for question, _ in PAIRS:
                if question not in held:
                    await client.chat.completions.create(model="big", messages=[{"role": "user", "content": question}])
    path = tmp_path / "lessons.jsonl"
    async with open_sqlite(settings.database, clock=lambda: 1.0) as store:
        with path.open("wb") as file:
            rules = LessonRules(frozenset({"*"}), Selection())
            done = await export(store, SqliteLabels(store.database), rules, file.write, now=1.0)
    assert done.lessons == len(PAIRS) - len(held)
    options = TrainOptions(ModelOptions(model, device="cpu"), epochs=40, rate=4e-3, held_out=0)
    train(options, path, tmp_path / "student", lambda *_: None)

    async def told_by(name):
        backend = BackendOptions(ModelOptions(str(name), device="cpu"), name="m", listen=Address("127.0.0.1", 0))
        async with (
            open_backend(backend, now=lambda: 0.0) as running,
            openai.AsyncOpenAI(base_url=running.url, api_key="x", max_retries=0) as client,
        ):
            found = {}
            for question, _ in PAIRS:
                chat = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": question}], temperature=0, max_tokens=40
                )
                found[question] = chat.choices[0].message.content
        return found

    before, after = await told_by(model), await told_by(tmp_path / "student")
    wanted = dict(PAIRS)
    assert all(after[question] == wanted[question] for question in wanted if question not in held)
    better = sum(after[question] == wanted[question] for question in held)
    assert better > sum(before[question] == wanted[question] for question in held)
