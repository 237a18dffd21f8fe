"""One model for several processes: whoever asks is answered, whatever becomes of the process that has the model."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import pytest

from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.embed.shared import _HEAD, _Frames, _Kind, open_shared, sharing
from cacheproxy.errors import Overloaded, PortUnavailable, TurnTooLong


class Gated(HashedEmbedder):
    """An embedder that holds texts back until it is told to go on, and knows who left."""

    def __init__(self, dimension=256):
        super().__init__(dimension)
        self.gate = asyncio.Event()
        self.held = []
        self.left = []

    async def embed(self, text):
        if text.startswith("wait"):
            self.held.append(text)
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.left.append(text)
                raise
        if text == "busy":
            raise Overloaded("too many texts wait")
        if text == "broken":
            raise PortUnavailable("the model broke")
        return await super().embed(text)


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - several things are waited for
            await asyncio.sleep(0)


@pytest.fixture
async def stack():
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def model(stack, tmp_path):
    model = Gated()
    await stack.enter_async_context(sharing(model, tmp_path / "socket", device="cpu"))
    return model


@pytest.fixture
async def shared(stack, model, tmp_path):
    return await stack.enter_async_context(await open_shared(tmp_path / "socket", max_waiting=3))


async def test_it_is_the_model_that_is_shared(shared, model):
    assert (shared.model, shared.dimension, shared.device) == (model.model, model.dimension, "cpu")
    np.testing.assert_array_equal(await shared.embed("How are you?"), await model.embed("How are you?"))


async def test_a_vector_cannot_be_changed_by_whoever_got_it(shared):
    assert not (await shared.embed("How are you?")).flags.writeable


async def test_answers_find_their_questions_in_whatever_order_they_come(shared, model):
    slow = asyncio.ensure_future(shared.embed("wait for me"))
    await until(lambda: model.held)
    quick = await shared.embed("quick")
    model.gate.set()
    np.testing.assert_array_equal(quick, await model.embed("quick"))
    np.testing.assert_array_equal(await slow, await model.embed("wait for me"))


@pytest.mark.parametrize(
    ("text", "refusal"),
    [("word " * 300, TurnTooLong), ("x" * 2_000_000, TurnTooLong), ("busy", Overloaded), ("broken", PortUnavailable)],
    ids=["over the window", "over any window", "busy", "broken"],
)
async def test_a_refusal_comes_back_as_what_it_is(shared, text, refusal):
    with pytest.raises(refusal):
        await shared.embed(text)


async def test_whoever_leaves_takes_the_text_out_of_the_queue(shared, model):
    asking = asyncio.ensure_future(shared.embed("wait"))
    await until(lambda: model.held)
    asking.cancel()
    await until(lambda: model.left == ["wait"])


async def test_a_process_that_ends_takes_its_texts_out_of_the_queue(shared, model):
    asking = asyncio.ensure_future(shared.embed("wait"))
    await until(lambda: model.held)
    await shared.aclose()
    await until(lambda: model.left == ["wait"])
    with pytest.raises(PortUnavailable):
        await asking


async def test_so_many_texts_wait_and_no_more(shared, model):
    asked = [asyncio.ensure_future(shared.embed(f"wait {number}")) for number in range(3)]
    await until(lambda: len(model.held) == 3)
    with pytest.raises(Overloaded):
        await shared.embed("one more")
    model.gate.set()
    assert len(await asyncio.gather(*asked)) == 3


async def test_everyone_is_answered_when_the_model_goes_and_served_when_it_is_back(stack, tmp_path):
    model, path = Gated(), tmp_path / "socket"
    async with sharing(model, path):
        shared = await stack.enter_async_context(await open_shared(path))
        asking = asyncio.ensure_future(shared.embed("wait"))
        await until(lambda: model.held)
    with pytest.raises(PortUnavailable):
        await asking
    with pytest.raises(PortUnavailable):
        await shared.embed("nobody is there")
    path.unlink(missing_ok=True)
    async with sharing(HashedEmbedder(), path):
        assert (await shared.embed("back again")).shape == (256,)


async def test_another_model_in_its_place_is_refused(stack, tmp_path):
    path = tmp_path / "socket"
    async with sharing(HashedEmbedder(), path):
        shared = await stack.enter_async_context(await open_shared(path))
    await until(lambda: shared._link.lost)
    path.unlink(missing_ok=True)
    async with sharing(HashedEmbedder(64), path):
        with pytest.raises(PortUnavailable, match="hashed-64"):
            await shared.embed("who are you?")


async def test_no_model_is_unavailable(tmp_path):
    with pytest.raises(PortUnavailable):
        await open_shared(tmp_path / "nobody")


def test_frames_may_be_cut_anywhere():
    sent = [(_Kind.EMBED, 7, b"text"), (_Kind.LEFT, 7, b""), (_Kind.ANSWER, 8, bytes(range(40)))]
    data = b"".join(_HEAD.pack(kind, number, len(content)) + content for kind, number, content in sent)
    for step in range(1, len(data) + 1):
        frames = _Frames()
        told = [frame for at in range(0, len(data), step) for frame in frames.feed(data[at : at + step])]
        assert told == sent


class Lengths:
    """A verifier that compares lengths."""

    name = "lengths"

    async def compare(self, asked, stored):
        return min(len(asked), len(stored)) / max(len(asked), len(stored))


async def test_what_compares_questions_is_shared_too(stack, tmp_path):
    await stack.enter_async_context(sharing(HashedEmbedder(), tmp_path / "socket", verifier=Lengths()))
    shared = await stack.enter_async_context(await open_shared(tmp_path / "socket"))
    assert shared.verifier.name == "lengths"
    assert await shared.verifier.compare("four", "two") == 0.75


async def test_where_nothing_compares_questions_there_is_no_verifier(shared):
    assert shared.verifier is None
    with pytest.raises(PortUnavailable):
        await shared.compare("one", "other")


async def test_texts_that_nobody_waits_for_go_to_the_patient_one(stack, tmp_path):
    patient = HashedEmbedder(64)
    await stack.enter_async_context(sharing(HashedEmbedder(), tmp_path / "socket", patient=patient))
    shared = await stack.enter_async_context(await open_shared(tmp_path / "socket"))
    assert (await shared.embed("now")).size == 256
    assert (await shared.patient.embed("some time")).size == 64


async def test_a_model_that_says_nothing_is_not_waited_for_and_its_connection_is_closed(tmp_path):
    """As while its process hangs: the kernel accepts for it."""
    came, closed = asyncio.Event(), asyncio.Event()

    async def silent(reader, writer):
        came.set()
        await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_unix_server(silent, tmp_path / "socket")
    async with server, asyncio.timeout(30):
        asking = asyncio.ensure_future(open_shared(tmp_path / "socket"))
        await came.wait()
        asking.cancel()
        await asyncio.wait({asking})
        await closed.wait()


async def test_one_who_knows_the_model_may_come_while_it_is_away_and_has_it_once_it_is_there(tmp_path):
    """A worker that was started again before the embedding process was had no model for ever."""
    path = tmp_path / "socket"
    async with sharing(HashedEmbedder(), path, device="cpu") as hello:
        pass
    async with await open_shared(path, hello=hello) as shared:
        assert (shared.model, shared.dimension, shared.device) == (HashedEmbedder().model, 256, "cpu")
        with pytest.raises(PortUnavailable):
            await shared.embed("a text")
        async with sharing(HashedEmbedder(), path):
            assert np.array_equal(await shared.embed("a text"), await HashedEmbedder().embed("a text"))
