"""Two commands for one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_study import write_fake_study

from tal_bench.config import StudySpec
from tal_bench.report.study.collect import collect_rows
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, StudyRecord
from tal_bench.studies.earlier_study import keep_replaced_table, replaced_table, with_earlier_rows


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 5}, "seeds 3 → 5"),
        ({"trials": 9}, "trials 6 → 9"),
        ({"sampler": "random"}, "sampler tpe → random"),
        ({"search": {"lr": [0.5, 2.0]}}, "other search"),
    ],
)
def test_a_replaced_table_is_kept(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder, earlier = StudyFolder(tmp_path / "study"), record("both", "actionformer")
    write(folder, earlier)
    files = {"table.md": "| earlier |", "figures/seeds.svg": "<svg/>", "ground_truth.json": "{}"}
    for name, text in files.items():
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).write_text(text)
    (folder.path / "study.lock").touch()
    new = record("self").model_copy(update={"spec": StudySpec(**{**earlier.spec.model_dump(), **changes})})
    line = keep_replaced_table(new, folder)
    assert said in line
    assert "run: ablate --variant both (its runs stay" in line
    (kept,) = (folder.path / "earlier").iterdir()
    assert str(kept) in line
    assert StudyFolder(kept).read_study() == earlier
    assert all((kept / name).read_text() == text for name, text in files.items())
    assert StudyFolder(kept).run_file("both").read_text() == "{}"  # shared, not copied
    assert not (kept / "study.lock").exists()
    assert keep_replaced_table(new, folder)  # the record on disk is still the earlier one
    assert len(list((folder.path / "earlier").iterdir())) == 2


def test_other_files_of_the_dataset_replace_a_table(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    write(folder, record("both"))
    assert "other files of the dataset" in replaced_table(record("both", fingerprint="g"), folder)
    folder.run_file("both").unlink()
    folder.run_file("none").unlink()
    assert not replaced_table(record("both", fingerprint="g"), folder)  # nothing has been finished
    (tmp_path / "study.json").write_text("{")
    assert replaced_table(record("both"), folder) == "study.json cannot be read"
    assert "kept in" in keep_replaced_table(record("both"), folder)


def test_nothing_is_replaced_by_more_rows_or_the_same_budget_in_other_words(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    write(folder, record("both"))
    assert not replaced_table(record("self", "conv"), folder)
    unsaid = record("both")
    unsaid = unsaid.model_copy(update={"spec": unsaid.spec.model_copy(update={"seeds": None})})
    assert not replaced_table(unsaid, folder)  # three seeds are the budget's
    assert not replaced_table(unsaid, StudyFolder(tmp_path / "empty"))
    assert not (tmp_path / "earlier").exists()


def test_the_kept_folder_can_be_reported(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_fake_study(folder)
    files = StudyFolder(folder)
    known = files.read_study()
    spec = known.spec.model_copy(update={"seeds": 17})
    assert keep_replaced_table(known.model_copy(update={"spec": spec}), files)
    (kept,) = (folder / "earlier").iterdir()
    assert [row.record.name for row in collect_rows(kept)] == [
        row.record.name for row in collect_rows(folder)
    ]
    assert all(row.results for row in collect_rows(kept))
