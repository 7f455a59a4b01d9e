"""What an earlier study left: rows of the same table, and settings to try first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tal_bench.config import Settings, StudySpec
from tal_bench.distill.variants import variants
from tal_bench.errors import InputError
from tal_bench.models.registry import get_model, model_names
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, StudyRecord
from tal_bench.studies.rows import INPUTS_ORDER, chosen_rows

ROWS = frozenset({"variants", "references", "description"})
"""What two commands for the same table may differ in."""
KINDS = ("teacher", "reference", "student")


def with_earlier_rows(record: StudyRecord, folder: StudyFolder) -> StudyRecord:
    """The record with the rows that earlier commands finished, unless it has them itself."""
    try:
        earlier = folder.read_study()
    except InputError:
        return record
    fields = [name for name in StudySpec.model_fields if name not in ROWS]
    same = all(getattr(earlier.spec, name) == getattr(record.spec, name) for name in fields)
    own = {row.name for row in record.rows}
    kept = [row for row in earlier.rows if row.name not in own and _is_here(row, folder)]
    if not (same and kept and earlier.fingerprint == record.fingerprint):
        return record
    commands = [c for c in earlier.command.split("; ") if c != record.command]
    return record.model_copy(
        update={
            "rows": in_table_order([*kept, *record.rows]),
            "searches": record.searches or earlier.searches,
            "command": "; ".join([*commands, record.command]),
        }
    )


def _is_here(row: RowRecord, folder: StudyFolder) -> bool:
    """Whether the row's final runs are on disk; a copied table alone is no result."""
    return all(folder.run_file(hash_).is_file() for hash_ in row.finals)


def in_table_order(rows: Sequence[RowRecord]) -> tuple[RowRecord, ...]:
    """Teachers, references, students; models by what they read, variants as declared."""
    declared = [*variants.names(), *(row.name for row in rows if row.name not in variants)]
    known = set(model_names())

    def place(row: RowRecord) -> tuple[int, int]:
        if row.kind == "student":
            return KINDS.index(row.kind), declared.index(row.name) if row.name in declared else len(declared)
        inputs = get_model(row.model).inputs if row.model in known else "all"  # one that was brought is not
        return KINDS.index(row.kind), INPUTS_ORDER.index(inputs)

    return tuple(sorted(rows, key=place))


def warm_start(spec: StudySpec, folder: Path, where: str = "--warm-start") -> StudySpec:
    """The study with the best settings of an earlier one's rows of the same names to try first.

    Of a search for a front the trial with the highest mAP counts as the best.

    Raises:
        InputError: there is no study, or it tuned none of the rows.
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
