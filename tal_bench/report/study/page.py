"""Report as a self-contained HTML page with tables, figures and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tal_bench.report.common import formats
from tal_bench.report.common.page_parts import Picture, Section, picture, render_page, vector_picture
from tal_bench.report.common.tables import Cell
from tal_bench.report.diagnosis.source import has_detections, study_source
from tal_bench.report.diagnosis.video_timeline import timeline_data
from tal_bench.report.diagnosis.write import FIGURES as DIAGNOSIS_FIGURES
from tal_bench.report.leaderboard.result import PublishedResult
from tal_bench.report.robustness.tables import means_over_corruptions
from tal_bench.report.robustness.write import FIGURES as ROBUSTNESS_FIGURES
from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData
from tal_bench.report.study.figures import FIGURES, SECTIONS
from tal_bench.report.study.literature import CAUTION, reported_table
from tal_bench.report.study.pairs import pairs_table, sentences, several
from tal_bench.report.study.tables import TRAINING, merged, table, tuned_settings


def page(study: ReportData, figures: Mapping[str, bytes], folder: Path | None = None) -> str:
    """Return the HTML page of a report.

    Args:
        study: Result of `collect`.
        figures: SVG content of each drawn figure.
        folder: Folder of the study, whose detections and subfolders `diagnosis` and `robustness` are
            included; None to leave them out.
    """
    contents = [
        _accuracy(study),
        _pairs(study),
        _cost(study),
        _reported(study),
        _robustness(folder),
        _diagnosis(folder),
        _videos(study, folder),
        Section("Settings", points=tuned_settings(study.rows)),
        Section("Provenance", points=[*notes.provenance(study), *notes.notes(study), *notes.bold(study)]),
    ]
    return render_page(
        title=notes.title(study),
        description=study.record.spec.description,
        warnings=notes.cautions(study),
        headline=notes.headline(study),
        sections=_arranged(contents, figures),
        source=" · ".join(notes.source(study)),
        rows=[row.name for row in study.rows if row.results],
    )


def _arranged(contents: Sequence[Section], images: Mapping[str, bytes]) -> list[Section]:
    """Return the sections with their figures, in the order of `SECTIONS`; others come before the last one."""
    by_title = {section.title: section for section in contents}
    *first, last = SECTIONS
    sections = []
    for title in dict.fromkeys([*first, *(figure.section for figure in FIGURES), last]):
        section = by_title.get(title, Section(title))
        drawn = [
            vector_picture(images[f.name], f.name, f.caption)
            for f in FIGURES
            if f.section == title and f.name in images
        ]
        sections.append(replace(section, figures=[*drawn, *section.figures]))
    return [s for s in sections if s.tables or s.points or s.figures or s.timeline]


def _accuracy(study: ReportData) -> Section:
    text = [
        "mAP in percent at each tIoU, and their average as mean ± standard deviation over seeds. "
        f"{formats.UNCLEAR}: the interval includes 0, no clear difference."
    ]
    found = table(study, "accuracy")
    points = notes.findings(study) if several(study) else [*notes.findings(study), *sentences(study)]
    return Section("Accuracy", text, [merged(found, " ← ")] if found else [], points)


def _pairs(study: ReportData) -> Section:
    text = [
        "Differences of average mAP in points, row minus column; bold where simultaneous intervals exclude 0."
    ]
    found = pairs_table(study)
    return Section("All pairs", text, [found], sentences(study)) if found else Section("All pairs")


def _cost(study: ReportData) -> Section:
    text = ["Cost of the detector, and of one minute of video from the file to the segments."]
    found, training = table(study, "costs"), table(study, "training")
    if training:
        text.append(f"Below: {TRAINING[0].lower()}{TRAINING[1:]}.")
    tables = [merged(t, between) for t, between in ((found, ", "), (training, " ← ")) if t]
    return Section("Cost", text, tables)


def _reported(study: ReportData) -> Section:
    def source(result: PublishedResult) -> Cell:
        url = result.url.removeprefix("https://")
        return Cell(result.origin, ", ".join(filter(None, (result.setting, url))), "text")

    found = reported_table(study, source)
    return Section("Reported in the literature", [CAUTION], [found] if found else [])


def _diagnosis(folder: Path | None) -> Section:
    """Return the section with the figures of `<study>/diagnosis`, if there are any."""
    text = ["Output of `tal-bench diagnose`; its tables are in `diagnosis/`."]
    pictures = _pictures(folder, "diagnosis", {figure.name: figure.caption for figure in DIAGNOSIS_FIGURES})
    return Section("Errors", text, figures=pictures)


def _videos(study: ReportData, folder: Path | None) -> Section:
    """Return the section with the timeline of the test videos, if the folder has detections."""
    if folder is None or not has_detections(folder):
        return Section("Test videos")
    averages: dict[tuple[str, int | None], float] = {
        (row.name, r.spec.seed): r.metrics["map_avg"]
        for row in study.rows
        for r in row.results
        if "map_avg" in r.metrics
    }
    data = timeline_data(study_source(folder), averages)
    if not data["rows"]:
        return Section("Test videos")
    shown, of = len(data["videos"]), data["of"]
    text = [
        "Ground truth and the best detections of two rows, of the first seed, in "
        + (f"each of the {of} test videos." if shown == of else f"{shown} of {of} test videos.")
    ]
    return Section("Test videos", text, timeline=data)


def _robustness(folder: Path | None) -> Section:
    """Return the section with figure and means over corruptions of `<study>/robustness`, if they exist."""
    file = folder / "robustness" / "robustness.csv" if folder else None
    tables = [means_over_corruptions(file)] if file and file.is_file() else []
    text = ["Output of `tal-bench robustness`; results of each corruption and severity are in `robustness/`."]
    pictures = _pictures(folder, "robustness", {figure.name: figure.caption for figure in ROBUSTNESS_FIGURES})
    return Section("Robustness", text, tables, figures=pictures)


def _pictures(folder: Path | None, name: str, captions: Mapping[str, str]) -> list[Picture]:
    if folder is None:
        return []
    files = {figure: folder / name / f"{figure}.png" for figure in captions}
    return [picture(file.read_bytes(), captions[figure]) for figure, file in files.items() if file.is_file()]
