"""Sentences of a comparison: findings, what the numbers leave out, and where they come from."""

from __future__ import annotations

from tal_bench.evaluation.ranks import Outcomes
from tal_bench.report.common import formats
from tal_bench.report.common.markup import code
from tal_bench.report.comparison.data import DETECTIONS, ComparedDataset, StudyComparison
from tal_bench.report.study import notes, pairs


def title(comparison: StudyComparison) -> str:
    """Return the title of tables, page and figures."""
    return f"Comparison on {', '.join(dataset.name for dataset in comparison.datasets)}"


def headline(comparison: StudyComparison) -> list[str]:
    """Return a sentence on the row with the best mean rank."""
    if not comparison.ranks:
        return []
    best, rank = next(iter(comparison.ranks.items()))
    several = len(comparison.datasets) > 1
    where = "on every dataset" if several else "here"
    against = [found for (row, _), found in comparison.outcomes.items() if row == best]
    total = sum(against, Outcomes())
    return [
        f"Of {len(comparison.ranks)} rows that are compared {where}, {code(best)} has the best "
        f"{'mean rank' if several else 'rank'}, {formats.number(rank.mean)} [{formats.number(rank.low)}, "
        f"{formats.number(rank.high)}]; against all other rows: clear wins {total.wins}, ties {total.ties}, "
        f"clear losses {total.losses}."
    ]


def findings(comparison: StudyComparison) -> list[str]:
    """Return sentences on the pairs of each dataset: clear differences, rows that cannot be told apart."""
    found: dict[str, list[str]] = {}
    for dataset in comparison.datasets:
        for sentence in pairs.group_sentences(dataset.comparison) if dataset.comparison else ():
            found.setdefault(sentence, []).append(dataset.name)
    every = len(comparison.datasets)
    return [text if len(on) == every else f"{', '.join(on)}: {text}" for text, on in found.items()]


def cautions(comparison: StudyComparison) -> list[str]:
    """Return warnings on preliminary numbers of the studies."""
    return [
        f"{_place(comparison, dataset, study)}: {line}"
        for dataset in comparison.datasets
        for study, report in dataset.studies.items()
        for line in notes.cautions(report)
    ]


def remarks(comparison: StudyComparison) -> list[str]:
    """Return notes that are needed to interpret the numbers."""
    lines = [
        "mAP in percent, mean ± standard deviation over seeds; Δ none: paired difference to `none` of the "
        f"same study with its 95 % interval; {formats.UNCLEAR}: the interval includes 0. Rows with a common "
        "letter cannot be told apart: the simultaneous interval of their difference, adjusted for the pairs "
        "of the dataset, includes 0. Bold: best mean among compared rows."
    ]
    if comparison.ranks:
        lines.append(
            "A clear win is a simultaneous interval above 0, all else is a tie. Intervals of mean ranks come "
            "from the bootstrap over the videos of each dataset and the seeds of each row, and leave out the "
            "variance of choosing datasets."
        )
    lines += [*_files(comparison), *_seeds(comparison), *_left_out(comparison), *_models(comparison)]
    for dataset in comparison.datasets:
        lines += _costs(dataset)
        for study, report in dataset.studies.items():
            place = _place(comparison, dataset, study)
            lines += [f"{place}: {warning}." for warning in report.warnings]
    return lines


def provenance(comparison: StudyComparison) -> list[str]:
    """Return lines on the origin of the numbers: one per study, and one per file of detections."""
    lines = []
    for dataset in comparison.datasets:
        record = dataset.report.record
        lines.append(
            f"{dataset.name}: {record.evaluation}, {record.test_videos} test videos, "
            f"fingerprint {record.fingerprint}"
        )
        for study, report in dataset.studies.items():
            own = report.record
            lines.append(
                f"{code(study)} on {dataset.name}: {code(own.command)}, "
                f"commit {', '.join(notes.commits(report)) or 'unknown'}, {own.finished or 'unfinished'}"
            )
        lines += [
            f"{code(name)} on {dataset.name}: {code(file.path.name)}, {len(file.detections.table)} detections"
            for name, file in dataset.files.items()
        ]
    return lines


