"""Results of an earlier study: rows of the same table, and settings to try first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from tal_bench.config import Settings, StudySpec
from tal_bench.distill.variants import variants
from tal_bench.errors import InputError
from tal_bench.models.registry import get_model, model_names
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, StudyRecord
from tal_bench.studies.rows import INPUTS_ORDER, chosen_rows

ROWS = frozenset({"variants", "references", "description"})
"""Fields in which two commands that fill one table may differ."""
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
    fields = [name for name in StudySpec.model_fields if name not in ROWS]
    same = all(getattr(earlier.spec, name) == getattr(record.spec, name) for name in fields)
    return earlier if same and earlier.fingerprint == record.fingerprint else None


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
