"""The words of a report: what the intervals say, where the numbers come from, what to keep in mind."""

from __future__ import annotations

from collections.abc import Sequence

from tal_bench.config import StudySpec
from tal_bench.evaluation.significance import Interval
from tal_bench.report.study.collect import Row, Study

UNCLEAR = "≈"
NOTHING = "–"
EXTRACTORS = {"dis": "DIS", "tvl1": "TV-L1", "farneback": "Farneback"}
UNSTEADY = 0.3
"""Interquartile range of a latency, as a share of its median, that a reader should hear of."""
THUMOS_VIDEOS = 213
"""Test videos of the published THUMOS14 rows."""


def number(value: float | None, digits: int = 1) -> str:
    """A number, or a dash for one that is not there."""
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", "−")


def seconds(value: float | None) -> str:
    """Seconds with about three significant digits, in decimals."""
    return NOTHING if value is None else number(value, 3 if value < 1 else 2 if value < 10 else 1)


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign; what rounds to 0 has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def interval(value: Interval | None) -> str:
    """`+3.2 [+1.1, +5.3]`, marked when it includes 0."""
    if value is None:
        return NOTHING
    text = f"{signed(value.estimate)} [{signed(value.low)}, {signed(value.high)}]"
    return text if value.excludes_zero else f"{UNCLEAR} {text}"


def spread(mean: float | None, sd: float | None) -> str:
    """`45.3 ± 0.8`; one seed has no spread."""
    return number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"


def extractor(alternative: str) -> str:
    """`flow_tvl1` as tables show it: `TV-L1`."""
    name = alternative.partition("_")[2] or alternative
    return EXTRACTORS.get(name, name)


def findings(study: Study) -> list[str]:
    """One sentence per comparison of a student row; those without a clear difference are said as such."""
    lines = []
    for row in study.students():
        for base, found in row.differences.items():
            if not found.excludes_zero:
                verdict = "no clear difference"
            else:
                verdict = "better" if found.estimate > 0 else "worse"
            lines.append(f"`{row.name}` against `{base}`: {verdict}, {_points(found)}.")
    if study.interaction is not None:
        clear = study.interaction.excludes_zero
        kind = "more" if study.interaction.estimate > 0 else "less"
        verdict = f"together {kind} than the sum" if clear else "no clear difference from the sum"
        lines.append(
            "Interaction, `both-single` − `cross-modal` − `cross-structure` + `self`: "
            f"{verdict}, {_points(study.interaction)}."
        )
    return lines


def _points(found: Interval) -> str:
    ends = f"[{signed(found.low)}, {signed(found.high)}]"
    return f"{signed(found.estimate)} mAP, {100 * found.level:.0f} % interval {ends}"


def provenance(study: Study) -> list[str]:
    """Where the numbers come from: command, code, data, protocol, date, hardware."""
    record = study.record
    devices = sorted(
        {
            f"{row.cost.device}, {_threads(row.cost.threads)}, {row.cost.precision}"
            for row in study.rows
            if row.cost
        }
    )
    trained = sorted({_hardware(e) for e in study.environments} - {""})
    spending = record.spec.spending
    return [
        f"Command: `{record.command}`",
        f"Commit: {', '.join(commits(study)) or 'unknown'}",
        f"Dataset: {record.dataset}, fingerprint {record.fingerprint}, {record.test_videos} test videos",
        f"Protocol: {record.evaluation}; budget `{record.spec.budget}`, "
        f"{spending.trials} {'trial' if spending.trials == 1 else 'trials'} per student row, "
        f"{spending.seeds} {'seed' if spending.seeds == 1 else 'seeds'}{_way(record.spec)}",
        f"Date: {record.finished or 'unfinished'}",
        f"Trained on: {'; '.join(trained) or 'unknown'}",
        f"Costs measured on: {'; '.join(devices) or 'not measured'}",
    ]


