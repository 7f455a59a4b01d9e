"""Sentences of a report: headline, findings, provenance and notes."""

from __future__ import annotations

from collections.abc import Sequence

from tal_bench.config import StudySpec
from tal_bench.evaluation.significance import Interval
from tal_bench.report.common.formats import UNCLEAR, ends, interval, seconds, signed, spread
from tal_bench.report.common.markup import code
from tal_bench.report.study.collect import ReportData, Row
from tal_bench.results.columns import extractor_name
from tal_bench.system.text import counted

MAX_LATENCY_IQR = 0.3
"""Interquartile range of a latency, as a share of its median, above which a note is added."""
THUMOS_VIDEOS = 213
"""Number of test videos of published THUMOS14 results."""


def bars(seeds: Sequence[int]) -> str:
    """Return the sentence of a caption on bars of mean and spread, by the number of seeds of each row."""
    several = [count for count in seeds if count > 1]
    if not several:
        return "One seed."
    single = " Rows with one seed have none." if 1 in seeds else ""
    return f"Bars: ± standard deviation over {counted(several, 'seed')}.{single}"


def findings(study: ReportData) -> list[str]:
    """Return one sentence per comparison of a student row, and one on the interaction."""
    lines = []
    for row in study.students():
        for base, difference in row.differences.items():
            if not difference.excludes_zero:
                verdict = "no clear difference"
            else:
                verdict = "better" if difference.estimate > 0 else "worse"
            lines.append(f"{code(row.name)} against {code(base)}: {verdict}, {_points(difference)}.")
    return lines + interaction(study)


def interaction(study: ReportData) -> list[str]:
    """Return the sentence on the interaction; empty unless all four rows exist."""
    if study.interaction is None:
        return []
    sign = "positive" if study.interaction.estimate > 0 else "negative"
    verdict = sign if study.interaction.excludes_zero else "no clear difference from 0"
    return [
        "Interaction, `both-single` − `cross-modal` − `cross-structure` + `self`: "
        f"{verdict}, {_points(study.interaction)}."
    ]


def _points(difference: Interval) -> str:
    level = f"{100 * difference.level:.0f} %"
    return f"{signed(difference.estimate)} mAP, {level} interval {ends(difference)}"


def provenance(study: ReportData) -> list[str]:
    """Return lines on the origin of the numbers: command, commit, data, protocol, date, hardware."""
    record = study.record
    devices = sorted(
        {
            f"{row.cost.device}, {threads(row.cost.threads)}, {row.cost.precision}"
            for row in study.rows
            if row.cost
        }
    )
    trained = sorted({_hardware(e) for e in study.environments} - {""})
    spending = record.spec.effective_budget
    return [
        f"Command: {code(record.command)}",
        f"Commit: {', '.join(commits(study)) or 'unknown'}",
        f"Dataset: {record.dataset}, fingerprint {record.fingerprint}, {record.test_videos} test videos",
        f"Protocol: {record.evaluation}; budget {code(record.spec.budget)}, "
        f"{spending.trials} {'trial' if spending.trials == 1 else 'trials'} per student row, "
        f"{spending.seeds} {'seed' if spending.seeds == 1 else 'seeds'}{_changed_tuning(record.spec)}",
        f"Date: {record.finished or 'unfinished'}",
        f"Trained on: {'; '.join(trained) or 'unknown'}",
        f"Costs measured on: {'; '.join(devices) or 'not measured'}{_minute_devices(study)}",
    ]


def _minute_devices(study: ReportData) -> str:
    """Return where the minute of video was measured if it is not where the other costs were."""
    costs = [row.cost for row in study.rows if row.cost and row.cost.minute_device]
    others = sorted({cost.minute_device for cost in costs if cost.minute_device != cost.device})
    return f"; minutes of video on: {'; '.join(others)}" if others else ""


def _changed_tuning(spec: StudySpec) -> str:
    """Return sampler and pruner if they are not the default ones."""
    settings = [("sampler", spec.sampler, "tpe"), ("pruner", spec.pruner, "median")]
    return "".join(f", {name} {value}" for name, value, default in settings if value != default)


def title(study: ReportData) -> str:
    """Return the title: name, dataset, student if it is not the default, and whether runs are missing."""
    spec = study.record.spec
    student = "" if spec.student == StudySpec.model_fields["student"].default else f", student {spec.student}"
    return f"{spec.name} on {study.record.dataset}{student}{'' if study.complete else ' (incomplete)'}"


def source(study: ReportData) -> list[str]:
    """Return a short provenance for figures: command, commit, data, date."""
    record = study.record
    return [
        record.command or "command unknown",
        f"commit {', '.join(commits(study)) or 'unknown'}",
        f"data {record.dataset} {record.fingerprint}",
        record.finished or "unfinished",
    ]


