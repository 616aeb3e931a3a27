"""What a person does with the views of one VM, of the changes and of the capacity, in a real Chromium."""

from __future__ import annotations

import csv
import io
import pathlib
import re

import playwright.sync_api
from playwright.sync_api import expect

from function.page import changes
from tests import page as pages
from tests.browser import conftest
from tests.integration.test_past import ADD, DELETE, UPDATE, machine, running

Tab = playwright.sync_api.Page


def test_a_story_has_its_moves_and_its_end(tab: Tab, own_site: tuple[str, str]) -> None:
    """Newest first, old and new side by side; its nodes are a table, and at= leads back before the end."""
    address, url = own_site
    pages.store(url, machine(ADD, 1, 0), running(ADD, 2, 1, "node-1"), running(UPDATE, 3, 5, "node-2"))
    pages.store(url, machine(UPDATE, 4, 6, cores=8), machine(DELETE, 9, 7))
    tab.goto(f"{address}/vm/east/team/a")
    assert tab.locator("ol.story .kind").all_inner_texts() == ["deleted", "changed", "moved", "started", "appeared"]
    expect(tab.locator(".gone")).to_contain_text("This VM was deleted at 2026-11-01 07:00")
    moved = tab.locator("li.what-moved tbody tr").filter(has_text="node-2")
    assert moved.locator("td").all_inner_texts() == ["node-1", "node-2"]
    tab.goto(f"{address}/vm/east/team/a?at=2026-11-01T04:00")
    assert tab.locator("ol.story .kind").all_inner_texts() == ["started", "appeared"]
    assert tab.locator(".gone").count() == 0


def test_the_facts_of_a_beginning_are_opened_by_the_keyboard(tab: Tab, own_site: tuple[str, str]) -> None:
    """They are closed at first; Enter on their summary opens them."""
    address, url = own_site
    pages.store(url, machine(ADD, 1, 0))
    tab.goto(f"{address}/vm/east/team/a")
    facts = tab.locator("li.what-appeared table")
    expect(facts).not_to_be_visible()
    tab.locator("li.what-appeared summary").focus()
    tab.keyboard.press("Enter")
    expect(facts).to_be_visible()


def test_changes_are_filtered_paged_and_opened(
    chromium: playwright.sync_api.Browser, own_site: tuple[str, str]
) -> None:
    """By a form and links, without JavaScript: a kind, the page after this one, and the VM of a change."""
    address, url = own_site
    count = changes.PAGE + 5
    pages.store(url, *(machine(UPDATE, 100 + number, number, cores=1 + number) for number in range(count)))
    pages.store(url, machine(ADD, 1, 0, name="b", uid="u2"))
    with conftest.opened(chromium, script=False) as tab:
        tab.goto(f"{address}/changes?name=a")
        kinds = tab.locator("ol.story .kind")
        expect(kinds).to_have_count(changes.PAGE)
        tab.get_by_role("link", name="Earlier changes").click()
        expect(kinds).to_have_count(5)
        tab.goto(f"{address}/changes")
        tab.get_by_label("Kind").select_option("appeared")
        tab.get_by_label("Namespace").fill("team")
        tab.get_by_role("main").get_by_role("button", name="Show").click()
        assert "what=appeared" in tab.url
        expect(kinds.first).to_have_text("appeared")
        assert set(kinds.all_inner_texts()) == {"appeared"}
        tab.locator("ol.story").get_by_role("link", name="b", exact=True).click()
        expect(tab.get_by_role("heading", level=1)).to_have_text("b")


def test_the_capacity_is_divided_further_and_further(tab: Tab, site: str) -> None:
    """By range, measure and part; the table below the chart has a column for each part, and the list the same sums."""
    tab.goto(f"{site}/capacity")
    tab.get_by_role("link", name="90 days").click()
    tab.get_by_role("navigation", name="Measure").get_by_role("link", name=re.compile("^vCPUs")).click()
    for word in ("range=90d", "show=vcpus"):
        assert word in tab.url
    expect(tab.get_by_role("img", name="VCPUs by cluster")).to_be_visible()
    part = tab.locator("table.rows thead a").first
    cluster = part.inner_text()
    part.click()
    assert f"cluster={cluster}" in tab.url
    expect(tab.get_by_role("list", name="Filters")).to_contain_text(f"cluster: {cluster}")
    heads = tab.locator("table.rows thead th").all_inner_texts()
    assert len(heads) > 3
    assert tab.locator("svg.chart text.name").count() == len(heads) - 2
    newest = tab.locator("table.rows tbody tr").first.locator("td").first.inner_text()
    with tab.expect_download() as waiting:
        tab.get_by_role("link", name="CSV", exact=True).click()
    rows = list(csv.DictReader(io.StringIO(pathlib.Path(waiting.value.path()).read_text())))
    last = max(row["day"] for row in rows)
    assert f"{sum(int(row['vcpus'] or 0) for row in rows if row['day'] == last):,}" == newest.replace("\u202f", ",")
