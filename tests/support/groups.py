"""A proxy of one or several workers as a process of its own, whose settings file a test may change while it serves."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager

import aiohttp
import psutil
from support.servers import PATIENCE_S, PATIENT, Process, environment

WORKERS = 2
LOADING_S = 2 * PATIENCE_S
"""A model and two workers, on a machine that does much else."""


class Group:
    """A proxy of several workers, over a settings file that tests may change."""

    def __init__(self, folder, upstream, **settings):
        self.file = folder / "cacheproxy.yaml"
        self.data = folder / "data"
        self.settings = {
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "data_dir": str(self.data),
            "upstream_url": upstream,
            "workers": WORKERS,
            "deadlines": {**PATIENT, "drain_s": 20},
            **settings,
        }
        self.write()
        self.process = Process(["serve", "--config", str(self.file)], environment())
        self.served = self.process.served(LOADING_S)
        self.base = self.served.url

    def write(self, **changes):
        """Change the settings file; JSON is YAML."""
        self.file.write_text(json.dumps({**self.settings, **changes}))

    def pids(self, kind="worker"):
        """The processes of a kind that run."""
        children = psutil.Process(self.process.pid).children()
        return {child.pid for child in children if f"cacheproxy.workers.{kind}" in command(child)}

    def signal(self, number):
        os.kill(self.process.pid, number)

    def said(self, words):
        return [line for line in self.process.log if words in line]


def command(process):
    """What a process was started with; nothing of one that ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


async def eventually(condition, patience_s=PATIENCE_S):
    """Wait until a condition holds, which may be a coroutine's: what is waited for happens in other processes."""
    async with asyncio.timeout(patience_s):
        while True:
            held = condition()
            if await held if asyncio.iscoroutine(held) else held:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def traffic(callers, base):
    """Callers that ask without a pause, by connections that stay open and by new ones; yields what failed."""
    failed, answered, ending = [], [], asyncio.Event()

    async def keep_asking(http, number):
        asked = 0
        while not ending.is_set():
            asked += 1
            try:
                told = await http.ask(f"Question {number} of {asked % 7}?", base=base, stream=bool(asked % 2))
                assert told.status == 200
                answered.append(told)
            except (aiohttp.ClientError, OSError) as error:
                failed.append(error)

    asking = [asyncio.ensure_future(keep_asking(callers(kept=number % 2 == 0), number)) for number in range(6)]
    await eventually(lambda: len(answered) > 20)
    yield failed, answered
    seen = len(answered)
    await eventually(lambda: len(answered) > seen + 20)
    ending.set()
    await asyncio.gather(*asking)
