"""The pages of the documentation in a real browser: built strictly, complete, without network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browsing import WIDTHS, Browser

ROOT = Path(__file__).parents[2]
PAGES = ("index", "leaderboard", "compare", "methods", "reference/commands", "notebooks/01_quickstart")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    if not all(map(importlib.util.find_spec, ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter"))):
        pytest.skip("mkdocs and its plugins are not installed (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_loads_nothing(browser: Browser, site: Path, name: str, width: int) -> None:
    browser.open(site / f"{name}.html", width)
    assert browser.problems() == []
    assert browser.too_wide() == []
    assert browser.find("h1").is_displayed()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_leaderboard_works_within_the_site(browser: Browser, site: Path, width: int) -> None:
    browser.open(site / "leaderboard.html", width)
    browser.find('[data-key="dataset"]').send_keys("thumos14")
    assert set(browser.texts("tr.group strong")) == {"thumos14"}
    browser.find("tr.reported:not([hidden]) td:nth-child(3)").click()
    (details,) = browser.texts("tr.details")
    assert "https://github.com/" in details
    table, scroll = browser.find("#leaderboard").rect, browser.find(".board .scroll").rect
    assert table["width"] <= scroll["width"] + 1, "the table need not be scrolled"


def test_links_lead_to_pages(site: Path) -> None:
    """Links of notebooks are not known to mkdocs, so that `--strict` does not see them."""
    broken = [
        f"{page.relative_to(site)}: {link}"
        for page in site.rglob("*.html")
        if page.name != "404.html" and "reports" not in page.relative_to(site).parts
        for link in re.findall(r'<a[^>]* href="([^"#]+)', page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not broken


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Serve the site on the loopback address, which its search needs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line on standard error for each."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_search_finds_a_command(browser: Browser, address: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.open(Path("/dev/null"))
    browser.driver.get(f"{address}/index.html")
    browser.run("document.getElementById('__search').checked = true")
    browser.find(".md-search__input").send_keys("publish")
    WebDriverWait(browser.driver, 30).until(lambda _: browser.find_all(".md-search-result__item a"))
    found = [link.get_attribute("href") or "" for link in browser.find_all(".md-search-result__item a")]
    assert any("leaderboard.html" in link or "commands.html" in link for link in found)
