"""What a person does with the page, in a real Chromium."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import re
import urllib.parse

import axe_playwright_python.sync_playwright
import playwright.sync_api
import pytest
from playwright.sync_api import expect

from dev import embedded_postgres
from function import migrate, settings
from function.page import app
from tests import page as pages
from tests.acceptance import processes
from tests.browser import conftest
from tests.integration import test_past

Tab = playwright.sync_api.Page
VM = {"cluster": "fra-prod", "namespace": "shop", "name": "web-2"}
"""A VM of the fleet."""
VIEWS = {view.name: re.sub(r"<(?:\w+:)?(\w+)>", lambda found: VM[found[1]], view.rule) for view in app.VIEWS}
"""The address of each view, of this VM where it is about one."""
every = pytest.mark.parametrize("address", VIEWS.values(), ids=list(VIEWS))
HOSTILE = "<script>document.title='taken'</script>"


def names(tab: Tab) -> list[str]:
    """The VMs of the table."""
    return tab.locator("table.rows tbody th").all_inner_texts()


def test_a_search_is_answered_as_one_types(tab: Tab, site: str) -> None:
    """Without a new page: the table and the address change, the field keeps the words."""
    tab.goto(f"{site}/")
    tab.evaluate("document.body.dataset.same = 'yes'")
    tab.get_by_label("Search", exact=True).press_sequentially("ns:billing sqlserver-1")
    tab.wait_for_url(re.compile(r"q=ns%3Abilling\+sqlserver-1$"))
    expect(tab.locator("table.rows tbody tr")).to_have_count(3)
    assert set(names(tab)) == {"sqlserver-1"}
    assert tab.evaluate("document.body.dataset.same") == "yes"
    expect(tab.get_by_label("Search", exact=True)).to_have_value("ns:billing sqlserver-1")
    tab.reload()
    assert set(names(tab)) == {"sqlserver-1"}


def test_a_filter_is_added_and_removed(tab: Tab, site: str) -> None:
    """By its link; the address says so, and the totals are those of what is left."""
    tab.goto(f"{site}/")
    total = tab.locator(".totals dd").first
    everything = total.inner_text()
    link = tab.get_by_role("navigation", name="Filters").get_by_role("link", name=re.compile(r"^lab "))
    count = link.locator(".count").inner_text()
    link.click()
    assert tab.url == f"{site}/?cluster=lab"
    expect(total).to_have_text(count)
    tab.get_by_role("list", name="Chosen filters").get_by_role("link").click()
    expect(total).to_have_text(everything)


def test_one_pages_on_and_back(tab: Tab, site: str) -> None:
    """By links that lead to other VMs and back to the same."""
    tab.goto(f"{site}/?sort=-memory")
    first = names(tab)
    tab.get_by_role("link", name="Next").click()
    tab.wait_for_url(re.compile("after="))
    second = names(tab)
    assert (len(first), len(second)) == (50, 50)
    assert first != second
    tab.get_by_role("link", name="Previous").click()
    tab.wait_for_url(re.compile("before="))
    assert names(tab) == first


def test_columns_are_chosen_and_sorted_by(tab: Tab, site: str) -> None:
    """With the mouse alone."""
    tab.goto(f"{site}/?cluster=lab")
    tab.get_by_text("Columns", exact=True).click()
    tab.get_by_label("Labels").check()
    tab.get_by_label("Guest OS").uncheck()
    tab.locator(".columns button").click()
    heads = tab.locator("table.rows thead th")
    expect(heads.filter(has_text="Labels")).to_have_count(1)
    expect(heads.filter(has_text="Guest OS")).to_have_count(0)
    tab.get_by_role("columnheader", name="vCPUs").get_by_role("link").click()
    tab.get_by_role("columnheader", name="vCPUs").get_by_role("link").click()
    expect(tab.get_by_role("columnheader", name="vCPUs")).to_have_attribute("aria-sort", "descending")
    assert "cluster=lab" in tab.url


@pytest.mark.parametrize("form", ["CSV", "JSON"])
def test_what_is_shown_is_taken_away(tab: Tab, site: str, form: str) -> None:
    """A link on the page gives all that the filter leaves, also where it was typed just now."""
    tab.goto(f"{site}/?cluster=osl-prod")
    tab.get_by_label("Search", exact=True).press_sequentially("ns:desktops")
    tab.wait_for_url(re.compile("q=ns%3Adesktops"))
    total = int(tab.locator(".totals dd").first.inner_text())
    with tab.expect_download() as waiting:
        tab.get_by_role("link", name=form, exact=True).click()
    text = pathlib.Path(waiting.value.path()).read_text()
    rows = list(csv.DictReader(io.StringIO(text))) if form == "CSV" else json.loads(text)
    assert len(rows) == total
    assert {(row["cluster"], row["namespace"]) for row in rows} == {("osl-prod", "desktops")}


def test_all_of_it_works_without_javascript(chromium: playwright.sync_api.Browser, site: str) -> None:
    """Search, filter, page on, the past: forms and links."""
    with conftest.opened(chromium, script=False) as tab:
        tab.goto(f"{site}/")
        tab.get_by_label("Search", exact=True).fill("label:app=runner")
        tab.get_by_role("button", name="Search").click()
        assert {name.partition("-")[0] for name in names(tab)} == {"runner"}
        tab.get_by_role("link", name="Next").click()
        assert "after=" in tab.url
        tab.get_by_role("navigation", name="Filters").get_by_role("link", name=re.compile("^lab ")).click()
        assert "cluster=lab" in tab.url
        assert "after=" not in tab.url
        assert len(names(tab)) > 0


@every
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    chromium: playwright.sync_api.Browser, site: str, address: str, scheme: conftest.Scheme
) -> None:
    """By the rules of axe-core; contrast in both schemes is among them."""
    with conftest.opened(chromium, scheme=scheme) as tab:
        tab.goto(site + address)
        found = axe_playwright_python.sync_playwright.Axe().run(tab).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == []


@every
def test_nothing_is_wider_than_a_small_telephone(
    chromium: playwright.sync_api.Browser, site: str, address: str
) -> None:
    """At 320 pixels only a table or a chart scrolls sideways, in its own box."""
    with conftest.opened(chromium, width=320) as tab:
        tab.goto(site + address)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 320


@every
def test_dark_and_light_follow_the_system(chromium: playwright.sync_api.Browser, site: str, address: str) -> None:
    """The paper is dark where the system is."""
    bright = {}
    schemes: tuple[conftest.Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        with conftest.opened(chromium, scheme=scheme) as tab:
            tab.goto(site + address)
            color = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            bright[scheme] = sum(map(int, re.findall(r"\d+", color)[:3]))
    assert bright["light"] > 3 * 200
    assert bright["dark"] < 3 * 60


def test_the_keyboard_is_enough(tab: Tab, site: str) -> None:
    """Skip link, search by slash, rows by j and k, which are links."""
    tab.goto(f"{site}/")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "q"
    tab.keyboard.type("keycloak")
    tab.wait_for_url(re.compile("q=keycloak"))
    expect(tab.locator("table.rows tbody th").first).to_contain_text("keycloak")
    tab.keyboard.press("Escape")
    shown = names(tab)
    for key, expected in (("j", shown[0]), ("j", shown[1]), ("k", shown[0])):
        tab.keyboard.press(key)
        assert tab.evaluate("document.activeElement.innerText") == expected
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@every
def test_every_control_is_reached_by_the_tab_key(tab: Tab, site: str, address: str) -> None:
    """Each link, field and button that is shown comes once, and its focus is visible."""
    tab.goto(site + address)
    reachable = tab.evaluate(
        "[...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, [tabindex=\"0\"]')]"
        ".filter(each => each.checkVisibility() && !each.disabled).length"
    )
    visited = set()
    for _ in range(reachable + 60):  # a field of a date and a time has several stops
        tab.keyboard.press("Tab")
        path = tab.evaluate(
            "(() => { const all = [...document.querySelectorAll('*')]; const here = document.activeElement;"
            " return here === document.body ? -1 : all.indexOf(here); })()"
        )
        if path in visited or path < 0:
            continue
        visited.add(path)
    assert len(visited) >= reachable


def test_a_vm_s_story_is_opened_from_the_fleet(tab: Tab, site: str) -> None:
    """By its name, with the keyboard; its timeline begins with how it appeared, and its links lead to what is near."""
    tab.goto(f"{site}/?q=name:web-2+ns:shop&cluster=fra-prod")
    tab.keyboard.press("j")
    name = tab.evaluate("document.activeElement.innerText")
    tab.keyboard.press("Enter")
    tab.wait_for_url(re.compile(f"/vm/fra-prod/shop/{name}$"))
    expect(tab.get_by_role("heading", level=1)).to_have_text(name)
    expect(tab.locator("main")).to_contain_text("appeared")
    expect(tab.locator("svg.strip")).to_be_visible()
    tab.get_by_role("link", name="shop", exact=True).first.click()
    tab.wait_for_url(re.compile(r"/\?"))
    assert name in names(tab)


def test_the_past_is_chosen_by_its_field(tab: Tab, site: str) -> None:
    """The page says that it shows the past, its links stay there, and one link leads back."""
    tab.goto(f"{site}/")
    now = tab.locator(".totals dd").first.inner_text()
    moment = tab.evaluate("new Date(Date.now() - 30 * 86400e3).toISOString().slice(0, 19)")
    tab.get_by_label("As it was (UTC)").fill(moment)
    tab.locator("form.moment button").click()
    expect(tab.get_by_role("note")).to_contain_text("This is the past: the ledger as it was at")
    assert urllib.parse.quote(moment) in tab.url
    assert tab.locator(".totals dd").first.inner_text() != now
    assert "at=" in (tab.get_by_role("link", name="Next").get_attribute("href") or "")
    tab.get_by_role("link", name="Back to now").click()
    expect(tab.locator(".totals dd").first).to_have_text(now)
    assert tab.get_by_role("note").count() == 0


def test_a_hostile_name_runs_nothing(tab: Tab, own_site: tuple[str, str]) -> None:
    """It is shown, searched for and opened as the text that it is."""
    address, url = own_site
    pages.store(url, test_past.machine(test_past.ADD, 1, 0, name=HOSTILE))
    tab.goto(f"{address}/")
    assert names(tab) == [HOSTILE]
    tab.get_by_label("Search", exact=True).press_sequentially(HOSTILE[:10])
    tab.wait_for_url(re.compile("q="))
    assert names(tab) == [HOSTILE]
    assert tab.title() == "Fleet · vmledger"
    tab.locator("table.rows tbody th a").click()
    tab.wait_for_url(re.compile("/vm/"))
    expect(tab.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    assert tab.title() != "taken"


def test_the_database_stops_and_starts_again(
    tab: Tab, tmp_path_factory: pytest.TempPathFactory, tmp_path: pathlib.Path
) -> None:
    """A page with a sentence, and the fleet again once it is back; a search meets the same."""
    server = embedded_postgres.Postgres(tmp_path_factory.mktemp("stopped"))
    server.start()
    try:
        migrate.run(settings.Settings.from_env({"DATABASE_URL": server.url()}))
        pages.store(server.url(), test_past.machine(test_past.ADD, 1, 0, name="only-one"))
        with processes.page(tmp_path / "log", {"DATABASE_URL": server.url()}) as service:
            tab.goto(f"http://localhost:{service.port}/")
            assert names(tab) == ["only-one"]
            server.stop()
            tab.get_by_label("Search", exact=True).press_sequentially("only")
            expect(tab.get_by_role("heading", level=1)).to_have_text("Not available now")
            expect(tab.locator(".sentence")).to_contain_text("The database cannot be used now")
            server.start()
            tab.get_by_role("link", name="Ask again").click()
            expect(tab.locator("table.rows tbody th")).to_have_text("only-one")
    finally:
        server.stop()