def source(comparison: StudyComparison) -> list[str]:
    """Return a short provenance for figures and below tables."""
    parts = []
    for dataset in comparison.datasets:
        record = dataset.report.record
        parts.append(f"data {dataset.name} {record.fingerprint}")
        for study, report in dataset.studies.items():
            commits = ", ".join(notes.commits(report)) or "unknown"
            parts.append(f"{study}: commit {commits}, {(report.record.finished or 'unfinished')[:10]}")
    return parts


def _place(comparison: StudyComparison, dataset: ComparedDataset, study: str) -> str:
    return f"{code(study)} on {dataset.name}" if len(comparison.datasets) > 1 else code(study)


def _files(comparison: StudyComparison) -> list[str]:
    """Return notes on files of detections: one training each, and what was not scored."""
    shown = [name for name, kind in comparison.kinds.items() if kind == DETECTIONS]
    if not shown:
        return []
    verb, training = ("is a file", "training") if len(shown) == 1 else ("are files", "trainings")
    lines = [
        f"{', '.join(map(code, shown))} {verb} of detections of one training. Intervals include the variance "
        f"of the videos and of the seeds of the other row, but not that of the files' {training}; between "
        "two files they include that of the videos alone."
    ]
    for dataset in comparison.datasets:
        for name, file in dataset.files.items():
            for count, what in (
                (file.detections.stray, "in videos that are not test videos, counted as wrong"),
                (file.detections.unknown, "whose label is not in the ground truth, ignored"),
            ):
                if count:
                    lines.append(f"{code(name)} on {dataset.name}: {count} detections {what}.")
    return lines


def _seeds(comparison: StudyComparison) -> list[str]:
    """Return a note on rows with one seed, and one on rows with different numbers of seeds."""
    counts = {
        len(sample.average)
        for dataset in comparison.datasets
        for row in dataset.rows
        if row.kind != DETECTIONS and (sample := dataset.compared.get(row.name))
    }
    lines = []
    if 1 in counts:
        lines.append("Intervals from one seed include only the variance of the videos.")
    if len(counts) > 1:
        lines.append(
            "Rows have different numbers of seeds; each pair is compared on the seeds that both have, the "
            "first ones."
        )
    return lines


def _left_out(comparison: StudyComparison) -> list[str]:
    compared = dict.fromkeys(name for dataset in comparison.datasets for name in dataset.compared)
    missing = [name for name in compared if name not in comparison.ranks]
    if not comparison.ranks or not missing:
        return []
    return [f"Without a mean rank, since not on every dataset: {', '.join(map(code, missing))}."]


def _models(comparison: StudyComparison) -> list[str]:
    """Return a note on rows whose model is not the same on all datasets."""
    models: dict[str, dict[str, None]] = {}
    for dataset in comparison.datasets:
        for row in dataset.rows:
            if row.row is not None:
                models.setdefault(row.name, {})[row.row.record.model] = None
    return [
        f"{code(name)} is not the same model on all datasets: {', '.join(map(code, found))}."
        for name, found in models.items()
        if len(found) > 1
    ]


def _costs(dataset: ComparedDataset) -> list[str]:
    """Return a note on costs of a dataset that were measured under different conditions."""
    costs = [row.row.cost for row in dataset.rows if row.row and row.row.cost]
    conditions = {(c.device, c.threads, c.precision) for c in costs}
    if len(conditions) < 2:
        return []
    found = "; ".join(
        sorted(f"{device}, {notes.threads(n)}, {precision}" for device, n, precision in conditions)
    )
    return [f"{dataset.name}: latencies, memory and seconds do not compare, measured on {found}."]
