"""A worker: the proxy, without listeners and a model of its own. ``python -m cacheproxy.workers.worker DESCRIPTOR``.

It takes up the slots that the supervisor names. It ends when told to, on SIGTERM, and when the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from cacheproxy.address import Address
from cacheproxy.errors import ProxyError
from cacheproxy.logs import set_up_log
from cacheproxy.tasks import TaskSet
from cacheproxy.wiring import Seat, SharedModel, open_proxy
from cacheproxy.workers.control import Control, unpacked

if TYPE_CHECKING:
    from cacheproxy.jsontext import JsonObject
    from cacheproxy.server.listen import Slots
    from cacheproxy.settings import Settings
    from cacheproxy.wiring import Running


def main(descriptor: int) -> int:
    """Serve; the exit status."""
    return uvloop.run(_live(descriptor))


async def _live(descriptor: int) -> int:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    control = await Control.inherited(descriptor)
    first = await control.hear()
    if first is None:
        return 1
    settings = unpacked(first["settings"])
    set_up_log(settings.log, process=str(first["name"]))
    try:
        async with open_proxy(settings, _seat(settings, first)) as running:
            control.say(ready=True, told=_described(running))
            await _serve(running, settings, control, told)
    except ProxyError as error:
        control.say(failed=error.message)
        await control.aclose()
        return 1
    control.say(metrics=running.render().decode())
    await control.aclose()
    return 0


async def _serve(running: Running, settings: Settings, control: Control, told: asyncio.Event) -> None:
    """Take up slots as the supervisor says, until it is time to go."""
    assert running.slots is not None  # noqa: S101 - a worker has a seat, and so slots
    async with TaskSet("worker") as tasks:
        obeying = tasks.begin(_obey(running.slots, control), name="obey")
        signalled = tasks.begin(told.wait(), name="signal")
        await asyncio.wait({obeying, signalled}, return_when=asyncio.FIRST_COMPLETED)
        running.leave()
        control.say(leaving=True)
        if not obeying.done() or obeying.result() != "replaced":
            await asyncio.sleep(_unready_s(obeying, settings))
            return
        retiring = tasks.begin(running.slots.retire(), name="retire")
        obeying = tasks.begin(_obey(running.slots, control), name="obey")
        await asyncio.wait({retiring, obeying, signalled}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({retiring}, timeout=_unready_s(obeying, settings))  # the others end, too
        running.slots.hurry()
        await retiring


def _unready_s(obeying: asyncio.Task[float | str | None], settings: Settings) -> float:
    """How long load balancers get to see that this one ends, as far as it was told."""
    how = obeying.result() if obeying.done() else None
    return settings.deadlines.unready_s if how is None else float(how)


async def _obey(slots: Slots, control: Control) -> float | str | None:
    """Until it is to leave; how: after so many seconds, ``replaced``, or None when the supervisor is gone."""
    while (heard := await control.hear()) is not None:
        if "slots" in heard:
            await slots.take(heard["slots"])
        if "leave" in heard:
            how: float | str = heard["leave"]
            return how
    return None


def _seat(settings: Settings, first: JsonObject) -> Seat:
    model = first.get("model")
    return Seat(
        listen=Address.parse(str(first["listen"])),
        sockets=first["sockets"],
        admin=settings.admin_listen,
        admin_sockets=Path(str(first["admin"])),
        model=None if model is None else SharedModel(Path(str(model["path"])), model["hello"]),
        no_model=str(first["no_model"]),
    )


def _described(running: Running) -> JsonObject:
    return {
        "upstream_url": running.upstream_url,
        "store": running.store,
        "model": running.model,
        "no_model": running.no_model,
    }


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
