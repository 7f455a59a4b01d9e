"""The page of a study in a real browser: tables, rows in figures, values, the timeline of videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from browsing import WIDTHS, Browser, started_browser
from fake_study import ROWS, write_fake_study
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.ui import Select

from tal_bench.report.common.report_files import IncompleteReportError
from tal_bench.report.study.figures import FIGURES
from tal_bench.report.study.write import write_report

SHOWN = ("seeds", "tiou")
"""Figures that are drawn; the others take seconds."""
CHOSEN = tuple(row for row in ROWS if row.name in ("actionformer", "none", "self", "both"))
NASTY = '<img src="https://example.org/a.png" onerror="document.title=1">'
"""Name of a row that would load a picture and run a script if it were not escaped."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a study with its page."""
    path = tmp_path_factory.mktemp("study")
    rows = (*CHOSEN[:-1], CHOSEN[-1].__class__(**{**CHOSEN[-1].__dict__, "name": NASTY}))
    write_fake_study(path, rows=rows, seeds=2, videos=4, trials=0)
    declared = list(FIGURES)
    FIGURES[:] = [figure for figure in declared if figure.name in SHOWN]
    try:
        write_report(path)
    except IncompleteReportError as error:
        pytest.fail(str(error))
    finally:
        FIGURES[:] = declared
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return folder / "page.html"


