"""Going over to other settings, and what does not start or hangs meanwhile: real processes, and nobody is let down."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

import pytest
from support.groups import LOADING_S, WORKERS, Group, eventually, traffic
from support.servers import PATIENCE_S, PATIENT, Process, environment, keeping_still

from cacheproxy.lab.simulate import SimulateOptions, serving

pytestmark = pytest.mark.timeout(5 * PATIENCE_S)
STAYED = "the settings stay as they were, and what serves goes on"
TAKEN = "the settings are in force as they are now"


@pytest.fixture(scope="module")
def upstream(host):
    with host.open(serving(SimulateOptions(port=0))) as url:
        yield url


@pytest.fixture(scope="module")
def alone(upstream, tmp_path_factory):
    """One process that serves by itself."""
    group = Group(tmp_path_factory.mktemp("alone"), upstream, mode="exact", workers=1)
    yield group
    group.process.close()


@pytest.fixture
def several(upstream, tmp_path):
    """Opens groups of workers: ``several(**settings)``."""
    groups = []

    def opened(**settings):
        groups.append(Group(tmp_path, upstream, mode="exact", **settings))
        return groups[-1]

    yield opened
    for group in groups:
        group.process.close()


@pytest.fixture
def stuck():
    """Makes data directories like one on a disk that hangs: whoever reads the secret there waits for the test's end."""
    pipes = []

    def make(folder):
        folder.mkdir(exist_ok=True)
        pipes.append(folder / "secret")
        os.mkfifo(pipes[-1])
        return str(folder)

    yield make
    for pipe in pipes:
        with suppress(OSError):  # nobody reads it any more
            os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


async def reloaded(group, said, **settings):
    """Write settings, ask for them, and wait for what the log says of that."""
    lines = len(group.process.log)
    group.write(**settings)
    group.signal(signal.SIGHUP)
    await eventually(lambda: any(said in line for line in group.process.log[lines:]), LOADING_S)
    return "\n".join(group.process.log[lines:])


# --- one process


async def test_one_process_takes_other_settings_and_no_request_fails_meanwhile(callers, alone):
    http = callers()
    http.base = alone.base
    await http.ask("What do I use?")
    assert (await http.ask("What do I use?")).json["usage"]["total_tokens"] > 0
    async with traffic(callers, alone.base) as (failed, _):
        for usage in ("original", "zero"):
            await reloaded(alone, TAKEN, hit_usage=usage)
    assert failed == []
    told = await http.ask("What do I use?")
    assert (told.cache, told.json["usage"]["total_tokens"]) == (("Hit", "exact"), 0)
    async with http.session.get(f"{alone.served.admin}/api/v1/settings") as response:
        assert (await response.json())["settings"]["hit_usage"] == "zero"
    assert alone.served.ready()["status"] == "ready"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"treshold": 0.9}, "threshold"),
        ({"listen": "127.0.0.1:1"}, "listen cannot change"),
        ({"workers": 2}, "workers cannot change"),
        ({"store": "sqlite:////proc/nowhere/db"}, "cannot open the store"),
    ],
    ids=["a mistake", "where it listens", "whether there is a supervisor", "a store that cannot be opened"],
)
async def test_one_process_goes_on_where_it_cannot_have_the_settings(callers, alone, changes, said):
    assert said in await reloaded(alone, STAYED, **changes)
    assert (await callers().ask("Still here?", base=alone.base)).status == 200


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_end_after_a_reload_waits_for_no_silent_caller(several, workers):
    """What was replaced waited for the next request of whoever kept a connection open, up to ``drain_s``."""
    group = several(workers=workers, deadlines={**PATIENT, "drain_s": 3600})
    async with keeping_still(group.base.partition("//")[2]):
        await reloaded(group, TAKEN)
        assert await asyncio.to_thread(group.process.terminate) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_started_in_a_terminal_ends_with_it(upstream, tmp_path, workers):
    """SIGHUP is what comes then, too."""
    ours, theirs = os.openpty()
    arguments = ("serve", "--mode", "exact", "--upstream-url", upstream, "--workers", str(workers))
    places = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    process = Process([*arguments, *places], environment(), terminal=theirs)
    os.close(theirs)
    try:
        process.served(LOADING_S)
        os.close(ours)
        assert process.process.wait(PATIENCE_S) == 0
    finally:
        process.close()


# --- several


async def test_when_a_new_worker_hangs_as_it_starts_the_old_ones_go_on_and_can_be_replaced_later(
    callers, several, stuck, tmp_path
):
    group = several()
    before = group.pids()
    said = await reloaded(
        group, STAYED, data_dir=stuck(tmp_path / "stuck"), deadlines={**PATIENT, "drain_s": 20, "start_s": 1}
    )
    assert "worker 1 was not ready within 1 s (deadlines.start_s)" in said
    await eventually(lambda: group.pids() == before)
    assert (await callers().ask("Still here?", base=group.base)).status == 200
    await reloaded(group, TAKEN)
    await eventually(lambda: len(group.pids()) == WORKERS and not group.pids() & before)


async def test_a_worker_that_hangs_as_it_is_started_again_keeps_no_reload_waiting(callers, several, stuck, tmp_path):
    group = several()
    before = group.pids()
    secret = group.data / "secret"
    secret.rename(group.data / "kept")
    stuck(group.data)
    os.kill(min(before), signal.SIGKILL)
    await eventually(lambda: group.pids() - before)
    hanging = group.pids() - before
    await reloaded(group, TAKEN, data_dir=str(tmp_path / "other"))
    await eventually(lambda: len(group.pids() - before - hanging) == WORKERS)
    assert (await callers().ask("Are you there?", base=group.base)).status == 200
    assert await asyncio.to_thread(group.process.terminate) == 0
    assert group.said("did not end in") == []  # nobody waited for the one that hangs


async def test_whoever_connects_while_a_worker_is_silent_is_answered_by_another(callers, several):
    group = several(deadlines={**PATIENT, "drain_s": 20, "hung_s": 3 * PATIENCE_S})
    before = group.pids()
    os.kill(min(before), signal.SIGSTOP)
    try:
        for number in range(24):  # of which half knock at its door
            assert (await callers().ask(f"Question {number}?", base=group.base)).status == 200
    finally:
        os.kill(min(before), signal.SIGCONT)
    assert group.pids() == before
    assert (await callers().ask("And now?", base=group.base)).status == 200


def test_a_worker_that_hangs_at_the_first_start_ends_everything_with_its_reason(cacheproxy, stuck, tmp_path):
    status, _, said = cacheproxy(
        *("serve", "--workers", "2", "--mode", "exact", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
        CACHEPROXY_DATA_DIR=stuck(tmp_path / "stuck"),
        CACHEPROXY_DEADLINES__START_S="1",
    )
    assert status == 1
    assert said.splitlines()[-1] == "cacheproxy: worker 1 was not ready within 1 s (deadlines.start_s)"
    assert "Traceback" not in said
