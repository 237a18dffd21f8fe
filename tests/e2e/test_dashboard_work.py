"""What can be done on the dashboard: find entries, mark, pin, purge, move them; watch requests and ask why."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from itertools import count as counting
from pathlib import Path

import pytest
from playwright.sync_api import expect
from support.browser import chromium, tab
from support.servers import PATIENCE_S

HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\'"> Is my card "safe" & sound?'
_numbers = counting(1)


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def desk(browser, replayed):
    with tab(browser, replayed.admin) as opened:
        yield opened
        opened.without_complaint()


@pytest.fixture
def tag():
    """A tag that no other test uses."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def asked(replayed, desk):
    """``asked(question, tag)``: asks through the proxy and gives the id of the entry that is stored."""

    def ask(question, tag):
        body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}]}).encode()
        request = urllib.request.Request(
            f"{replayed.url}/v1/chat/completions",
            body,
            {"Authorization": "Bearer sk-replay", "Content-Type": "application/json", "X-CacheProxy-Tags": tag},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            response.read()
        return stored(desk, tag, question)

    return ask


def stored(desk, tag, question):
    """The id of a question's entry, once it is stored."""
    desk.page.wait_for_timeout(0)
    for _ in range(int(PATIENCE_S * 20)):
        for entry in desk.api("entries", tag=tag)["entries"]:
            if entry["prompt"] == question:
                return entry["id"]
        desk.page.wait_for_timeout(50)
    raise AssertionError(f"{question!r} was not stored")


def listed(desk):
    return desk.page.locator("#entry-list tbody tr")


def test_search_by_text_lists_what_holds_it(desk, asked, tag):
    asked(f"Where does the {tag} heron nest?", tag)
    page = desk.open("entries")
    page.get_by_label("Search", exact=True).fill(f"{tag} HERON")
    page.get_by_role("button", name="Search").click()
    expect(listed(desk)).to_have_count(1)
    expect(listed(desk)).to_contain_text(f"Where does the {tag} heron nest?")
    expect(page).to_have_url(re.compile(r"text="))


def test_search_by_meaning_lists_the_nearest_first(desk):
    page = desk.open("entries")
    page.get_by_label("Search", exact=True).fill("I would like to stop a payment that I sent")
    page.get_by_label("The question").select_option("meaning")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("columnheader", name="Similarity")).to_be_visible()  # one such search at a time is answered
    told = desk.api("entries", meaning="I would like to stop a payment that I sent")["entries"]
    expect(listed(desk).first).to_have_attribute("data-entry", told[0]["id"])
    expect(listed(desk).first).to_contain_text(f"{told[0]['similarity']:.4f}")


def test_filters_that_nothing_meets_say_what_to_do(desk):
    page = desk.open("entries")
    page.get_by_label("Tag").fill("no-such-tag")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".empty")).to_contain_text("No entry meets these conditions")
    page.get_by_role("button", name="Clear").click()
    expect(listed(desk).first).to_be_visible()


def test_marking_wrong_withdraws_an_answer_and_right_gives_it_back(desk, asked, tag):
    entry = asked(f"Which otter {tag} is this?", tag)
    page = desk.open(f"entries/{entry}")
    page.get_by_role("button", name="Mark wrong").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What is wrong with it?").fill("out of date <b>now</b>")
    dialog.get_by_role("button", name="Mark wrong").click()
    expect(page.locator(".callout.bad")).to_contain_text("out of date <b>now</b>")
    assert desk.api(f"entries/{entry}")["suspended"] is True
    page.get_by_role("button", name="Mark right after all").click()
    expect(page.get_by_role("button", name="Mark wrong")).to_be_visible()
    assert desk.api(f"entries/{entry}")["suspended"] is False


def test_pinning_keeps_an_entry_until_it_is_unpinned(desk, asked, tag):
    entry = asked(f"Which newt {tag} is this?", tag)
    page = desk.open(f"entries/{entry}")
    page.get_by_role("button", name="Pin", exact=True).click()
    expect(page.locator(".page-head .badge", has_text="pinned")).to_be_visible()
    assert desk.api(f"entries/{entry}")["pinned"] is True
    page.get_by_role("button", name="Unpin").click()
    expect(page.get_by_role("button", name="Pin", exact=True)).to_be_visible()
    assert desk.api(f"entries/{entry}")["pinned"] is False


