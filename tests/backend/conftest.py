"""A language model that is made here, in seconds: Llama-shaped, tiny, and taught until it truly answers.

It knows the answers to ``KNOWN``, calls a tool when it is asked about the weather and has one, and counts as long as it
is let. ``model`` is its folder; ``loaded`` is it, ready to run; ``engine`` runs it in batches.
"""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager, contextmanager

import aiohttp
import pytest
import torch
from aiohttp import web
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cacheproxy.backend.batched import BatchOptions, open_batched
from cacheproxy.backend.loading import ModelOptions, load
from cacheproxy.backend.prompts import Prompter

KNOWN = {
    "What is the capital of France?": "The capital of France is Paris.",
    "What is the capital of Italy?": "The capital of Italy is Rome.",
    "Who wrote Hamlet?": "Shakespeare wrote Hamlet.",
    "How many legs has a spider?": "A spider has eight legs.",
    "What colour is the sky?": "The sky is blue on a clear day.",
    "What is two plus two?": "Two plus two is four.",
}
COUNT = "Count."
NUMBERS = " ".join(str(number) for number in range(1, 40))
WEATHER = "Weather in Rome?"
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
SUN = "It is sunny in Rome."
TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role not in ["system", "user", "assistant", "tool"] %}{{ raise_exception("no such role") }}{% endif -%}
<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open_pattern": r"\s*<tool_call>",
            "close": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"\s*<\|im_end\|>", "content": "text"},
    },
}


def chat(*turns, tools=None):
    roles = ("user", "assistant")
    messages = [
        turn if isinstance(turn, dict) else {"role": roles[place % 2], "content": turn}
        for place, turn in enumerate(turns)
    ]
    return {"messages": messages, "tools": tools}


def lessons():
    """Conversations without their last turn, and that turn."""
    called = {"role": "assistant", "content": "", "tool_calls": [{"function": json.loads(CALL.split("\n")[1])}]}
    result = {"role": "tool", "content": "sunny"}
    return [
        *((chat(question), answer) for question, answer in KNOWN.items()),
        (chat(COUNT), NUMBERS),
        (chat(WEATHER, tools=[TOOL]), CALL),
        (chat(WEATHER, called, result, tools=[TOOL]), SUN),
    ]


def make_tokenizer(texts):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.response_template = RESPONSE_TEMPLATE
    return tokenizer


def make_model(tokenizer, *, layers=2):
    torch.manual_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


@contextmanager
def one_thread():
    """For work too small to be shared out: threads that wait for each other cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def teach(model, tokenizer, taught, *, below=0.008, most=600):
    """Train until the loss is small: every last turn is then known by heart."""
    rows = []
    for conversation, answer in taught:
        text = tokenizer.apply_chat_template(
            conversation["messages"], tools=conversation["tools"], add_generation_prompt=True, tokenize=False
        )
        before = tokenizer.encode(text, add_special_tokens=False)
        rows.append((before, tokenizer.encode(answer + tokenizer.eos_token, add_special_tokens=False)))
    width = max(len(before) + len(after) for before, after in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), -100)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for row, (before, after) in enumerate(rows):
        both = before + after
        ids[row, : len(both)] = torch.tensor(both)
        mask[row, : len(both)] = 1
        labels[row, len(before) : len(both)] = torch.tensor(after)
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3)
    loss = torch.tensor(1.0)
    for _ in range(most):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < below:
            break
    model.eval()
    return loss.item()


@pytest.fixture(scope="session", autouse=True)
def _quiet():
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)


@pytest.fixture(scope="session")
def known():
    """What the model knows: answers by question."""
    return KNOWN


@pytest.fixture(scope="session")
def tokenizer():
    texts = [text for conversation, answer in lessons() for text in (answer, json.dumps(conversation))]
    return make_tokenizer(texts)


@pytest.fixture(scope="session")
def model(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pupil = make_model(tokenizer)
    loss = teach(pupil, tokenizer, lessons())
    assert loss < 0.01, loss
    pupil.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def assistant(tokenizer, tmp_path_factory):
    """A smaller model that half knows the same."""
    folder = tmp_path_factory.mktemp("models") / "draft"
    pupil = make_model(tokenizer, layers=1)
    teach(pupil, tokenizer, lessons(), below=0.3)
    pupil.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def loaded(model):
    return load(ModelOptions(model, device="cpu"))


@pytest.fixture
async def engine(loaded):
    engine = await open_batched(loaded, BatchOptions(max_running=8))
    yield engine
    await engine.aclose()


@pytest.fixture
def prompter(loaded):
    prompter = Prompter(loaded, context=loaded.context)
    yield prompter
    prompter.aclose()


@pytest.fixture
def aiohttp_server_of():
    """Serves an application; gives a session that is already there."""

    @asynccontextmanager
    async def serving(app):
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            async with aiohttp.ClientSession(base_url=f"http://{host}:{port}") as session:
                yield session
        finally:
            await runner.cleanup()

    return serving


@pytest.fixture(name="one_thread")
def _one_thread():
    return one_thread


@pytest.fixture
def big_model(aiohttp_server_of):
    """An upstream that knows the answers it is given; its base URL."""

    @asynccontextmanager
    async def serving(known):
        async def chat(request):
            body = await request.json()
            message = {"role": "assistant", "content": known[body["messages"][-1]["content"]]}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            head = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
            return web.json_response({**head, "choices": [choice]})

        app = web.Application()
        app.router.add_post("/v1/chat/completions", chat)
        async with aiohttp_server_of(app) as session:
            yield f"{session._base_url.origin()}/v1"

    return serving
