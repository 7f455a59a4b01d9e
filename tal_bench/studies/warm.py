"""What an earlier study found, for a later one to try first."""

from __future__ import annotations

from pathlib import Path

from tal_bench.config import Settings, StudySpec
from tal_bench.errors import InputError
from tal_bench.results import StudyFolder
from tal_bench.studies.rows import chosen_rows


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
