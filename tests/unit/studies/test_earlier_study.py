"""Two commands for one table."""

from __future__ import annotations

from pathlib import Path

from tal_bench.config import StudySpec
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, StudyRecord
from tal_bench.studies.earlier_study import with_earlier_rows


def record(variant: str, *models: str, seeds: int = 3, fingerprint: str = "f") -> StudyRecord:
    rows = [RowRecord(name=m, kind="teacher", model=m, modalities="rgb", finals=(m,)) for m in models]
    rows += [
        RowRecord(name=v, kind="student", model="conv-dw-hallucinated", modalities="rgb", finals=(v,))
        for v in ("none", variant)
    ]
    return StudyRecord(
        spec=StudySpec(name="study", variants=(variant,), seeds=seeds),
        command=f"ablate --variant {variant}",
        dataset="sprites",
        fingerprint=fingerprint,
        classes=("a",),
        test_videos=1,
        tiou=(0.5,),
        evaluation="p",
        rows=tuple(rows),
    )


def write(folder: StudyFolder, study: StudyRecord) -> None:
    """Write a record and the files of its final runs."""
    folder.write_study(study)
    (folder.path / "runs").mkdir(exist_ok=True)
    for row in study.rows:
        for hash_ in row.finals:
            folder.run_file(hash_).write_text("{}", encoding="utf-8")


def test_rows_of_both_commands_stand_in_one_table(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    write(folder, record("both", "actionformer", "conv"))
    merged = with_earlier_rows(record("self", "actionformer-primary"), folder)
    names = [row.name for row in merged.rows]
    assert names == ["actionformer", "conv", "actionformer-primary", "none", "self", "both"]
    assert merged.command == "ablate --variant both; ablate --variant self"
    write(folder, merged)
    again = with_earlier_rows(record("self", "actionformer-primary"), folder)
    assert sorted(again.command.split("; ")) == ["ablate --variant both", "ablate --variant self"]
    assert [row.name for row in again.rows] == names


def test_other_budgets_and_other_data_do_not_mix(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    write(folder, record("both", "actionformer"))
    for other in (record("self", seeds=5), record("self", fingerprint="g")):
        assert with_earlier_rows(other, folder) == other
    assert with_earlier_rows(record("self"), StudyFolder(tmp_path / "empty")) == record("self")


def test_rows_whose_runs_are_gone_or_missing_are_left_out(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    earlier = record("both")
    write(folder, earlier)
    folder.run_file("both").unlink()
    assert [row.name for row in with_earlier_rows(record("self"), folder).rows] == ["none", "self"]
    write(folder, earlier)
    assert [row.name for row in with_earlier_rows(record("self"), folder).rows] == ["none", "self", "both"]
    for changes in ({"finals": ()}, {"seeds": (0, 1)}):  # interrupted before its last runs
        both = earlier.rows[1].model_copy(update=changes)
        folder.write_study(earlier.model_copy(update={"rows": (earlier.rows[0], both)}))
        assert [row.name for row in with_earlier_rows(record("self"), folder).rows] == ["none", "self"]