def commits(study: ReportData) -> list[str]:
    """Return the commits with which the runs were trained."""
    return sorted({e.get("commit", "") for e in study.environments} - {""})


def threads(count: int | str) -> str:
    """Return a number of threads in words."""
    return f"{count} {'thread' if str(count) == '1' else 'threads'}"


def _hardware(environment: dict[str, str]) -> str:
    parts = [environment.get("hardware", ""), environment.get("device", "")]
    if "threads" in environment:
        parts.append(threads(environment["threads"]))
    return ", ".join(dict.fromkeys(filter(None, parts)))


def headline(study: ReportData) -> list[str]:
    """Return up to two sentences on the best student, its gain and its best teacher."""
    students = [row for row in study.students() if row.mean() is not None]
    if len(students) < 2:
        return []
    best = max(students, key=lambda row: row.mean() or 0.0)
    name = code(best.name)
    if best.name == "none":
        others = [code(row.name) for row in students if row is not best]
        who = f"{others[0]} is not" if len(others) == 1 else f"None of {len(others)} variants is"
        return [f"{who} better than {name}, {spread(best.mean(), best.sd())}."]
    text = f"Of {len(students)} students, {name} has the best average mAP, {spread(best.mean(), best.sd())}"
    difference = best.differences.get("none")
    text += f", {interval(difference)} against `none`." if difference else "."
    teachers = [row for row in study.rows if row.name in best.record.teachers.values() and row.mean()]
    base = next((row.mean() for row in students if row.name == "none"), None)
    if not teachers or base is None:
        return [text]
    top = max(teachers, key=lambda row: row.mean() or 0.0)
    gap = (top.mean() or 0.0) - base
    which = "best teacher" if len(teachers) > 1 else "teacher"
    comparison = f"Its {which} {code(top.name)} ({top.record.modalities}) has {spread(top.mean(), top.sd())}"
    if gap > 0:
        comparison += (
            f"; {name} closes {(best.mean() or 0.0) - base:.1f} of the {gap:.1f} points between the means of "
            "`none` and this teacher"
        )
    if best.minute and top.minute and top.minute > best.minute:
        comparison += (
            f", at {100 * best.minute / top.minute:.0f} % of the teacher's seconds per minute of video"
        )
        minutes = {a: (best.minute_with(a), top.minute_with(a)) for a in top.cost.minute_alternatives}  # type: ignore[union-attr]
        shares = [f"{100 * x / y:.1f} % with {extractor_name(a)}" for a, (x, y) in minutes.items() if x and y]
        comparison += f" ({', '.join(shares)})" if shares else ""
    return [text, f"{comparison}."]


def cautions(study: ReportData) -> list[str]:
    """Return warnings on preliminary numbers: missing runs, the budget `smoke`."""
    lines = [*_incomplete(study), *_collapsed(study)]
    if study.record.spec.budget == "smoke":
        lines.append("Budget `smoke` is a functional test; its numbers do not allow conclusions on methods.")
    return lines


def notes(study: ReportData) -> list[str]:
    """Return cautions, and notes that are needed to interpret the numbers."""
    return [*cautions(study), *remarks(study)]


def remarks(study: ReportData) -> list[str]:
    """Return notes on models, pairing, intervals, tuning and costs."""
    record, spending = study.record, study.record.spec.effective_budget
    lines = []
    if any(row.record.teachers for row in study.rows):
        if spending.paired_teachers:
            lines.append("Students of seed s are distilled from teachers of seed s.")
        elif spending.seeds > 1:
            lines.append(
                "All students are distilled from teacher seed 0, so their spread over seeds does not include "
                "the variance of the teacher."
            )
    if "thumos14" in record.dataset.lower() and record.test_videos != THUMOS_VIDEOS:
        lines.append(
            f"{record.test_videos} test videos instead of the {THUMOS_VIDEOS} of published THUMOS14 results: "
            "not strictly comparable with them."
        )
    if len(commits(study)) > 1:
        lines.append("The runs were trained with more than one commit.")
    lines += _architectures(study)
    if any(row.differences for row in study.rows):
        shared = ", rows with fewer seeds on those that both have" if _unequal_seeds(study) else ""
        lines.append(
            "mAP in percent, mean ± standard deviation over seeds. Differences are paired by video and seed"
            f"{shared}; 95 % intervals include the variance of both. {UNCLEAR}: the interval includes 0, no "
            "clear difference."
        )
        if grouped := next((d for row in study.rows for d in row.differences.values() if d.groups), None):
            lines.append(
                f"The {grouped.videos} test videos belong to {grouped.groups} groups (persons, cameras); "
                "the bootstrap draws groups instead of videos."
            )
        if any(d.seeds == 1 for row in study.rows for d in row.differences.values()):
            lines.append("Intervals from one seed include only the variance of the videos.")
    lines += [*_tuning_notes(study), *_latency_notes(study), *_extraction_notes(study.rows)]
    return lines + [f"{w[0].upper()}{w[1:]}." for w in study.warnings]


