"""The process that has the embedding model, for all workers. ``python -m cacheproxy.workers.embedding DESCRIPTOR``.

It ends when the supervisor says so or is gone, and on no other signal but a kill: the workers that a SIGTERM to
everybody lets finish still need it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from cacheproxy.embed.shared import sharing
from cacheproxy.errors import PortUnavailable, ProxyError
from cacheproxy.logs import set_up_log
from cacheproxy.opening import open_embedder, open_verifier
from cacheproxy.server.admin import metrics_alone
from cacheproxy.server.listen import admin_socket
from cacheproxy.server.metrics import Metrics
from cacheproxy.workers.control import Control, unpacked

_DEAF_TO = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(descriptor: int) -> int:
    """Embed; the exit status."""
    return uvloop.run(_live(descriptor))


async def _live(descriptor: int) -> int:
    loop = asyncio.get_running_loop()
    for number in _DEAF_TO:
        loop.add_signal_handler(number, lambda: None)
    control = await Control.inherited(descriptor)
    first = await control.hear()
    if first is None:
        return 1
    settings = unpacked(first["settings"])
    set_up_log(settings.log, process=str(first["name"]))
    metrics = Metrics()
    try:
        async with open_embedder(settings, metrics.batched) as embedder, open_verifier(settings, embedder) as verifier:
            metrics.watch("embedding_queue", lambda: embedder.waiting)
            shared = sharing(
                embedder,
                Path(str(first["model"])),
                patient=embedder.patient,
                verifier=verifier,
                device=embedder.device,
            )
            async with (
                shared as hello,
                admin_socket(metrics_alone(metrics), Path(str(first["admin"]))),
            ):
                control.say(ready=True, no_model="", hello=hello)
                while (heard := await control.hear()) is not None and "leave" not in heard:
                    pass
            control.say(metrics=metrics.render().decode())
    except PortUnavailable as error:
        control.say(ready=False, no_model=error.message)
    except ProxyError as error:
        control.say(failed=error.message)
    await control.aclose()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
