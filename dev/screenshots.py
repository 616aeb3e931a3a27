"""``make screenshots``: pictures of the views over a believable fleet, for the documents."""

from __future__ import annotations

import datetime
import io
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import PIL.Image
import playwright.sync_api

from dev import embedded_postgres, fleet

ROOT = pathlib.Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
PICTURES = (
    # name, address, width, height, scheme
    ("page-fleet", "/?sort=-memory", 1280, 800, "light"),
    ("page-fleet-dark", "/?cluster=fra-prod&q=label:team=shop", 1280, 800, "dark"),
    ("page-past", "/?at={month_ago}", 1280, 560, "light"),
    ("page-vm", "/vm/fra-prod/shop/web-2", 1280, 900, "light"),
    ("page-changes", "/changes", 1280, 800, "light"),
    ("page-capacity", "/capacity", 1280, 800, "light"),
    ("page-health", "/health", 1280, 800, "light"),
    ("page-narrow", "/?q=sqlserver", 360, 720, "light"),
)


def main() -> int:
    """Fill a ledger, serve the page over it, take the pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("there is no Chromium: on Debian, apt install chromium")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vmledger-pictures-") as folder:
        server = embedded_postgres.Postgres(pathlib.Path(folder))
        server.start()
        try:
            _take(server.url(), chromium)
        finally:
            server.stop()
    return 0


def _take(url: str, chromium: str) -> None:
    environ = {**os.environ, "DATABASE_URL": url}
    subprocess.run([sys.executable, "-m", "function", "migrate"], env=environ, cwd=ROOT, check=True)
    now = datetime.datetime.now(datetime.UTC)
    fleet.fill(url, now)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ |= {"PAGE_PORT": str(port), "PAGE_HOSTS": "localhost", "LOG_LEVEL": "WARNING"}
    page = subprocess.Popen([sys.executable, "-m", "function", "page"], env=environ, cwd=ROOT)
    try:
        _wait(page, f"http://localhost:{port}/static/page.css")
        with playwright.sync_api.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for name, address, width, height, scheme in PICTURES:
                tab = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if scheme == "dark" else "light",
                )
                month_ago = f"{now - datetime.timedelta(days=25):%Y-%m-%dT09:00}"
                tab.goto(f"http://localhost:{port}{address.format(month_ago=month_ago)}")
                picture = PIL.Image.open(io.BytesIO(tab.screenshot()))
                # A page has few colours, and a file with a palette of them is a third of the size.
                picture.convert("RGB").quantize(96).save(IMAGES / f"{name}.png", optimize=True)
                print(f"docs/images/{name}.png")
            browser.close()
    finally:
        page.terminate()
        page.wait(30)


def _wait(page: subprocess.Popen[bytes], url: str) -> None:
    while page.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the page did not start: the lines above say why")


if __name__ == "__main__":
    sys.exit(main())
