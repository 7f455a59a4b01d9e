"""HTML page of a report, and figures that it includes."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from fake_study import CLASSES, ROWS, TIOU, write_fake_study

from tal_bench.report.common.formats import interval
from tal_bench.report.common.page_parts import Section, render_page
from tal_bench.report.study.collect import ReportData, collect
from tal_bench.report.study.drawings.accuracy_figures import class_differences
from tal_bench.report.study.drawings.training_figures import MAX_SETTINGS, OWN_WEIGHTS, merged_weights
from tal_bench.report.study.figures import FIGURES
from tal_bench.report.study.literature import CAUTION, reported
from tal_bench.report.study.notes import headline
from tal_bench.report.study.page import page
from tal_bench.report.study.tables import latex, markdown
from tal_bench.report.study.trials import importances, trial_table
from tal_bench.results.folder import StudyFolder

PIXEL = bytes.fromhex(  # a PNG of one pixel
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8ffff3f"
    "0005fe02fea7356981000000004945" + "4e44ae426082"
)
DRAWING = b"""<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="36pt"
 viewBox="0 0 72 36"><metadata><title>maker</title></metadata>
 <defs><style>* {color: red}</style><path id="m1" d="M 0 0"/></defs>
 <g id="figure_1"><g data-row="none"><title>none: 1 &lt; 2</title><use xlink:href="#m1"/></g>
 <path clip-path="url(#p1)" d="M 1 1"/></g><clipPath id="p1"/></svg>"""
VOID = {"meta", "img", "input"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study")
    write_fake_study(path, trials=8)
    return path


@pytest.fixture(scope="module")
def study(folder: Path) -> ReportData:
    return collect(folder)


class Balanced(HTMLParser):
    """HTML parser that records open tags and loaded resources."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.loads += [v or "" for k, v in attrs if k in ("src", "srcset", "data") or tag == "link"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_self_contained(study: ReportData) -> None:
    text = page(study, {figure.name: DRAWING for figure in FIGURES})
    parser = Balanced()
    parser.feed(text)
    assert not parser.open
    assert text.count("<svg viewBox") == len(FIGURES) and not parser.loads
    assert not re.search(r"@import|url\((?!#)|<link|<script[^>]* src", text)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert scripts
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in html.unescape(policy)
    assert policy.startswith("default-src 'none';")


def test_published_pages_are_small() -> None:
    pages = sorted((Path(__file__).parents[3] / "reports" / "published").glob("*/page.html"))
    assert pages and all(file.stat().st_size < 3_000_000 for file in pages)


def test_figures_on_the_page_share_no_ids(study: ReportData) -> None:
    text = page(study, {figure.name: DRAWING for figure in FIGURES})
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert {f"{figure.name}-m1" for figure in FIGURES} <= set(ids) and "figure_1" not in text
    for name in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text):
        assert "".join(name) in ids
    assert "color: red" not in text and "maker" not in text
    assert text.count("<title>none: 1 &lt; 2</title>") == len(FIGURES)


def test_data_of_the_timeline_cannot_end_their_script() -> None:
    data = {"videos": ["</script><script>alert(1)</script>", "<!--", "&amp;"]}
    text = render_page(
        title="", description="", warnings=(), headline=(), sections=[Section("V", timeline=data)], source=""
    )
    (found,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, flags=re.DOTALL)
    assert json.loads(found) == data
    assert "alert(1)</script>" not in text


def test_tables_of_the_page_have_a_source(study: ReportData) -> None:
    text = page(study, {})
    assert text.count('<table class="sortable">\n') == text.count('<p class="source">') == 4
    for source in re.findall(r'<p class="source">(.*?)</p>', text):
        for part in ("tal-bench ablate fake", "0123abc", "f" * 16, "2026-01-31"):
            assert part in source


def test_page_has_the_numbers_of_the_table(study: ReportData) -> None:
    text = page(study, {})
    both = next(row for row in study.rows if row.name == "both")
    estimate, _, ends = interval(both.differences["none"]).partition(" [")
    assert f"{estimate}</span><small>[{ends.replace(' [', '')}" in text.replace("≈ ", "≈ ")
    assert f"{both.mean():.1f} ± {both.sd():.1f}" in text


