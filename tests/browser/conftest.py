"""A real Chromium, and a real page over a believable fleet, for the tests of what a browser does with it."""

from __future__ import annotations

import contextlib
import datetime
import pathlib
import shutil
from collections.abc import Iterator
from typing import Literal

import playwright.sync_api
import pytest

from dev import embedded_postgres, fleet
from tests import conftest
from tests.acceptance import processes

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DATABASE = "page_browser"
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="session")
def ledger(server: embedded_postgres.Postgres, template: str) -> Iterator[str]:
    """The URL of a ledger with a believable fleet, whose last event was just now."""
    conftest.execute(server.url(), f"CREATE DATABASE {DATABASE} TEMPLATE {template}")
    url = server.url(database=DATABASE)
    fleet.fill(url, datetime.datetime.now(datetime.UTC))
    yield url
    conftest.execute(server.url(), f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture(scope="session")
def site(ledger: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page over that ledger."""
    environ = {"DATABASE_URL": ledger, "PAGE_WORKERS": "1"}
    with processes.page(tmp_path_factory.mktemp("page") / "log", environ) as service:
        yield f"http://localhost:{service.port}"


@pytest.fixture
def own_site(url: str, tmp_path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """A page over a ledger of the test's own: its address, and the ledger's URL."""
    with processes.page(tmp_path / "log", {"DATABASE_URL": url}) as service:
        yield f"http://localhost:{service.port}", url


@pytest.fixture(scope="session")
def chromium() -> Iterator[playwright.sync_api.Browser]:
    """A Chromium without a window."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: on Debian, apt install chromium")
    with playwright.sync_api.sync_playwright() as driver:
        # The tests may run as root, where Chromium's own sandbox does not start; they show only our page.
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: playwright.sync_api.Browser) -> Iterator[playwright.sync_api.Page]:
    """A tab of 1,280 pixels' width; whatever it reports as an error fails the test."""
    with opened(chromium) as page:
        yield page


@contextlib.contextmanager
def opened(
    browser: playwright.sync_api.Browser,
    *,
    width: int = 1280,
    scheme: Scheme = "light",
    script: bool = True,
) -> Iterator[playwright.sync_api.Page]:
    """Yield a tab; raise if the page's scripts fail, or if it breaks its own Content-Security-Policy."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=script
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    try:
        yield page
    finally:
        context.close()
    assert wrong == []