def column(browser: Browser, number: int) -> list[str]:
    """Return the texts of a column of the first table, from top to bottom; of groups, their headings."""
    script = """return [...document.querySelector("table.sortable").tBodies[0].rows].map(
        row => (row.querySelectorAll(".number")[arguments[0]] ?? row.cells[0]).textContent)"""
    return list(browser.run(script, number))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_and_asks_for_nothing(browser: Browser, page: Path, width: int, theme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.open(page, width)
    assert browser.too_wide() == []
    assert browser.problems() == []
    assert browser.driver.title == "fake on sprites"
    background = browser.find("body").value_of_css_property("background-color")
    assert ("255, 255, 255" in background) == (theme == "light")


def test_row_and_average_stay_in_view_on_a_narrow_screen(browser: Browser, page: Path) -> None:
    browser.open(page, WIDTHS[1])
    script = """const box = document.querySelector("table.sortable").parentElement;
        box.scrollLeft = arguments[0] * box.scrollWidth;
        const {left, right} = box.getBoundingClientRect();
        const inside = (cell) => {
          const {left: from, right: to} = cell.getBoundingClientRect();
          const hit = document.elementFromPoint((from + to) / 2, cell.getBoundingClientRect().top + 4);
          return from >= left - 1 && to <= right + 1 && cell.contains(hit);
        };
        const head = [...box.querySelectorAll("th")];
        head[0].scrollIntoView({block: "center", inline: "nearest"});
        return [box.scrollWidth > box.clientWidth,
                head.filter(inside).map((cell) => cell.textContent.trim()),
                [...box.querySelectorAll("td:first-child:not([colspan]), td.pinned")].length]"""
    for place in (0, 0.3, 1):
        scrolls, seen, cells = browser.run(script, place)
        assert scrolls and "Row" in seen and "Avg ↑" in seen
        assert cells == 2 * 4, "four rows"


def test_the_policy_of_the_page_forbids_requests(browser: Browser, page: Path) -> None:
    browser.open(page)
    script = "return fetch('data:text/plain,x').then(() => 'loaded', () => 'refused')"
    assert browser.run(script) == "refused"


def test_a_table_is_sorted_within_kinds(browser: Browser, page: Path) -> None:
    browser.open(page)
    names = column(browser, 0)
    first = names.index("Students") + 1
    browser.find("table.sortable th:nth-child(7) button").click()
    numbers = [float(text.split()[0]) for text in column(browser, 6)[first:]]
    assert len(numbers) == 3 and numbers == sorted(numbers, reverse=True)
    after = column(browser, 0)
    assert after[:first] == names[:first] and sorted(after[first:]) == sorted(names[first:])
    assert after[first] == NASTY, "the best student"


def test_rows_are_switched_off_and_on_in_every_figure(browser: Browser, page: Path) -> None:
    browser.open(page, WIDTHS[1])

    def visible() -> dict[str, int]:
        script = """const found = {};
        for (const part of document.querySelectorAll("figure svg [data-row]"))
          if (part.getClientRects().length) found[part.dataset.row] = (found[part.dataset.row] ?? 0) + 1;
        return found;"""
        return dict(browser.run(script))

    before = visible()
    assert set(before) == {"actionformer", "none", "self", NASTY}
    browser.find(".row-count").click()
    assert browser.find("details.rows").get_attribute("open"), "a click anywhere in the heading opens it"
    switch = browser.find("input.row-switch[value=self]")
    switch.send_keys(Keys.SPACE)
    assert set(visible()) == set(before) - {"self"}
    assert browser.find(".row-count").text == "3 of 4"
    browser.find("button.no-rows").click()
    assert not visible()
    browser.find("button.all-rows").click()
    assert visible() == before


def test_values_are_shown_under_the_pointer_and_by_the_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    tip = browser.find(".values")
    assert not tip.is_displayed()
    dot = browser.find('figure svg g[data-values^="none, seed 1"]')
    ActionChains(browser.driver).scroll_to_element(dot).move_to_element(dot).perform()
    wanted = json.loads(_run(page.parent, "none", 1))["metrics"]["map_avg"]
    assert tip.text == f"none, seed 1: average mAP {wanted:.1f}"
    figure = browser.find("figure svg.with-values")
    browser.run("arguments[0].focus({preventScroll: true})", figure)
    texts = []
    for _ in range(4):
        figure.send_keys(Keys.ARROW_RIGHT)
        texts.append(tip.text)
    assert len({*texts}) == 4 and all("average mAP" in text for text in texts)
    figure.send_keys(Keys.ARROW_LEFT)
    assert tip.text == texts[2]
    figure.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def _run(folder: Path, row: str, seed: int) -> str:
    study = json.loads((folder / "study.json").read_text())
    (hash_,) = (found["finals"][seed] for found in study["rows"] if found["name"] == row)
    return (folder / "runs" / f"{hash_}.json").read_text()


def _detections(folder: Path, row: str) -> Any:
    study = json.loads((folder / "study.json").read_text())
    (hash_,) = (found["finals"][0] for found in study["rows"] if found["name"] == row)
    return json.loads((folder / "runs" / f"{hash_}.detections.json").read_text())["results"]


def test_the_timeline_shows_the_files(browser: Browser, page: Path) -> None:
    browser.open(page, WIDTHS[1])
    Select(browser.find("#timeline-video")).select_by_visible_text("video_2")
    Select(browser.find("#timeline-first")).select_by_visible_text("self")
    Select(browser.find("#timeline-second")).select_by_visible_text(NASTY)
    browser.find("#video-timeline summary").click()
    lines = [line.text.split("\n") for line in browser.find_all("#video-timeline tbody tr")]
    cells = browser.run(
        "return [...document.querySelectorAll('#video-timeline tbody tr')].map("
        "r => [...r.cells].map(c => c.textContent))"
    )
    assert len(lines) == len(cells)
    truth = json.loads((page.parent / "ground_truth.json").read_text())["database"]["video_2"]["annotations"]
    shown = [line[1:4] for line in cells if line[0] == "ground truth"]
    assert sorted(shown) == sorted(_line(a) for a in truth)
    for row in ("self", NASTY):
        detections = sorted(_detections(page.parent, row)["video_2"], key=lambda d: -d["score"])
        wanted = [[*_line(d), f"{d['score']:.3f}"] for d in detections[: len(truth) * 3 // 2]]
        assert [line[1:5] for line in cells if line[0] == row] == wanted
        for line, detection in zip((c for c in cells if c[0] == row), detections, strict=False):
            close = any(_tiou(a, detection) >= 0.5 for a in truth if a["label"] == detection["label"])
            assert close or line[5] == "no", "a correct detection overlaps a ground truth"
    assert {line[5] for line in cells if line[0] == "self"} == {"yes", "no"}
    bars = browser.find_all("#video-timeline svg rect.bar")
    assert len(bars) == len(cells)
    browser.run("arguments[0].scrollIntoView({block: 'center'})", bars[0])
    ActionChains(browser.driver).move_to_element(bars[0]).perform()
    assert browser.find(".values").text.startswith("ground truth: ")
    assert browser.too_wide() == [] and browser.problems() == []


def _line(annotation: Any) -> list[str]:
    start, end = (round(100 * value) / 100 for value in annotation["segment"])
    return [annotation["label"], f"{start:.2f}", f"{end:.2f}"]


def _tiou(a: Any, b: Any) -> float:
    (start, end), (first, last) = a["segment"], b["segment"]
    shared = max(0.0, min(end, last) - max(start, first))
    return float(shared / (end - start + last - first - shared))


def test_the_next_video_and_more_detections(browser: Browser, page: Path) -> None:
    browser.open(page)
    video = Select(browser.find("#timeline-video"))
    assert [option.text for option in video.options] == [f"video_{k}" for k in range(4)]
    browser.find("button[aria-label='previous video']").click()
    assert video.first_selected_option.text == "video_3"
    before = len(browser.find_all("#video-timeline svg rect.bar"))
    count = browser.find("#timeline-count")
    count.send_keys(Keys.ARROW_RIGHT)
    assert len(browser.find_all("#video-timeline svg rect.bar")) == before + 2, "one more of each row"


def test_without_scripts_the_page_is_complete(page: Path) -> None:
    with started_browser(scripts=False) as browser:
        browser.open(page)
        assert len(browser.find_all("figure svg")) == len(SHOWN)
        assert "needs JavaScript" in browser.find("noscript").text
        assert not browser.texts("input") + browser.texts("th button")
        titles = browser.find_all("figure svg g > title")
        assert len(titles) > 20, "browsers show the values by themselves"
        assert NASTY in browser.find("table").text
