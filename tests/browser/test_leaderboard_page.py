"""The committed leaderboard in a real browser, at the width of a computer and of a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import WIDTHS, Browser

PAGE = Path(__file__).parents[2] / "reports" / "published" / "leaderboard.html"
ROW = "tbody tr:not(.details):not(.group)"


def shown(browser: Browser, column: str = "") -> list[str]:
    """Return the names of the rows that are shown, or their values under a data attribute."""
    rows = [row for row in browser.find_all(ROW) if row.is_displayed()]
    if column:
        return [str(row.get_attribute(f"data-{column}")) for row in rows]
    return [row.find_element("css selector", "td span").text for row in rows]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_loads_nothing(browser: Browser, width: int) -> None:
    browser.open(PAGE, width)
    assert browser.too_wide() == []
    assert browser.problems() == []
    assert len(shown(browser)) > 30
    assert browser.find("output").text == f"{len(shown(browser))} rows"
    script = "return [...document.querySelectorAll('td *, th')].map((e) => getComputedStyle(e).fontSize)"
    sizes = [float(size.removesuffix("px")) for size in browser.run(script)]
    assert min(sizes) >= 9.5, "no tiny text"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_click_shows_settings_intervals_and_origin(browser: Browser, width: int) -> None:
    browser.open(PAGE, width)
    assert not browser.texts(".details")
    browser.find("#result-sprites-both-rgb td:nth-child(3)").click()
    (text,) = browser.texts(".details")
    for word in (
        "soft_weight",
        "95 % intervals",
        "against none",
        "Commit",
        "tal-bench ablate",
    ):
        assert word in text
    assert "TV-L1" not in text, "a student that reads no flow has no cost of flow"
    assert browser.too_wide() == []
    box = browser.find("#result-sprites-both-rgb + .details .detail").rect
    assert box["x"] >= 0 and box["x"] + box["width"] <= width, "the details are within the window"
    browser.find("#result-sprites-both-rgb button.open").click()
    assert not browser.texts(".details")
    browser.find("[id^='result-sprites-actionformer-rgb-'] td:nth-child(3)").click()
    assert "Total with TV-L1" in browser.texts(".details")[0]


@pytest.mark.parametrize("width", WIDTHS)
def test_headers_sort_within_each_dataset(browser: Browser, width: int) -> None:
    browser.open(PAGE, width)
    before = shown(browser, "dataset")
    for column, kind in (("mAP", float), ("Row or method", str)):
        (header,) = (h for h in browser.find_all("th button.sort") if h.text == column)
        header.click()
        header.click()
        place = {"mAP": 3, "Row or method": 1}[column]
        cells = [row.find_element("css selector", f"td:nth-child({place})") for row in browser.find_all(ROW)]
        values = [kind(str(cell.get_attribute("data-value")).lower()) for cell in cells]
        by_dataset: dict[str, list[float | str]] = {}
        for dataset, value in zip(before, values, strict=True):
            by_dataset.setdefault(dataset, []).append(value)
        for own in by_dataset.values():
            assert own == sorted(own, reverse=kind is str), "second click: the smallest number, the last name"
        assert shown(browser, "dataset") == before, "datasets stay where they are"


@pytest.mark.parametrize(
    ("key", "choice", "agrees"),
    [
        ("dataset", "thumos14", lambda value: value == "thumos14"),
        ("reads", "rgb", lambda value: value == "rgb"),
        ("origin", "measured", lambda value: value == "measured"),
        ("params", "0.1", lambda value: value and float(value) <= 0.1),
        ("minute", "0.35", lambda value: value and float(value) <= 0.35),
        ("name", "TriDet opentad", lambda value: "TriDet" in value and "OpenTAD" in value),
    ],
)
def test_filters_keep_what_agrees(
    browser: Browser, key: str, choice: str, agrees: Callable[[str], bool]
) -> None:
    browser.open(PAGE)
    everything = shown(browser, key)
    browser.find(f'[data-key="{key}"]').send_keys(choice)
    expected = [value for value in everything if agrees(value)]
    assert 0 < len(expected) < len(everything)
    assert shown(browser, key) == expected
    assert browser.find("output").text == f"{len(expected)} of {len(everything)} rows"
    headings = browser.texts("tr.group strong")
    assert headings == list(dict.fromkeys(shown(browser, "dataset"))), "no heading without rows"


def test_filters_are_joined(browser: Browser) -> None:
    browser.open(PAGE)
    browser.find('[data-key="dataset"]').send_keys("thumos14")
    browser.find('[data-key="reads"]').send_keys("rgb + flow")
    assert {*shown(browser, "dataset")} == {"thumos14"} and {*shown(browser, "reads")} == {"rgb + flow"}
