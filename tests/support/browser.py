"""The dashboard in a real browser: Debian's chromium, driven by playwright, and axe-core for accessibility.

Tests that use it are not asynchronous, since playwright's own event loop runs in their thread.
"""

from __future__ import annotations

import json
import math
import shutil
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import expect, sync_playwright
from support.servers import PATIENCE_S

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = ("overview", "economics", "decision", "entries", "live", "health")
WIDTHS = (1440, 390)
expect.set_options(timeout=PATIENCE_S * 1000)


@contextmanager
def chromium():
    """A running browser; the test is skipped where there is none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Desk:
    """A browser's tab with the dashboard of one proxy. What its console complains of is kept in ``complaints``."""

    page: object
    base: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, message):
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def without_complaint(self):
        """Fail when the console complained since the last time."""
        complaints, self.complaints = self.complaints, []
        assert not complaints, complaints

    def open(self, path="overview", *, charts=True):
        """Show one of the pages, such as ``entries`` or ``entries/ID?text=...``, and wait until it is whole."""
        self.page.goto(f"{self.base}/#/{path}")
        return self.shown(path, charts=charts)

    def shown(self, path, *, charts=True):
        """Wait until a page is whole, its charts too where there will be any."""
        name = path.partition("?")[0].partition("/")[0]
        self.page.locator(f"main[data-shown={name}]").wait_for()
        for plot in self.page.locator(".plot:visible").all() if charts else ():
            plot.locator(".main-svg").first.wait_for(state="attached")
        return self.page

    def api(self, path, **query):
        """What the API says at this moment."""
        with urllib.request.urlopen(f"{self.base}/api/v1/{path}?{urlencode(query)}", timeout=PATIENCE_S) as response:
            return json.load(response)

    def violations(self):
        """What axe-core objects to, in a few words each."""
        if not self.page.evaluate("'axe' in window"):
            # Through the debugger: the page's own policy lets no script in.
            self.page.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8"))
        # What is drawn inside a chart is hidden from readers, who are told of it by its label and its table.
        found = self.page.evaluate("async () => (await axe.run({exclude: ['.svg-container']})).violations")
        return [
            f"{rule['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
            for rule in found
            for node in rule["nodes"]
        ]


@contextmanager
def tab(browser, base, *, width=1440, scheme="light"):
    """A tab of its own, with storage of its own."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True, reduced_motion="reduce"
    )
    try:
        yield Desk(context.new_page(), base)
    finally:
        context.close()


def usd(value):
    """An amount as the dashboard writes it."""
    size = abs(value)
    if size >= 10_000:
        digits = 0
    elif size >= 0.995 or size == 0:
        digits = 2
    elif size >= 0.00995:
        digits = 3
    else:
        digits = min(8, 1 - math.floor(math.log10(size)))
    return f"{'−' if value < 0 else ''}${size:,.{digits}f}"  # noqa: RUF001 - a minus, not a hyphen


def percent(value):
    """A share as the dashboard writes it."""
    size = value * 100
    if 0 < size < 0.01:
        return "<0.01%"
    digits = 2 if size < 10 else 1
    return f"{size:.{digits}f}".rstrip("0").rstrip(".") + "%"


def count(value):
    """A number of things as the dashboard writes it, below 100,000."""
    return f"{value:,}"
