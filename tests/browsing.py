"""Pages in a real browser: headless Chromium, driven by Selenium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (1280, 400)
"""Widths at which pages are tested, in CSS pixels: a notebook computer and a phone."""
HEIGHT = 900


class Browser:
    """A tab of headless Chromium; `driver` is Selenium's, for whatever has no method here.

    Args:
        driver: Started driver.
    """

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, width: int = WIDTHS[0], *, fragment: str = "") -> None:
        """Open a file at a width, and forget the messages and requests of the page before it."""
        metrics = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get("about:blank")
        self.problems()
        self.driver.get(page.resolve().as_uri() + (f"#{fragment}" if fragment else ""))

    def problems(self) -> list[str]:
        """Return the console messages, and the addresses that were requested beside files and inline data."""
        console = [entry["message"] for entry in self.driver.get_log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return console + [url for url in asked if not url.startswith(("file:", "data:", "about:", "blob:"))]

    def too_wide(self) -> list[str]:
        """Return what reaches beyond the width of the page: the page itself has to be scrolled sideways."""
        script = """
        const root = document.documentElement;
        if (root.scrollWidth <= root.clientWidth) return [];
        return [...document.body.querySelectorAll("*")]
            .filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1)
            .map((e) => `${e.tagName} ${e.className} ${Math.round(e.getBoundingClientRect().right)}`);
        """
        return list(self.driver.execute_script(script))

    def find(self, selector: str) -> WebElement:
        """Return the first element of a CSS selector."""
        return self.driver.find_element("css selector", selector)

    def find_all(self, selector: str) -> list[WebElement]:
        """Return all elements of a CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """Return the visible texts of the elements of a CSS selector that are shown, in their order."""
        return [element.text for element in self.find_all(selector) if element.is_displayed()]

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script of the page returns."""
        return self.driver.execute_script(script, *arguments)

    def photograph(self, file: Path) -> None:
        """Write a screenshot of the whole page as PNG."""
        import base64

        options = {"captureBeyondViewport": True}
        content = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]
        file.write_bytes(base64.b64decode(content))


@contextmanager
def started_browser(*, scripts: bool = True) -> Iterator[Browser]:
    """Start headless Chromium, and end it afterwards; skip the test where there is none.

    Args:
        scripts: Whether pages may run JavaScript.
    """
    selenium = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with chromedriver is installed")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if not scripts:
        blocked = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", blocked)
    chrome = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    try:
        yield Browser(chrome)
    finally:
        chrome.quit()