def test_html_is_escaped(study: ReportData) -> None:
    record = study.record.model_copy(update={"command": "tal-bench <script>alert(1)</script>"})
    assert "<script>alert" not in page(replace(study, record=record), {})


@pytest.mark.parametrize(
    "change",
    [{"finished": False}, {"trials": 0, "costs": False, "seeds": 1}, {"rows": ()}, {"videos": 1}],
    ids=str,
)
def test_page_with_missing_data(change: dict[str, object], tmp_path: Path) -> None:
    write_fake_study(tmp_path, **({"rows": ROWS[3:6]} | change))  # type: ignore[arg-type]
    study = collect(tmp_path)
    drawn = {figure.name for figure in FIGURES if figure.draw(study) is not None}
    assert ("tuning" in drawn) == ("rows" not in change and "trials" not in change)
    text = page(study, {})
    assert ("UNFINISHED" in text) == ("finished" in change)
    assert ('id="cost"' in text) == ("costs" not in change and "rows" not in change)


def test_page_includes_diagnosis_and_robustness(study: ReportData, tmp_path: Path) -> None:
    (tmp_path / "diagnosis").mkdir()
    (tmp_path / "diagnosis" / "gains.png").write_bytes(PIXEL)
    (tmp_path / "robustness").mkdir()
    (tmp_path / "robustness" / "robustness.csv").write_text(
        "row,corruption,clean_mean,clean_sd,map_mean,map_sd,drop_mean,drop_sd,"
        "delta_drop,delta_drop_low,delta_drop_high\n"
        "<b>,all,51.5,1.1,36.25,,29.6,1.6,3.9,-0.1,7.8\n<b>,occlusion,51.5,1.1,46.75,,10,1,2,1,3\n"
    )
    text = page(study, {}, tmp_path)
    assert 'src="data:image/png;base64,' in text
    assert 'id="errors"' in text
    for shown in ("51.5 ± 1.1", "36.2", "≈ +3.9 [−0.1, +7.8]", "&lt;b&gt;"):
        assert shown in text
    assert "46.8" not in text
    assert 'id="errors"' not in page(study, {})


def test_numbers_of_the_headline(study: ReportData) -> None:
    first, second = headline(study)
    mean = {row.name: row.mean() or 0.0 for row in study.rows}
    best = max((row for row in study.students()), key=lambda row: row.mean() or 0.0)
    teacher = max(best.record.teachers.values(), key=lambda name: mean[name])
    assert f"`{best.name}`" in first
    gained, gap = mean[best.name] - mean["none"], mean[teacher] - mean["none"]
    assert f"{gained:.1f} of the {gap:.1f} points between the means" in second


def test_two_students_have_no_section_of_all_pairs(study: ReportData, tmp_path: Path) -> None:
    write_fake_study(
        tmp_path, rows=tuple(row for row in ROWS if row.name in ("actionformer", "none", "both"))
    )
    text = page(collect(tmp_path), {})
    assert ">All pairs<" not in text
    assert "Resolution:" in text
    assert ">All pairs<" in page(study, {})


def test_literature_is_separate(study: ReportData) -> None:
    assert not reported(study), "nobody reports numbers on sprites"
    thumos = replace(study, record=study.record.model_copy(update={"dataset": "thumos14-opentad"}))
    rows = reported(thumos)
    assert all(row.origin and row.url.startswith("https://") for row in rows)
    tridet = next(row for row in rows if row.name == "TriDet" and row.modalities == "rgb + flow")
    assert tridet.map["map_avg"] == pytest.approx(
        sum(tridet.map[f"map_{t:.2f}"] for t in TIOU) / len(TIOU), abs=0.01
    )
    for text in (page(thumos, {}), markdown(thumos), latex(thumos)):
        assert CAUTION in text
        assert "69.3" in text
    before, _, after = markdown(thumos).partition("## Reported in the literature")
    assert "TemporalMaxer" not in before
    assert "TemporalMaxer" in after


