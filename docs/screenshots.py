"""Makes the pictures of the dashboard in docs/images: a proxy, a simulated LLM, a day of questions, a browser.

    .venv/bin/python docs/screenshots.py [--requests N] [--out DIR]

The questions are the bundled ones (BANKING77), sent within some minutes; the proxy's clock is put forward between
them, so that they are booked over a day. Everything is on loopback. It needs Debian's chromium and the extra ``dev``.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import math
import shutil
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image
from playwright.async_api import async_playwright

from cacheproxy import opening, wiring
from cacheproxy.config import calm_threads
from cacheproxy.lab.questions import SAMPLE, classes_of, draw, read_questions
from cacheproxy.lab.replay import ReplayOptions, replay
from cacheproxy.lab.simulate import SimulateOptions, serving
from cacheproxy.settings import Settings
from cacheproxy.upstream.simulated import knowledge_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from playwright.async_api import Browser, Page

    from cacheproxy.lab.questions import Question
    from cacheproxy.wiring import Running

IMAGES: Final = Path(__file__).parent / "images"
HOURS: Final = 24
HOUR_S: Final = 3600
MODELS: Final = {"gpt-4o-mini": 0.8, "gpt-4o": 0.2}
"""And their shares of the questions."""
BROWSER: Final = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
SHOTS: Final = [
    ("overview", "overview", 1440, "light"),
    ("overview", "overview-dark", 1440, "dark"),
    ("overview", "overview-narrow", 390, "light"),
    ("economics", "economics", 1440, "light"),
    ("decision", "decision", 1440, "light"),
    ("decision", "decision-dark", 1440, "dark"),
    ("entries", "entries", 1440, "light"),
    ("ENTRY", "entry", 1440, "light"),
    ("live", "live", 1440, "dark"),
    ("EXPLAIN", "explain", 1440, "light"),
    ("health", "health", 1440, "light"),
]
"""Page, file, width, theme."""
ADDRESSES: Final = {"ENTRY": "entries?text=virtual%20card", "EXPLAIN": "live"}
"""Where what is no page of its own is found."""


class Clock:
    """Wall-clock time, moved."""

    def __init__(self) -> None:
        self.moved_s = -float((HOURS - 1) * HOUR_S)

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.moved_s


@asynccontextmanager
async def proxy(folder: Path, clock: Clock) -> AsyncIterator[Running]:
    """A proxy in front of a simulated LLM."""
    for module in (wiring, opening):
        module.now = clock  # type: ignore[misc]  # a clock that can be put forward is for pictures only
    knowledge = knowledge_of(classes_of(read_questions(SAMPLE)))
    simulate = SimulateOptions(port=0, delay_ms=600, tokens_per_s=80, answers=knowledge)
    async with serving(simulate) as upstream:
        settings = Settings.model_validate(
            {
                "listen": "127.0.0.1:0",
                "admin_listen": "127.0.0.1:0",
                "upstream_url": upstream,
                "data_dir": folder,
                "max_wrong_per_hit": 0.03,
                "economics": {"revenue_per_request_usd": 0.0005},
                "deadlines": {"embedder_ms": 60_000, "store_ms": 60_000},  # pictures may be taken on a busy machine
            }
        )
        async with wiring.open_proxy(settings) as running:
            yield running


async def send(url: str, questions: Sequence[Question], clock: Clock) -> None:
    """A day of them: few at night, most in the afternoon."""
    weights = [1.15 + math.sin((hour - 8) / HOURS * 2 * math.pi) for hour in range(HOURS)]
    begin = 0
    for hour, weight in enumerate(weights):
        end = begin + round(len(questions) * weight / sum(weights))
        total = end - begin
        for model, share in MODELS.items():
            some = questions[begin : begin + round(total * share)]
            await replay(some, ReplayOptions(proxy_url=url, model=model, concurrency=16), progress=lambda _: None)
            begin += len(some)
        begin = end
        if hour < HOURS - 1:
            await asyncio.sleep(1)  # what was learnt is booked in its hour
            clock.moved_s += HOUR_S
        print(f"{hour + 1} of {HOURS} hours, {end} questions", flush=True)


async def shoot(browser: Browser, admin: str, out: Path) -> None:
    """Every picture, without an alpha channel and as small as it gets without loss."""
    for name, file, width, theme in SHOTS:
        size = {"width": width, "height": 900}
        context = await browser.new_context(viewport=size, color_scheme=theme, reduced_motion="reduce")
        page = await context.new_page()
        await page.goto(f"{admin}/#/{ADDRESSES.get(name, name)}")
        await shown(page)
        if name == "ENTRY":
            await page.locator("#entry-list tbody a").first.click()
            await page.locator("#answer").wait_for()
        if name == "EXPLAIN":
            await page.get_by_label("Show").select_option("semantic")
            await page.get_by_role("button", name="Explain").first.click()
            await page.get_by_role("dialog").wait_for()
        data = await page.screenshot(full_page=name in {"overview", "economics"}, animations="disabled")
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        picture.save(out / f"{file}.png", optimize=True)
        print(f"{out / file}.png: {(out / f'{file}.png').stat().st_size // 1024} KiB", flush=True)
        await context.close()


async def shown(page: Page) -> None:
    """Wait until a page and its charts are whole."""
    await page.locator("main[data-shown]").wait_for()
    for plot in await page.locator(".plot:visible").all():
        await plot.locator(".main-svg").first.wait_for(state="attached")
    await page.locator("#pulse[data-state=live]").wait_for(state="attached")
    await page.wait_for_timeout(1_500)  # a tick of the live figures


async def main() -> int:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=2_400)
    parser.add_argument("--out", type=Path, default=IMAGES)
    arguments = parser.parse_args()
    path = shutil.which("chromium")
    if path is None:
        print("no chromium here: apt-get install chromium", file=sys.stderr)
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    questions = draw(read_questions(SAMPLE), arguments.requests, zipf=0.6, seed=1)
    clock = Clock()
    calm_threads()
    with tempfile.TemporaryDirectory(prefix="cacheproxy-pictures-") as folder:
        async with proxy(Path(folder), clock) as running, async_playwright() as playwright:
            await send(f"http://{running.data}/v1", questions, clock)
            browser = await playwright.chromium.launch(executable_path=path, args=list(BROWSER))
            await shoot(browser, f"http://{running.admin}", arguments.out)
            await browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
