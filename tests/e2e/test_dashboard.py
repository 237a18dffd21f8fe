"""The dashboard in a real browser, over a proxy that questions went through: every page whole, in either width and
theme, with the API's numbers, for every reader."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from support.browser import PAGES, WIDTHS, chromium, count, percent, tab, usd


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def shared(browser, replayed):
    """A tab that tests share, since each new one reads plotly's script anew."""
    with tab(browser, replayed.admin) as opened:
        yield opened


@pytest.fixture
def desk(shared):
    yield shared
    shared.without_complaint()


def every_page(desk):
    """Their addresses, an entry's among them."""
    return [*PAGES, f"entries/{desk.api('entries', limit=1)['entries'][0]['id']}"]


def value(desk, name):
    """The figure with this id."""
    return desk.page.locator(f"#{name}")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_loads_without_a_complaint_and_fits(browser, replayed, width):
    with tab(browser, replayed.admin, width=width) as desk:
        for path in every_page(desk):
            page = desk.open(path)
            expect(page.locator("h1")).to_have_count(1)
            expect(page.get_by_text("This page could not be read")).to_have_count(0)
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow == 0, f"{path} is {overflow} pixels too wide for {width}"
        desk.without_complaint()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(browser, replayed, scheme):
    with tab(browser, replayed.admin, scheme=scheme) as desk:
        for path in every_page(desk):
            desk.open(path)
            assert desk.violations() == [], path


def test_the_overview_tells_what_the_api_tells(desk):
    desk.open("overview")
    told = desk.api("overview", since=0)
    totals = told["totals"]
    assert totals["requests"] > 100
    expect(value(desk, "net-saved")).to_have_text(usd(totals["net_saved_usd"]))
    expect(value(desk, "hit-rate")).to_have_text(percent(totals["hit_rates"]["all"]))
    expect(value(desk, "tokens-saved")).to_have_text(
        count(totals["saved_input_tokens"] + totals["saved_output_tokens"])
    )
    expect(value(desk, "spend")).to_have_text(usd(totals["with_cache_usd"]))
    pool = desk.page.locator(".pool")
    expect(pool.locator(".badge").first).to_have_text(told["pools"][0]["stage"].capitalize())
    expect(pool).to_contain_text(f"{count(told['pools'][0]['labels'])} verdicts")


def test_the_charts_tables_hold_the_same_hours(desk):
    page = desk.open("overview")
    chart = page.locator("figure", has_text="Who answered")
    chart.locator("summary").click()
    told = [point for point in desk.api("overview", since=0)["points"] if point["requests"]]
    rows = chart.locator("tbody tr")
    expect(rows).to_have_count(len(told))
    expect(rows.last.locator("td").nth(1)).to_have_text(count(told[-1]["requests"]))


def test_economics_tells_what_the_api_tells(desk):
    page = desk.open("economics")
    told = desk.api("economics", since=0)
    expect(value(desk, "per-request")).to_have_text(usd(told["usd_per_request"]["with_cache"]))
    expect(value(desk, "per-mtok")).to_have_text(usd(told["usd_per_mtok"]["with_cache"]))
    expect(value(desk, "eco-requests")).to_have_text(count(told["totals"]["requests"]))
    cells = page.locator("#models tbody tr").first.locator("td")
    expect(cells.nth(0)).to_have_text(told["models"][0]["name"])
    expect(cells.nth(3)).to_have_text(usd(told["models"][0]["with_cache_usd"]))
    expect(page.locator("#tiers tbody tr")).to_have_count(len(told["tiers"]))


def test_the_margin_is_told_from_the_revenue(desk):
    desk.open("economics")
    told = desk.api("economics", since=0)["margin"]
    expect(value(desk, "margin-with")).to_have_text(percent(told["gross_margin"]["with_cache"]))
    expect(value(desk, "margin-without")).to_have_text(percent(told["gross_margin"]["without_cache"]))