def _way(spec: StudySpec) -> str:
    """How trials were chosen and ended, where it is not the usual way."""
    changed = [("sampler", spec.sampler, "tpe"), ("pruner", spec.pruner, "median")]
    return "".join(f", {what} {value}" for what, value, usual in changed if value != usual)


def title(study: Study) -> str:
    """Name, dataset, the student if it is not the usual one, and whether something is missing."""
    spec = study.record.spec
    student = "" if spec.student == StudySpec.model_fields["student"].default else f", student {spec.student}"
    return f"{spec.name} on {study.record.dataset}{student}{'' if study.complete else ' (incomplete)'}"


def source(study: Study) -> list[str]:
    """The same in short, for a figure: command, commit, data, date."""
    record = study.record
    return [
        record.command or "command unknown",
        f"commit {', '.join(commits(study)) or 'unknown'}",
        f"data {record.dataset} {record.fingerprint}",
        record.finished or "unfinished",
    ]


def commits(study: Study) -> list[str]:
    """Versions of the code that trained the rows."""
    return sorted({e.get("commit", "") for e in study.environments} - {""})


def short(text: str, length: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _threads(count: int | str) -> str:
    return f"{count} {'thread' if str(count) == '1' else 'threads'}"


def _hardware(environment: dict[str, str]) -> str:
    parts = [environment.get("hardware", ""), environment.get("device", "")]
    if "threads" in environment:
        parts.append(_threads(environment["threads"]))
    return ", ".join(dict.fromkeys(filter(None, parts)))


def headline(study: Study) -> list[str]:
    """The study's answer in a sentence or two: its best student, what it gained, how far its teacher is."""
    students = [row for row in study.students() if row.mean() is not None]
    if len(students) < 2:
        return []
    best = max(students, key=lambda row: row.mean() or 0.0)
    name = f"`{best.name}`"
    if best.name == "none":
        return [f"No variant of {len(students) - 1} is better than {name}, {spread(best.mean(), best.sd())}."]
    text = f"Of {len(students)} students {name} has the best average mAP, {spread(best.mean(), best.sd())}"
    found = best.differences.get("none")
    text += f", {interval(found)} against `none`." if found else "."
    teachers = [row for row in study.rows if row.name in best.record.teachers.values() and row.mean()]
    base = next((row.mean() for row in students if row.name == "none"), None)
    if not teachers or base is None:
        return [text]
    top = max(teachers, key=lambda row: row.mean() or 0.0)
    gap = (top.mean() or 0.0) - base
    which = "best teacher" if len(teachers) > 1 else "teacher"
    said = f"Its {which} `{top.name}` ({top.record.modalities}) has {spread(top.mean(), top.sd())}"
    if gap > 0:
        said += f": {(best.mean() or 0.0) - base:.1f} of {gap:.1f} points between `none` and it are closed"
    if best.minute and top.minute and top.minute > best.minute:
        said += f", at {100 * best.minute / top.minute:.0f} % of its seconds per minute of video"
        others = {a: (best.minute_with(a), top.minute_with(a)) for a in top.cost.minute_alternatives}  # type: ignore[union-attr]
        shares = [f"{100 * x / y:.1f} % with {extractor(a)}" for a, (x, y) in others.items() if x and y]
        said += f" ({', '.join(shares)})" if shares else ""
    return [text, f"{said}."]


def cautions(study: Study) -> list[str]:
    """What makes numbers preliminary: missing runs, a budget that shows nothing."""
    lines = _incomplete(study)
    if study.record.spec.budget == "smoke":
        lines.append("Budget `smoke` shows that everything runs; its numbers say nothing about the methods.")
    return lines


def notes(study: Study) -> list[str]:
    """What a reader has to know before believing a number."""
    record, spending = study.record, study.record.spec.spending
    lines = cautions(study)
    if any(row.record.teachers for row in study.rows):
        if spending.paired_teachers:
            lines.append("Student seed s learns from teacher seed s.")
        elif spending.seeds > 1:
            lines.append(
                "All students are distilled from teacher seed 0, so their spread over seeds is without the "
                "teacher's."
            )
    if "thumos14" in record.dataset.lower() and record.test_videos != THUMOS_VIDEOS:
        lines.append(
            f"{record.test_videos} test videos where published THUMOS14 rows have {THUMOS_VIDEOS}: "
            "not strictly comparable with them."
        )
    if len(commits(study)) > 1:
        lines.append("The runs come from more than one commit.")
    if any(row.differences for row in study.rows):
        lines.append(
            "mAP in percent, mean ± standard deviation over seeds. Differences are paired by seed and video; "
            "intervals carry the variance of both, each at its own 95 %. "
            f"{UNCLEAR}: the interval includes 0, no clear difference. Bold: best mean among students."
        )
        if drawn := next((d for row in study.rows for d in row.differences.values() if d.groups), None):
            lines.append(
                f"The {drawn.videos} test videos belong to {drawn.groups} groups (persons, cameras); "
                "intervals draw whole groups, not videos."
            )
        if any(d.seeds == 1 for row in study.rows for d in row.differences.values()):
            lines.append("Intervals from one seed carry the variance of the videos alone.")
    lines += [*_searched(study), *_unsteady(study), *_extraction(study.rows)]
    return lines + [f"{w[0].upper()}{w[1:]}." for w in study.warnings]


def _unsteady(study: Study) -> list[str]:
    """Which latencies were measured while something else ran."""
    costs = [(row.name, row.cost.latency_ms) for row in study.rows if row.cost]
    noisy = [name for name, ms in costs if ms.get("iqr", 0.0) > UNSTEADY * ms["median"]]
    if not noisy:
        return []
    return [
        f"Latency varied by more than {UNSTEADY:.0%} from call to call for {', '.join(map(_code, noisy))}: "
        "other programs were running."
    ]


def _searched(study: Study) -> list[str]:
    """What differs from the usual way of tuning."""
    record, spec = study.record, study.record.spec
    lines = []
    if record.searches:
        lines.append(
            "Students are the members of fronts of "
            f"{' and '.join(spec.objective)}, found on validation; no test score chose them."
        )
    if spec.patience is not None:
        short = [
            f"`{name}` {len(trials)}"
            for name, trials in _trials(study)
            if 0 < len(trials) < spec.spending.trials
        ]
        if short:
            lines.append(
                f"Tuning ended after {spec.patience} generations without a gain: {', '.join(short)} of "
                f"{spec.spending.trials} trials."
            )
    if spec.start:
        lines.append(f"Tried first, from an earlier study: settings of {', '.join(map(_code, spec.start))}.")
    return lines


def _trials(study: Study) -> list[tuple[str, tuple[str, ...]]]:
    tuned = [*study.record.searches, *(row.record for row in study.students())]
    return [(row.name, row.trials) for row in tuned]


def _code(name: str) -> str:
    return f"`{name}`"


def _incomplete(study: Study) -> list[str]:
    lines = []
    if study.record.finished is None:
        lines.append("UNFINISHED: the study has not ended; this shows the runs that have.")
    for row in study.rows:
        if not row.complete:
            why = "; ".join(f"seed {seed} failed: {error}" for seed, error in row.failures.items())
            lines.append(f"`{row.name}` has {row.seeds_text}{f' ({why})' if why else ''}.")
    return lines


def _extraction(rows: Sequence[Row]) -> list[str]:
    """What the choice of the privileged extractor means, once per distinct cost."""
    lines = []
    for row in rows:
        if row.cost is None or not row.cost.minute_alternatives:
            continue
        for alternative in row.cost.minute_alternatives:
            step = alternative.partition("_")[0]
            if step in row.cost.minute:
                other = row.cost.minute_alternatives[alternative]
                lines.append(
                    f"The totals hold {seconds(row.cost.minute[step])} s of {step} extraction per minute of "
                    f"video; with {extractor(alternative)} it would be {seconds(other)} s."
                )
    return list(dict.fromkeys(lines))
