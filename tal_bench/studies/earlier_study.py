"""Results of an earlier study: rows of the same table, a replaced table, and settings to try first."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from tal_bench.config import Settings, StudySpec
from tal_bench.distill.variants import variants
from tal_bench.errors import InputError
from tal_bench.models.registry import get_model, model_names
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, StudyRecord
from tal_bench.results.study_lock import LOCK
from tal_bench.studies.rows import INPUTS_ORDER, chosen_rows
from tal_bench.tuning.storage import JOURNAL

ROWS = frozenset({"variants", "references", "description"})
"""Fields in which two commands that fill one table may differ."""
EARLIER = "earlier"
"""Folder, inside that of a study, with the tables that later commands replaced."""
OTHER_FILES = "other files of the dataset"
SHARED = ("runs", "costs")
"""Folders that all tables of a study share: a run is found by its hash."""
KINDS = ("teacher", "reference", "student")


def folder_id(folder: StudyFolder) -> str:
    """Return the identity of a study folder: that of its record, or a new one."""
    try:
        return folder.read_study().id or uuid4().hex[:12]
    except InputError:
        return uuid4().hex[:12]


def earlier_record(record: StudyRecord, folder: StudyFolder) -> StudyRecord | None:
    """Return the record on disk if it is of the same table; it may differ in which rows were asked for."""
    try:
        earlier = folder.read_study()
    except InputError:
        return None
    return None if differences(earlier, record) else earlier


def differences(earlier: StudyRecord, record: StudyRecord) -> list[str]:
    """Return in words in what the tables of two records differ, apart from which rows were asked for."""
    budgets = earlier.spec.effective_budget, record.spec.effective_budget
    found = [
        f"{name} {before} → {now}"
        for name, (before, now) in {
            "trials": tuple(budget.trials for budget in budgets),
            "seeds": tuple(budget.seeds for budget in budgets),
        }.items()
        if before != now
    ]
    for name in StudySpec.model_fields:
        before, now = getattr(earlier.spec, name), getattr(record.spec, name)
        if before != now and name not in ROWS | {"trials", "seeds"}:
            short = isinstance(before, str | int | float) and isinstance(now, str | int | float)
            found.append(f"{name} {before} → {now}" if short else f"other {name}")
    if earlier.fingerprint != record.fingerprint:
        found.append(OTHER_FILES)
    return found


def replaced_table(record: StudyRecord, folder: StudyFolder) -> str:
    """Return what a study replaces of the table in its folder, in words; empty where it replaces nothing."""
    try:
        earlier = folder.read_study()
    except InputError:
        return "study.json cannot be read" if (folder.path / "study.json").exists() else ""
    rows = sum(_has_runs(row, folder) for row in earlier.rows) + len(earlier.searches)
    found = differences(earlier, record)
    return f"a table of {rows} row{'s' * (rows > 1)}: {', '.join(found)}" if rows and found else ""


def keep_replaced_table(record: StudyRecord, folder: StudyFolder) -> str:
    """Keep the table that a study replaces in a folder of its own, dated by its last change.

    The folder has the record, the ground truth, page, tables and figures, and shares the runs, so that
    `report` and `diagnose` accept it.

    Returns:
        One line that says so, and how to get the table back; empty where nothing is replaced.
    """
    what = replaced_table(record, folder)
    if not what:
        return ""
    changed = (folder.path / "study.json").stat().st_mtime
    kept = folder.path / EARLIER / f"{datetime.fromtimestamp(changed, UTC):%Y-%m-%d-%H%M%S}"
    while kept.exists():
        kept = kept.with_name(f"{kept.name}-again")
    kept.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".") as temporary:
        content = Path(temporary) / kept.name
        shutil.copytree(folder.path, content, ignore=_of_the_study)
        for name in SHARED:
            with contextlib.suppress(OSError):  # no symbolic links on this file system: only files to look at
                (content / name).symlink_to(Path("..", "..", name), target_is_directory=True)
        content.replace(kept)
    try:
        command = folder.read_study().command
    except InputError:
        command = ""
    restore = "restore these files and " if OTHER_FILES in what else ""
    again = f"; to get it back, {restore}run: {command} (its runs stay, none is trained again)"
    again = again if command else ""
    return f"replaces {what}; the earlier one is kept in {kept}{again}"


def _of_the_study(directory: str, names: list[str]) -> set[str]:
    """Return the files that are not of a table, for `shutil.copytree`."""
    return {name for name in names if name in (*SHARED, EARLIER, LOCK, JOURNAL) or name.startswith(".")}


def with_earlier_rows(record: StudyRecord, folder: StudyFolder) -> StudyRecord:
    """Add the rows that earlier commands finished and that the record does not have."""
    earlier = earlier_record(record, folder)
    if earlier is None:
        return record
    own = {row.name for row in (*record.rows, *record.searches)}
    kept = [row for row in earlier.rows if row.name not in own and _has_runs(row, folder)]
    searches = [search for search in earlier.searches if search.name not in own]
    if not kept and not searches:
        return record
    commands = [c for c in earlier.command.split("; ") if c != record.command]
    return record.model_copy(
        update={
            "rows": in_table_order([*kept, *record.rows]),
            "searches": (*record.searches, *searches),
            "command": "; ".join([*commands, record.command]),
        }
    )


def _has_runs(row: RowRecord, folder: StudyFolder) -> bool:
    """Whether all final runs of the row are on disk."""
    files = [folder.run_file(hash_) for hash_ in row.finals]
    return bool(files) and len(files) >= len(row.seeds) and all(file.is_file() for file in files)


def in_table_order(rows: Sequence[RowRecord]) -> tuple[RowRecord, ...]:
    """Sort by teachers, references, students; models by their inputs, variants as declared."""
    declared = [*variants.names(), *(row.name for row in rows if row.name not in variants)]
    known = set(model_names())

    def position(row: RowRecord) -> tuple[int, int]:
        if row.kind == "student":
            return KINDS.index(row.kind), declared.index(row.name) if row.name in declared else len(declared)
        inputs = (
            get_model(row.model).inputs if row.model in known else "all"
        )  # an imported teacher is not registered
        return KINDS.index(row.kind), INPUTS_ORDER.index(inputs)

    return tuple(sorted(rows, key=position))


def warm_start(spec: StudySpec, folder: Path, where: str = "--warm-start") -> StudySpec:
    """Add the best settings of an earlier study's rows of the same names, which are then tried first.

    The best trial of a search for a front is the one with the highest mAP.

    Raises:
        InputError: There is no study, or it tuned none of the rows.
    """
    record = StudyFolder(folder).read_study()
    found: dict[str, Settings] = {
        row.name: dict(row.settings) for row in record.rows if row.kind == "student"
    }
    for search in record.searches:
        place = search.objective.index("map")
        scored = [(v[place], s) for v, s in zip(search.values, search.tried, strict=True) if v]
        if scored:
            found[search.name] = max(scored, key=lambda pair: pair[0])[1]
    start = {row.name: found[row.name] for row in chosen_rows(spec) if found.get(row.name)}
    if not start:
        known = ", ".join(found) or "none"
        raise InputError(
            "no tuned row of the same name there", where=f"{where} {folder}", hint=f"it has: {known}"
        )
    return spec.model_copy(update={"start": start})