def test_averages_of_the_literature(study: ReportData) -> None:
    for name in ("thumos14", "epic-kitchens-100-verb", "epic-kitchens-100-noun"):
        rows = reported(replace(study, record=study.record.model_copy(update={"dataset": name})))
        assert rows
        for row in rows:
            levels = [value for metric, value in row.map.items() if metric != "map_avg"]
            if levels:
                assert sum(levels) / len(levels) == pytest.approx(row.map["map_avg"], abs=0.06), row.name


def test_differences_at_each_tiou(study: ReportData) -> None:
    for row in study.students():
        if row.name == "none":
            assert not row.at_tiou
            continue
        assert len(row.at_tiou) == len(TIOU)
        mean = sum(d.estimate for d in row.at_tiou) / len(TIOU)
        assert mean == pytest.approx(row.differences["none"].estimate)
        assert all(d.low < d.estimate < d.high for d in row.at_tiou)


def test_class_differences(study: ReportData) -> None:
    table = class_differences(study)
    assert list(table.columns) == list(CLASSES)
    assert "none" not in table.index
    rows = {row.name: row for row in study.rows}
    both, none = (
        sum(r.per_class["circle"] for r in rows[n].results) / len(rows[n].results) for n in ("both", "none")
    )
    assert table.loc["both", "circle"] == pytest.approx(both - none)


def test_trial_table(study: ReportData, folder: Path) -> None:
    row = next(row for row in study.rows if row.name == "both")
    table = trial_table(row)
    assert len(table) == 8
    assert list(table.columns) == ["number", "status", "map", "best", "lr"], "only what varied"
    first = StudyFolder(folder).read_run(row.record.trials[0])
    assert first is not None
    assert table.loc[0, "lr"] == pytest.approx(first.spec.train.lr)
    assert table["best"].is_monotonic_increasing
    assert table.loc[7, "status"] == "pruned"


def test_weights_of_single_rows_share_a_column_where_there_are_many() -> None:
    rows = [f"row {k}" for k in range(MAX_SETTINGS)]
    shares = pd.DataFrame({"lr": dict.fromkeys([*rows, "none"], 70.0)})
    shares = shares.assign(**{f"weight/{k}": pd.Series({row: 30.0}) for k, row in enumerate(rows)})
    found = merged_weights(shares)
    assert list(found.columns) == ["lr", OWN_WEIGHTS]
    assert found.loc["none"].isna()[OWN_WEIGHTS]
    assert (found.drop(index="none").sum(axis=1) == 100.0).all()
    few = shares[["lr", "weight/0", "weight/1"]]
    assert merged_weights(few) is few


def test_importances(study: ReportData) -> None:
    row = next(row for row in study.rows if row.name == "both")
    table = trial_table(row)
    table["other"] = [0.3, 0.1, 0.4, 0.1, 0.5, 0.9, 0.2, 0.6]
    table["map"] = 100 * table["lr"] / table["lr"].max()
    found = importances(table.assign(status="finished"))
    assert found["lr"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert importances(table.head(3)) == {}


def test_figures_fit_their_frame(study: ReportData) -> None:
    assert {figure.name for figure in FIGURES if not figure.needs(study)} == {"pareto"}
    for name, make in ((figure.name, figure.make) for figure in FIGURES if figure.needs(study)):
        drawing = make(study)
        assert drawing is not None, name
        drawing.draw_without_rendering()
        renderer = drawing.canvas.get_renderer()  # type: ignore[attr-defined]
        words = " ".join(text.get_text() for text in drawing.findobj(lambda a: hasattr(a, "get_text")))
        assert "0123abc" in words, f"{name} does not say its commit"
        box = drawing.get_tightbbox(renderer)  # type: ignore[no-untyped-call]
        width, height = drawing.get_size_inches()
        assert box.x0 > -0.02 and box.y0 > -0.02 and box.x1 < width + 0.02 and box.y1 < height + 0.02, name