def test_deleting_asks_first_and_leads_back_to_the_list(desk, asked, tag):
    entry = asked(f"Which toad {tag} is this?", tag)
    page = desk.open(f"entries/{entry}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert desk.api(f"entries/{entry}")["id"] == entry
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    desk.shown("entries")
    with pytest.raises(urllib.error.HTTPError, match="404") as gone:
        desk.api(f"entries/{entry}")
    gone.value.close()


def test_a_purge_shows_what_goes_before_it_goes(desk, asked, tag):
    asked(f"Where does the wren of {tag} sing?", tag)
    asked(f"Please translate a recipe with mushrooms into Danish: {tag}", tag)
    before = desk.api("entries")["stored"]
    page = desk.open("entries")
    page.get_by_label("Tag").fill(tag)
    page.get_by_role("button", name="Purge these").click()
    dialog = page.get_by_role("dialog", name="Purge these entries?")
    expect(dialog).to_contain_text("2 entries go")
    expect(dialog.locator("#purge-sample tbody tr")).to_have_count(2)
    dialog.get_by_role("button", name="Cancel").click()
    assert desk.api("entries")["stored"] == before
    page.get_by_role("button", name="Purge these").click()
    dialog.get_by_role("button", name="Purge 2").click()
    expect(page.locator(".toast")).to_contain_text("Purged 2 entries")
    expect(page.locator(".empty")).to_be_visible()
    assert desk.api("entries", tag=tag)["entries"] == []
    assert desk.api("entries")["stored"] == before - 2


def test_purging_everything_has_to_be_written_out(desk):
    page = desk.open("entries")
    page.get_by_role("button", name="Purge these").click()
    dialog = page.get_by_role("dialog")
    go_on = dialog.get_by_role("button", name=re.compile("^Purge"))
    expect(go_on).to_be_disabled()
    dialog.get_by_label('Type "purge"').fill("purge")
    expect(go_on).to_be_enabled()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert desk.api("entries")["stored"] > 0


def test_what_is_exported_can_be_imported_again(desk, asked, tag):
    entry = asked(f"How tall is the poplar of {tag}?", tag)
    page = desk.open(f"entries?tag={tag}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export these").click()
    file = Path(download.value.path())
    assert f"poplar of {tag}" in file.read_text()
    kept = file.with_suffix(".jsonl")
    file.rename(kept)
    page.get_by_role("button", name="Purge these").click()
    page.get_by_role("dialog").get_by_role("button", name="Purge 1").click()
    expect(page.locator(".empty")).to_be_visible()
    page.get_by_role("button", name="Import").click()
    page.get_by_label("File").set_input_files(kept)
    page.get_by_role("dialog").get_by_role("button", name="Import").click()
    expect(page.locator(".toast", has_text="Imported 1")).to_be_visible()
    expect(listed(desk)).to_have_attribute("data-entry", entry)


def test_a_request_shows_up_by_itself_and_is_explained(desk, asked, tag):
    page = desk.open("live")
    asked(f"What does the jackdaw of {tag} collect?", tag)
    (latest,) = desk.api("requests", limit=1)["requests"]
    row = page.locator(f"tr[data-number='{latest['number']}']")
    expect(row).to_contain_text(latest["reason"])
    row.get_by_role("button", name="Explain").click()
    dialog = page.get_by_role("dialog", name="Why it came out so")
    expect(dialog).to_contain_text(f"What does the jackdaw of {tag} collect?")
    expect(dialog).to_contain_text(latest["reason"])
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_requests_can_be_told_apart_by_who_answered(desk):
    page = desk.open("live")
    page.get_by_label("Show").select_option("exact")  # of which there are some among the latest, however busy it is
    expect(page.locator("#requests tr").first).to_contain_text("exact")
    expect(page.locator("#requests tr", has_text="Miss")).to_have_count(0)


def test_hostile_text_is_only_text(desk, asked, tag):
    entry = asked(f"{HOSTILE} {tag}", tag)
    page = desk.open(f"entries?tag={tag}")
    expect(listed(desk)).to_contain_text("<img src=x onerror=")
    desk.open(f"entries/{entry}")
    expect(page.locator("#question")).to_have_text(f"{HOSTILE} {tag}")
    desk.open("live")
    page.locator("#requests tr").first.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("dialog")).to_contain_text("<script>window.pwned=1</script>")
    page.keyboard.press("Escape")
    desk.open(f"entries?{'text=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E'}")
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main script").count() == 0


def test_an_entry_that_is_gone_is_told_so(desk):
    page = desk.open("entries/00000000000")
    expect(page.locator(".empty")).to_contain_text("There is no such entry")
    assert [line for line in desk.complaints if "404" not in line] == []
    desk.complaints.clear()
