"""A dashboard behind a token: the page asks for it, keeps it for the tab, and its live updates have it too."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from support.browser import PAGES, chromium, tab

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def guarded(browser, serve_proxy, simulated):
    """An empty proxy with a token, in a tab."""
    served = serve_proxy(f"{simulated}/v1", admin_token=TOKEN)
    with tab(browser, served.admin) as desk:
        yield desk
    refusals = [line for line in desk.complaints if "401" not in line]
    assert refusals == []


def give(page, token):
    dialog = page.get_by_role("dialog", name="This dashboard needs its token")
    dialog.get_by_label("Admin token").fill(token)
    dialog.get_by_role("button", name="Open").click()


def test_the_page_asks_for_the_token_until_it_is_right(guarded):
    page = guarded.page
    page.goto(guarded.base)
    give(page, "wrong")
    expect(page.get_by_role("dialog")).to_contain_text("That token was refused")
    give(page, TOKEN)
    guarded.shown("overview")
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    for path in PAGES[1:]:
        guarded.open(path)
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_token_stays_with_the_tab_and_nowhere_else(guarded):
    page = guarded.page
    page.goto(guarded.base)
    give(page, TOKEN)
    guarded.shown("overview")
    page.reload()
    guarded.shown("overview")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href").count(TOKEN) == 0


def test_without_the_token_nothing_is_shown(guarded):
    page = guarded.page
    page.goto(guarded.base)
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    expect(page.locator(".callout.bad")).to_contain_text("This page could not be read")


def test_an_empty_proxy_says_what_to_do(guarded):
    page = guarded.page
    page.goto(guarded.base)
    give(page, TOKEN)
    guarded.shown("overview")
    expect(page.locator(".next")).to_contain_text("Point an application at the proxy")
    for path in ("economics", "entries", "live"):
        expect(guarded.open(path).locator(".empty").first).to_be_visible()
