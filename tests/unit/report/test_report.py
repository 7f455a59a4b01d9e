"""Tables, main figure and files of the report of a study."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from xml.etree import ElementTree

import pytest
from fake_study import ROWS, write_fake_study
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tal_bench.errors import InputError
from tal_bench.report.common.formats import interval, seconds, signed
from tal_bench.report.common.label_placement import spread
from tal_bench.report.common.markup import plain
from tal_bench.report.common.plot_style import rendered
from tal_bench.report.common.report_files import IncompleteReportError
from tal_bench.report.common.tables import escape
from tal_bench.report.study.collect import ReportData, collect
from tal_bench.report.study.columns import shown
from tal_bench.report.study.drawings.cost_scatter import figure
from tal_bench.report.study.figures import FIGURES
from tal_bench.report.study.notes import bars, cautions, findings, headline, notes, tuning_luck
from tal_bench.report.study.tables import csv as csv_of
from tal_bench.report.study.tables import latex, markdown
from tal_bench.report.study.terminal import print_study
from tal_bench.report.study.write import write_report
from tal_bench.results.folder import StudyFolder

FILES = {
    *("page.html", "table.md", "table.csv", "table.tex", "pairs.csv", "runs.csv", "trials.csv"),
    *("summary.json", "figure.png", "figure.svg"),
}
FIGURE_NAMES = {
    *("seeds", "tiou", "classes", "cost", "learning", "training", "tuning", "importances", "slices"),
}


@contextmanager
def only(*names: str) -> Iterator[None]:
    """Declare no figures but these."""
    declared = list(FIGURES)
    FIGURES[:] = [figure for figure in declared if figure.name in names]
    try:
        yield
    finally:
        FIGURES[:] = declared


@pytest.fixture
def main_figure_only() -> Iterator[None]:
    """Draw only the main figure, because the others take seconds and have their own tests."""
    with only("figure"):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study")
    write_fake_study(path)
    return path


@pytest.fixture(scope="module")
def study(folder: Path) -> ReportData:
    return collect(folder)


def test_means_and_standard_deviations(study: ReportData, folder: Path) -> None:
    files = StudyFolder(folder)
    for row in study.rows:
        values = [files.read_run(h).metrics["map_avg"] for h in row.record.finals]  # type: ignore[union-attr]
        assert row.mean() == pytest.approx(fmean(values))
        assert row.sd() == pytest.approx(stdev(values))


def test_differences_equal_those_of_means(study: ReportData) -> None:
    by_name = {row.name: row for row in study.rows}
    for name, row in by_name.items():
        for base, found in row.differences.items():
            assert found.estimate == pytest.approx(row.mean() - by_name[base].mean(), abs=1e-6), name  # type: ignore[operator]
            assert found.low < found.estimate < found.high
            assert (found.seeds, found.videos) == (3, 8)
    assert set(by_name["both"].differences) == {"none", "self"}
    assert set(by_name["self"].differences) == {"none"}
    assert not by_name["none"].differences


def test_interaction(study: ReportData) -> None:
    mean = {row.name: row.mean() for row in study.rows}
    expected = mean["both-single"] - mean["cross-modal"] - mean["cross-structure"] + mean["self"]  # type: ignore[operator]
    assert study.interaction is not None
    assert study.interaction.estimate == pytest.approx(expected, abs=1e-6)


def test_no_interaction_without_all_four(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=tuple(r for r in ROWS if r.name != "self"))
    study = collect(tmp_path)
    assert study.interaction is None
    assert "Δ self" not in markdown(study)


def test_groups_come_in_order(study: ReportData) -> None:
    kinds = [row.record.kind for row in study.rows]
    assert kinds == sorted(kinds, key=["teacher", "reference", "student"].index)


def test_unclear_differences_are_marked(study: ReportData) -> None:
    row = next(r for r in study.rows if r.name == "cross-structure")
    found = row.differences["none"]
    wide = replace(found, estimate=0.4, low=-1.0, high=1.8)
    assert interval(wide) == "≈ +0.4 [−1.0, +1.8]"
    assert interval(replace(found, estimate=2.0, low=0.5, high=3.5)) == "+2.0 [+0.5, +3.5]"
    assert interval(replace(found, estimate=2.0, low=0.016, high=3.5)) == "+2.0 [+0.02, +3.5]"
    assert interval(replace(found, estimate=-2.0, low=-3.5, high=0.004)) == "≈ −2.0 [−3.5, +0.004]"
    assert interval(replace(found, estimate=0.0, low=-1e-5, high=0.0)) == "≈ 0.0 [0.0, 0.0]"
    unclear = replace(study, rows=(replace(row, differences={"none": wide}),))
    assert "`cross-structure` against `none`: no clear difference" in findings(unclear)[0]
    assert "≈ +0.4 [−1.0, +1.8]" in markdown(unclear)
    clear = replace(wide, estimate=-0.5, high=-0.1)
    assert (
        "against `none`: worse, −0.5 mAP"
        in findings(replace(study, rows=(replace(row, differences={"none": clear}),)))[0]
    )


def test_failed_seeds(tmp_path: Path) -> None:
    write_fake_study(tmp_path, failing=("both",))
    study = collect(tmp_path)
    text = markdown(study)
    assert "both (2 of 3 seeds)" in text
    assert "seed 2 failed: loss is not finite" in text
    row = next(r for r in study.rows if r.name == "both")
    assert row.differences["none"].seeds == 2, "paired on the seeds that both rows have"
    none = next(r for r in study.rows if r.name == "none")
    shared = fmean(row.values("map_avg")) - fmean(none.values("map_avg")[:2])
    assert row.differences["none"].estimate == pytest.approx(shared, abs=1e-6)


@pytest.mark.usefixtures("main_figure_only")
def test_row_without_results(tmp_path: Path) -> None:
    record = write_fake_study(tmp_path, finished=False)
    for hash_ in record.rows[-1].finals:
        StudyFolder(tmp_path).run_file(hash_).unlink()
    write_report(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "both (0 of 3 seeds)" in text
    assert "UNFINISHED" in text
    assert json.loads((tmp_path / "summary.json").read_text())["complete"] is False


def test_best_student_is_bold_and_teachers_are_not(study: ReportData) -> None:
    text = markdown(study)
    best = max(study.students(), key=lambda row: row.mean() or 0)
    top = max(study.rows, key=lambda row: row.mean() or 0)
    assert top.record.kind == "teacher"
    assert f"**{best.mean():.1f} ± {best.sd():.1f}**" in text
    assert f"**{top.mean():.1f}" not in text


def test_equal_costs_have_no_best(study: ReportData) -> None:
    assert shown(study, "costs")
    assert all(not column.best(study) for column in shown(study, "costs"))


def test_markdown_tables_are_rectangular(study: ReportData) -> None:
    blocks = [b for b in markdown(study).split("\n\n") if b.startswith("|")]
    assert len(blocks) == 4
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_provenance(study: ReportData) -> None:
    text = markdown(study)
    for part in ("tal-bench ablate fake", "0123abc", "f" * 16, "8 test videos", "ActivityNet-style AP"):
        assert part in text
    for part in ("Fake CPU, 1 thread", "2026-01-31", "teacher seed 0"):
        assert part in text


def test_note_on_thumos_with_other_videos(study: ReportData) -> None:
    record = study.record.model_copy(update={"dataset": "THUMOS14", "test_videos": 212})
    assert any("not strictly comparable" in line for line in notes(replace(study, record=record)))
    full = record.model_copy(update={"test_videos": 213})
    assert not any("not strictly comparable" in line for line in notes(replace(study, record=full)))


def test_minutes_and_their_alternative(study: ReportData) -> None:
    row = next(r for r in study.rows if r.name == "actionformer")
    assert row.minute == pytest.approx(2.1 + 1.2 + 19.0 + 0.14)
    assert row.minute_with("flow_tvl1") == pytest.approx(2.1 + 480.0 + 19.0 + 0.14)
    student = next(r for r in study.rows if r.name == "none")
    assert student.minute_with("flow_tvl1") == student.minute
    assert "Totals include 1.20 s of flow extraction per minute of video; TV-L1 takes 480.0 s." in markdown(
        study
    )


def test_csv_is_tidy(study: ReportData) -> None:
    lines = list(csv.DictReader(io.StringIO(csv_of(study))))
    assert [line["row"] for line in lines] == [row.name for row in study.rows]
    for line, row in zip(lines, study.rows, strict=True):
        assert float(line["map_avg_mean"]) == pytest.approx(row.mean())
        assert line["params"] == str(row.cost.params if row.cost else "")
    both = next(line for line in lines if line["row"] == "both")
    assert float(both["delta_none_low"]) < float(both["delta_none"]) < float(both["delta_none_high"])


def test_latex(study: ReportData) -> None:
    assert escape("a_b & 50 % ± −1 \\x") == r"a\_b \& 50 \% $\pm$ $-$1 \textbackslash{}x"
    text = latex(study)
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 3
    body = [line for line in text.splitlines() if line and not line.startswith("%")]
    assert all(line.isascii() for line in body)
    columns = 1 + len(shown(study, "accuracy"))
    rows = [line for line in body if line.startswith("both &")]
    assert rows[0].count(" & ") == columns - 1


def test_report_is_complete_and_repeatable(tmp_path: Path) -> None:
    folder = tmp_path
    write_fake_study(folder, trials=6, rows=ROWS[3:7])
    first = {file.relative_to(folder): file.read_bytes() for file in write_report(folder)}
    with only("figure", "tuning"):
        second = {file.relative_to(folder): file.read_bytes() for file in write_report(folder)}
    del first[Path("page.html")], second[Path("page.html")]  # includes the figures
    figures = {Path("figures", f"{name}.{suffix}") for name in FIGURE_NAMES for suffix in ("png", "svg")}
    assert set(first) == {Path(name) for name in FILES} - {Path("page.html")} | figures
    assert len(second) == len(FILES) - 1 + 2
    assert second.items() <= first.items()
    assert first[Path("figure.png")].startswith(b"\x89PNG")
    assert not list(folder.glob(".*")), "no temporary files stay"


@pytest.mark.usefixtures("main_figure_only")
@pytest.mark.parametrize(
    "change",
    [{"costs": False}, {"video_costs": False}, {"seeds": 1, "trials": 0}, {"videos": 1}, {"rows": ()}],
    ids=str,
)
def test_report_with_missing_data(change: dict[str, object], tmp_path: Path) -> None:
    write_fake_study(tmp_path, **({"finished": False} | change))  # type: ignore[arg-type]
    written = {file.name for file in write_report(tmp_path) if file.parent == tmp_path}
    assert written == FILES - ({"pairs.csv"} if change.keys() & {"videos", "rows"} else set())
    text = (tmp_path / "table.md").read_text()
    assert ("## Cost" in text) == ("costs" not in change and "rows" not in change)
    if "videos" in change:
        assert "Only one test video" in text


def test_no_intervals_without_ground_truth(tmp_path: Path) -> None:
    write_fake_study(tmp_path)
    (tmp_path / "ground_truth.json").unlink()
    study = collect(tmp_path)
    assert study.rows[0].mean() is not None
    assert not any(row.differences for row in study.rows)
    assert "No ground_truth.json" in markdown(study)


@pytest.mark.usefixtures("main_figure_only")
def test_a_malformed_run_of_no_row_costs_the_table_of_runs_only(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=ROWS[4:6])
    (tmp_path / "runs" / "0123456789abcdef.json").write_text("{")
    with pytest.raises(
        IncompleteReportError, match=r"lacks runs.csv, trials.csv \(InputError: .*0123456789abcdef"
    ):
        write_report(tmp_path)
    written = {file.name for file in tmp_path.iterdir()}
    assert written >= FILES - {"runs.csv", "trials.csv"}


def test_malformed_detections_name_the_file(tmp_path: Path) -> None:
    record = write_fake_study(tmp_path, rows=ROWS[4:6])
    file = StudyFolder(tmp_path).run_file(record.rows[0].finals[0], ".detections.json")
    file.write_text('{"results": {"video_0": [{"segment": [1]}]}}')
    with pytest.raises(InputError, match=file.name):
        collect(tmp_path)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_table_fits_the_terminal(study: ReportData, width: int) -> None:
    console = Console(width=width, file=io.StringIO(), record=True, force_terminal=False)
    print_study(study, console)
    lines = console.export_text().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    row = next(line for line in lines if line.startswith("both "))
    assert "…" not in row
    difference = next(r for r in study.rows if r.name == "both").differences["none"]
    assert interval(difference) in row


def printed(study: ReportData, *, terminal: bool = False) -> str:
    console = Console(width=400, file=io.StringIO(), record=True, force_terminal=terminal)
    print_study(study, console)
    return console.export_text()


def test_the_answer_is_printed_last(study: ReportData) -> None:
    tuned = study.rows[-1].record.model_copy(update={"trials": ("a", "b")})
    study = replace(study, rows=(*study.rows[:-1], replace(study.rows[-1], record=tuned)))
    smoke = study.record.spec.model_copy(update={"budget": "smoke"})
    for found in (study, replace(study, record=study.record.model_copy(update={"spec": smoke}))):
        *_, answer = printed(found).split("\n\n")
        expected = [*headline(found), *cautions(found), *tuning_luck(found)]
        assert [line.strip() for line in answer.splitlines()] == [plain(line) for line in expected]


def test_bold_is_explained_where_it_shows(study: ReportData) -> None:
    assert "Bold" not in printed(study)
    assert "Bold" in printed(study, terminal=True)
    assert "Bold" in markdown(study)


def test_models_and_unequal_seeds_are_explained(study: ReportData) -> None:
    remarks = " ".join(notes(study))
    model = study.students()[0].results[0].spec.model
    assert f"`both` train `{model}`: structure " in remarks
    assert "rows with fewer seeds" not in remarks
    fewer = replace(study.rows[0], results=study.rows[0].results[:2])
    assert "rows with fewer seeds" in " ".join(notes(replace(study, rows=(fewer, *study.rows[1:]))))
    assert bars([len(row.results) for row in (fewer, *study.rows[1:])]).endswith("over 2 to 3 seeds.")
    assert bars([0, 1, 8]) == "Bars: ± standard deviation over 8 seeds. Rows with one seed have none."
    assert bars([1, 0]) == bars([]) == "One seed."


def _texts(study: ReportData) -> list[tuple[float, float, float, float]]:
    drawing = figure(study)
    renderer = drawing.canvas.get_renderer()  # type: ignore[attr-defined]
    names = {row.name for row in study.rows}
    texts = [t for t in drawing.axes[0].texts if t.get_text() in names]
    assert {t.get_text() for t in texts} == names
    width, height = drawing.bbox.width, drawing.bbox.height
    boxes = [t.get_window_extent(renderer) for t in texts]
    # The extent of an annotation includes its arrow, that of its text does not.
    boxes = [super(type(t), t).get_window_extent(renderer) for t in texts]
    assert all(b.x0 >= 0 and b.x1 <= width and b.y0 >= 0 and b.y1 <= height for b in boxes)
    return [(b.x0, b.y0, b.x1, b.y1) for b in boxes]


@pytest.mark.parametrize("costs", [True, False], ids=["minute", "latency"])
def test_labels_do_not_overlap(costs: bool, tmp_path: Path) -> None:
    write_fake_study(tmp_path, video_costs=costs)
    boxes = _texts(collect(tmp_path))
    for k, a in enumerate(boxes):
        for b in boxes[:k]:
            width = min(a[2], b[2]) - max(a[0], b[0])
            height = min(a[3], b[3]) - max(a[1], b[1])
            assert width <= 0 or height <= 2, "label boxes may touch, not cover"


def test_label_positions_are_equal_in_png_and_svg(study: ReportData) -> None:
    drawing = figure(study)
    wanted = {t.get_text(): t.get_position() for t in drawing.axes[0].texts}
    svg = ElementTree.fromstring(rendered(drawing)[".svg"])
    width, height = (float(v) for v in svg.attrib["viewBox"].split()[2:])
    found = 0
    for element in svg.iter("{http://www.w3.org/2000/svg}text"):
        name = "".join(element.itertext())
        if name in wanted:
            x, y = float(element.attrib["x"]), float(element.attrib["y"])
            assert y / height == pytest.approx(1 - wanted[name][1], abs=0.02), name
            assert x / width == pytest.approx(wanted[name][0], abs=0.02), name
            found += 1
    assert found == len(wanted)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.5, 8)), min_size=1, max_size=10))
def test_spread_keeps_order_distance_and_limits(labels: list[tuple[float, float]]) -> None:
    labels = sorted(labels)
    wanted, heights = [w for w, _ in labels], [h for _, h in labels]
    middles = spread(wanted, heights, 0.0, 100.0)
    for k in range(1, len(middles)):
        assert middles[k] - middles[k - 1] >= (heights[k] + heights[k - 1]) / 2 - 1e-6
    assert middles[0] - heights[0] / 2 >= -1e-6
    assert middles[-1] + heights[-1] / 2 <= 100 + 1e-6


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [(signed, -0.04, "0.0"), (signed, -1.25, "−1.2"), (signed, 3.0, "+3.0"), (seconds, 0.0953, "0.095")],
)
def test_numbers(function: Callable[[float], str], value: float, text: str) -> None:
    assert function(value) == text


def test_logarithmic_cost_axis(tmp_path: Path) -> None:
    write_fake_study(tmp_path)
    study = collect(tmp_path)
    slow = []
    for row in study.rows:
        assert row.cost is not None
        minute = {"decode": 0.8, "backbone": 0.4} | ({"flow": 480.0} if "flow" in row.cost.minute else {})
        slow.append(replace(row, cost=row.cost.model_copy(update={"minute": minute})))
    drawing = figure(replace(study, rows=tuple(slow)))
    axes = drawing.axes[0]
    assert axes.get_xscale() == "log"
    low, high = axes.get_xlim()
    ticks = axes.xaxis.get_major_formatter().format_ticks([t for t in axes.get_xticks() if low <= t <= high])
    assert len(set(ticks)) == len(ticks) > 3
    assert "0" not in ticks