def bold(study: ReportData) -> list[str]:
    """Return the note on bold numbers, for outputs that can show them."""
    return ["Bold: best mean among students."] if any(row.differences for row in study.rows) else []


def tuning_luck(study: ReportData) -> list[str]:
    """Return the sentence on what intervals leave out in studies whose students are tuned."""
    tuned = study.record.searches or any(len(row.record.trials) > 1 for row in study.students())
    if not tuned or not any(row.differences for row in study.rows):
        return []
    return [
        "Intervals do not include the luck of tuning: the settings of each row were chosen once, and another "
        "search could have chosen others."
    ]


def _unequal_seeds(study: ReportData) -> bool:
    return len({len(row.results) for row in study.rows if row.results}) > 1


def _architectures(study: ReportData) -> list[str]:
    """Return a note on each model that students and references train: rows, structure and modalities."""
    rows = [row for row in study.rows if row.results and row.record.kind != "teacher"]
    lines = []
    for model in dict.fromkeys(row.results[0].spec.model for row in rows):
        own = [row for row in rows if row.results[0].spec.model == model]
        detector = own[0].results[0].spec.detector
        inputs = f"reads {' + '.join(detector.reads)}"
        if detector.inputs == "hallucinated":
            inputs += f", and features of {' + '.join(detector.privileged)} that it predicts from that"
        names = ", ".join(code(row.name) for row in own if row.name != model)
        rest = f"structure {code(detector.structure)}, {inputs}."
        lines.append(f"{names} train {code(model)}: {rest}" if names else f"{code(model)}: {rest}")
    return lines


def _latency_notes(study: ReportData) -> list[str]:
    """Return a note on latencies that varied strongly between calls."""
    costs = [(row.name, row.cost.latency_ms) for row in study.rows if row.cost]
    noisy = [name for name, ms in costs if ms.get("iqr", 0.0) > MAX_LATENCY_IQR * ms["median"]]
    if not noisy:
        return []
    return [
        f"Latency varied by more than {MAX_LATENCY_IQR:.0%} between calls for "
        f"{', '.join(map(code, noisy))}: other programs were running."
    ]


def _tuning_notes(study: ReportData) -> list[str]:
    """Return notes on tuning that differs from the defaults."""
    record, spec = study.record, study.record.spec
    lines = []
    if record.searches:
        lines.append(
            f"Students are the members of fronts of {' and '.join(spec.objective)}, selected on validation "
            "data without test scores."
        )
    if spec.patience is not None:
        tuned = [*record.searches, *(row.record for row in study.students())]
        stopped = [
            f"{code(row.name)} {len(row.trials)}"
            for row in tuned
            if 0 < len(row.trials) < spec.effective_budget.trials
        ]
        if stopped:
            lines.append(
                f"Tuning stopped after {spec.patience} generations without improvement: "
                f"{', '.join(stopped)} of {spec.effective_budget.trials} trials."
            )
    if spec.start:
        lines.append(
            f"The first trials used settings from an earlier study: {', '.join(map(code, spec.start))}."
        )
    return lines


def _incomplete(study: ReportData) -> list[str]:
    lines = []
    if study.record.finished is None:
        lines.append("UNFINISHED: the study has not ended; the report shows only finished runs.")
    for row in study.rows:
        if not row.complete:
            errors = "; ".join(f"seed {seed} failed: {error}" for seed, error in row.failures.items())
            lines.append(f"{code(row.name)} has {row.seeds_text}{f' ({errors})' if errors else ''}.")
    return lines


def _collapsed(study: ReportData) -> list[str]:
    """Return one line per row with trainings that learned nothing."""
    return [
        f"{code(row.name)} learned nothing in seed{'s' * (len(row.collapsed) > 1)} "
        f"{', '.join(map(str, row.collapsed))}: the loss stayed flat, or no detection is better than chance. "
        "This says nothing about the method; lower the learning rate (`training: {lr: …}` in the dataset "
        "file), or check the features with `tal-bench data check`."
        for row in study.rows
        if row.collapsed
    ]


def _extraction_notes(rows: Sequence[Row]) -> list[str]:
    """Return notes on the cost of other privileged extractors, without duplicates."""
    lines = []
    for row in rows:
        if row.cost is None or not row.cost.minute_alternatives:
            continue
        for alternative in row.cost.minute_alternatives:
            step = alternative.partition("_")[0]
            if step in row.cost.minute:
                other = row.cost.minute_alternatives[alternative]
                lines.append(
                    f"Totals include {seconds(row.cost.minute[step])} s of {step} extraction per minute of "
                    f"video; {extractor_name(alternative)} takes {seconds(other)} s."
                )
    return list(dict.fromkeys(lines))
