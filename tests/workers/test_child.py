"""A process that was started: what it says, and how its end is told."""

import asyncio
import os
import signal
import sys

import pytest
from support.waiting import until

from cacheproxy.errors import ConfigError
from cacheproxy.settings import Settings
from cacheproxy.workers.child import Child

SCRIPT = """
import asyncio, os, signal, sys
from cacheproxy.workers.control import Control, unpacked

async def main():
    control = await Control.inherited(int(sys.argv[1]))
    first = await control.hear()
    match first["act"]:
        case "fail":
            control.say(failed="nothing works")
        case "die":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            await asyncio.sleep(600)
        case "hang after hanging up":
            await control.aclose()
            await asyncio.sleep(600)
        case "serve":
            control.say(ready=True, store=unpacked(first["settings"]).store)
            while (heard := await control.hear()) is not None and "leave" not in heard:
                pass
            control.say(metrics="last words")
        case "go":
            control.say(ready=True)
            control.say(leaving=True)
            await asyncio.sleep(600)
        case "stay":
            control.say(ready=True)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            await asyncio.sleep(600)
    await control.aclose()

asyncio.run(main())
"""


@pytest.fixture
async def start(tmp_path, monkeypatch):
    (tmp_path / "acting.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started = []

    async def build(act):
        child = await Child.start("somebody", "acting", Settings(store="sqlite:///x"), act=act)
        started.append(child)
        return child

    yield build
    for child in started:
        child.kill()
        await child.ended()


async def test_it_gets_its_settings_says_when_it_is_ready_and_has_last_words(start):
    child = await start("serve")
    assert (await child.readied(60))["store"] == "sqlite:///x"
    assert (child.alive, child.ending) == (True, "runs")
    child.say(leave=True)
    await child.ended()
    assert child.gone.is_set()
    assert (child.goodbye, child.ending) == ({"metrics": "last words"}, "ended with status 0")


@pytest.mark.parametrize(
    ("act", "said"),
    [("fail", "^nothing works"), ("die", "somebody ended with status 3"), ("kill", "somebody was killed by SIGKILL")],
)
async def test_one_that_never_becomes_ready_says_why(start, act, said):
    with pytest.raises(ConfigError, match=said):
        await (await start(act)).readied(60)


@pytest.mark.parametrize("how", ["hang", "hang after hanging up"])
async def test_one_that_hangs_before_it_is_ready_is_not_waited_for_for_ever(start, how):
    child = await start(how)
    with pytest.raises(ConfigError, match=r"somebody was not ready within 2 s \(deadlines\.start_s\)"):
        await child.readied(2)


async def test_one_that_does_not_end_is_killed(start):
    child = await start("stay")
    await child.readied(60)
    assert not await child.stop(0.01)
    assert child.ending == "was killed by SIGKILL"
    assert await child.stop(10)


async def test_it_is_out_of_reach_of_the_terminal(start):
    if sys.platform == "win32":
        pytest.skip("no sessions there")
    child = await start("serve")
    await child.readied(60)
    assert os.getsid(child.pid) != os.getsid(0)


async def test_one_that_gives_no_sign_of_life_is_killed(start):
    child = await start("stay")
    await child.readied(60)
    ending = asyncio.ensure_future(child.ended())
    await child.watched(0.05)
    await ending
    assert child.ending == "was killed by SIGKILL"


async def test_one_that_is_silent_for_a_while_is_said_to_be_and_heard_again(start):
    child = await start("serve")
    await child.readied(60)
    os.kill(child.pid, signal.SIGSTOP)
    told = []
    ending = asyncio.ensure_future(child.ended())
    watching = asyncio.ensure_future(child.watched(600, lambda: told.append(child.silent), beat_s=0.05))
    await until(lambda: told == [True])
    os.kill(child.pid, signal.SIGCONT)
    await until(lambda: told == [True, False])
    child.leave(how=True)
    await asyncio.gather(ending, watching)
    assert child.ending == "ended with status 0"


async def test_one_that_answers_is_left_alone(start):
    child = await start("serve")
    await child.readied(60)
    ending, watching = asyncio.ensure_future(child.ended()), asyncio.ensure_future(child.watched(60))
    await until(lambda: child._control.signs)
    child.leave(how=True)
    await asyncio.gather(ending, watching)
    assert child.ending == "ended with status 0"


@pytest.mark.parametrize("asked", [True, False], ids=["asked to", "by itself"])
async def test_one_that_is_leaving_gives_no_sign_any_more_and_is_left_alone(start, asked):
    child = await start("stay" if asked else "go")
    await child.readied(60)
    ending = asyncio.ensure_future(child.ended())
    if asked:
        child.leave(how=True)
    else:
        await until(lambda: child.goodbye)
    await child.watched(0.01)
    assert child.alive
    child.kill()
    await ending
