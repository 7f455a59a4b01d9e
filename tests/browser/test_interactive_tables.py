"""The script of sortable tables in a real browser: sorting, filters, details."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import Browser, started_browser

from tal_bench.report.common.page_assets import INTERACTIVE_TABLES, INTERACTIVE_TABLES_STYLE, script

ROWS = {
    "none": ("Students", "52.7 ± 1.4", "rgb"),
    "both": ("Students", "53.8 ± 1.3", "rgb"),
    "self": ("Students", "–", "rgb"),
    "teacher": ("Teachers", "≈ +7.5", "rgb|flow"),
    "loss": ("Teachers", "−1.0", "flow"),
}


def page() -> str:
    """Return a page with two groups of rows, details, and one filter of each kind."""
    lines, seen = [], set()
    for name, (group, number, reads) in ROWS.items():
        if group not in seen:
            lines.append(f'<tr class="group"><td colspan="2">{group}</td></tr>')
        seen.add(group)
        cost = "" if name == "self" else f' data-cost="{len(name)}"'
        lines.append(f'<tr id="row-{name}" data-name="{name}" data-reads="{reads}"{cost}>')
        lines.append(f"<td>{name}</td><td>{number}</td></tr>")
        if name != "loss":
            lines.append(f'<tr class="details"><td colspan="2">more about {name}</td></tr>')
    return f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>t</title>
    <style>{INTERACTIVE_TABLES_STYLE}</style></head><body>
    <div class="needs-script" hidden><input type="search" data-filter="t" data-key="name">
    <select data-filter="t" data-key="reads"><option value="">all</option><option>flow</option></select>
    <input type="number" data-filter="t" data-key="cost">
    <output data-count="t"></output></div>
    <table class="sortable" id="t"><thead><tr><th>Row</th><th>mAP</th></tr></thead>
    <tbody>{"".join(lines)}</tbody></table><script>{script(INTERACTIVE_TABLES)}</script></body></html>"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "page.html").write_text(page(), encoding="utf-8")
    return tmp_path / "page.html"


def names(browser: Browser) -> list[str]:
    """Return the names of the rows that are shown, and the headings of groups, from top to bottom."""
    rows = browser.find_all("tbody tr:not(.details)")
    return [row.find_element("css selector", "td").text for row in rows if row.is_displayed()]


def test_a_click_sorts_within_groups_and_the_next_one_reverses(browser: Browser, file: Path) -> None:
    browser.open(file)
    header = browser.find("th:nth-child(2)")
    assert header.get_attribute("aria-sort") == "none"
    header.find_element("css selector", "button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert names(browser) == ["Students", "both", "none", "self", "Teachers", "teacher", "loss"]
    header.find_element("css selector", "button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert names(browser) == ["Students", "none", "both", "self", "Teachers", "loss", "teacher"], (
        "missing last"
    )
    first = browser.find("th:first-child")
    first.find_element("css selector", "button").click()
    assert (first.get_attribute("aria-sort"), header.get_attribute("aria-sort")) == ("ascending", "none")
    assert names(browser) == ["Students", "both", "none", "self", "Teachers", "loss", "teacher"]
    for row in ("none", "both", "teacher"):
        below = browser.run("return document.getElementById(arguments[0]).nextElementSibling", f"row-{row}")
        assert below.get_attribute("textContent") == f"more about {row}"
    assert browser.problems() == []


def test_headers_are_sorted_with_the_keyboard(browser: Browser, file: Path) -> None:
    browser.open(file)
    browser.run("document.querySelector('th:nth-child(2) button').focus()")
    browser.driver.switch_to.active_element.send_keys("\n")
    assert browser.find("th:nth-child(2)").get_attribute("aria-sort") == "descending"


@pytest.mark.parametrize(
    ("selector", "typed", "left"),
    [
        ("input[type=search]", "N", {"none"}),
        ("select", "flow", {"teacher", "loss"}),
        ("input[type=number]", "4", {"none", "both", "loss"}),
    ],
)
def test_filters(browser: Browser, file: Path, selector: str, typed: str, left: set[str]) -> None:
    browser.open(file)
    assert browser.find("output").text == "5 rows"
    browser.find(selector).send_keys(typed)
    assert {*names(browser)} - {"Students", "Teachers"} == left
    assert browser.find("output").text == f"{len(left)} of 5 rows"


def test_a_click_on_a_row_shows_its_details(browser: Browser, file: Path) -> None:
    browser.open(file)
    assert not browser.texts(".details")
    browser.find("#row-both td:last-child").click()
    assert browser.texts(".details") == ["more about both"]
    button = browser.find("#row-both button")
    assert button.get_attribute("aria-expanded") == "true"
    button.send_keys("\n")
    assert not browser.texts(".details")
    assert not browser.find_all("#row-loss button"), "a row without details does not open"


def test_an_address_opens_its_row(browser: Browser, file: Path) -> None:
    browser.open(file, fragment="row-none")
    assert browser.texts(".details") == ["more about none"]


def test_a_hidden_row_hides_its_details(browser: Browser, file: Path) -> None:
    browser.open(file, fragment="row-none")
    browser.find("input[type=search]").send_keys("both")
    assert not browser.texts(".details")


def test_without_scripts_everything_is_readable(file: Path) -> None:
    with started_browser(scripts=False) as browser:
        browser.open(file)
        assert len(browser.texts(".details")) == 4
        assert not browser.texts("input") and not browser.find_all("button")