def test_the_decision_tells_what_the_api_tells(desk):
    page = desk.open("decision")
    (pool,) = desk.api("decision")["pools"]
    assert pool["labels"] > 50
    expect(value(desk, "labels")).to_have_text(count(pool["labels"]))
    expect(value(desk, "semantic-hits")).to_have_text(count(pool["semantic_hits"]))
    misses = desk.api("decision/near-misses", pool="default")["near_misses"]
    expect(page.locator("#near-misses tbody tr")).to_have_count(len(misses))


@pytest.mark.parametrize("score", ["p", "similarity"])
def test_the_slider_tells_what_another_line_would_have_come_to(desk, score):
    page = desk.open("decision")
    if score == "similarity":
        page.get_by_role("button", name="Similarity alone").click()
        expect(page.locator("#what-if")).to_have_attribute("aria-valuetext", re.compile(r"^[01]\.\d{4}:"))
    points = desk.api("decision/curve", pool="default", score=score)["points"]
    assert len(points) > 5
    slider = page.get_by_role("slider", name="Serve from")
    for key, point in (("Home", points[0]), ("ArrowRight", points[1]), ("End", points[-1])):
        slider.press(key)
        expect(value(desk, "what-if-hits")).to_have_text(percent(point["hit_rate"]))
        wrong = percent(point["wrong_per_hit"]) if point["labels"] else "unknown"
        expect(value(desk, "what-if-wrong")).to_have_text(wrong)
        expect(value(desk, "what-if-says")).to_contain_text(f"{count(point['labels'])} verdicts")


def test_health_tells_what_the_api_tells(desk):
    page = desk.open("health")
    told = desk.api("health")
    expect(value(desk, "entries")).to_have_text(count(told["store"]["entries"]))
    expect(page.locator("#breakers tbody tr")).to_have_count(len(told["breakers"]))
    expect(page.locator("#queues tbody tr")).to_have_count(len(told["queues"]))
    expect(page.locator("#settings")).to_contain_text("max_wrong_per_hit")


def test_another_time_is_kept_in_the_address(desk):
    page = desk.open("overview")
    page.get_by_role("button", name="7 days").click()
    expect(page).to_have_url(f"{desk.base}/#/overview?range=7d")
    page.reload()
    expect(page.get_by_role("button", name="7 days")).to_have_attribute("aria-pressed", "true")


def test_everything_can_be_reached_by_keyboard(browser, replayed):
    with tab(browser, replayed.admin) as desk:
        reach_by_keyboard(desk)


def reach_by_keyboard(desk):
    page = desk.open("overview")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("link", name="Entries").press("Enter")
    desk.shown("entries")
    expect(page.locator("main")).to_be_focused()
    expect(page).to_have_title("Entries · cacheproxy")


def test_a_dialog_keeps_the_focus_and_gives_it_back(desk):
    page = desk.open("entries")
    opener = page.get_by_role("button", name="Import")
    opener.press("Enter")
    dialog = page.get_by_role("dialog", name="Import entries")
    expect(dialog).to_be_visible()
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()


def test_on_a_narrow_screen_the_pages_are_behind_a_button(browser, replayed):
    with tab(browser, replayed.admin, width=390) as desk:
        page = desk.open("overview")
        menu = page.get_by_role("button", name="Menu")
        expect(page.get_by_role("link", name="Health", exact=True)).to_be_hidden()
        menu.click()
        expect(menu).to_have_attribute("aria-expanded", "true")
        page.get_by_role("link", name="Health", exact=True).click()
        desk.shown("health")
        expect(page.get_by_role("link", name="Health", exact=True)).to_be_hidden()


def test_the_theme_can_be_chosen_and_stays(browser, replayed):
    with tab(browser, replayed.admin) as desk:
        choose_theme(desk)


def choose_theme(desk):
    page = desk.open("overview")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    desk.shown("overview")
    assert page.evaluate(ground) == dark


def test_without_the_charts_their_tables_are_shown(browser, replayed):
    with tab(browser, replayed.admin) as desk:
        desk.page.route("**/plotly-*", lambda route: route.abort())
        page = desk.open("overview", charts=False)
        expect(page.locator("figure table").first).to_be_visible()
        expect(page.locator(".plot:visible")).to_have_count(0)
