"""Every shipped study, by its name, on ten small videos; at its own size where there is time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from processes import run

from tal_bench.cli import main
from tal_bench.results.folder import StudyFolder
from tal_bench.studies.definition import shipped_studies
from tal_bench.studies.rows import chosen_rows

FEW = {
    "components": ("both", "both without hallucination", "both without logits"),
    "methods": ("none", "kd-fitnet", "kd-bckd", "kd-ld"),
}
"""Rows that are run of a study of many, unless TAL_BENCH_SLOW is set; contract tests cover every term."""
MINUTES = {"student-size", "teacher-weights", "teachers", "temperature-and-mix"}
"""Studies that are run only with TAL_BENCH_SLOW; they declare rows as `components` does."""
QUIETLY = ("--budget", "smoke", "--device", "cpu", "--jobs", "1", "--tracking-uri", "off", "--storage", "off")


@pytest.mark.parametrize(
    "name", [name for name in shipped_studies() if name not in MINUTES or "TAL_BENCH_SLOW" in os.environ]
)
def test_a_shipped_study_runs_by_name(
    name: str, dataset_file: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process and one folder, so that the studies measure each architecture once at most."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    threads = torch.get_num_threads()
    try:
        few = () if "TAL_BENCH_SLOW" in os.environ else FEW.get(name, ())
        rows = [word for row in few for word in ("--variant", row)]
        assert main(["ablate", name, "--dataset", str(dataset_file), *rows, *QUIETLY]) == 0
    finally:
        torch.set_num_threads(threads)
    folder = StudyFolder(Path("reports") / f"{name}-tiny-smoke")
    record = folder.read_study()
    students = [row for row in record.rows if row.kind == "student"]
    assert [row.name for row in students] == [row.name for row in chosen_rows(record.spec)]
    assert len(students) > 3
    for row in record.rows:
        assert all(
            (folder.read_run(hash_) or pytest.fail(hash_)).status == "finished" for hash_ in row.finals
        )


@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_can_be_planned(
    name: str, dataset_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", name, "--dataset", str(dataset_file), "--dry-run", "--device", "cpu"]) == 0


def test_a_front_by_command(
    dataset_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["tune", "--variant", "self", "--objective", "map,params", "--dataset", str(dataset_file)]
    threads = torch.get_num_threads()
    try:
        assert main([*words, *QUIETLY]) == 0
    finally:
        torch.set_num_threads(threads)
    folder = Path("reports") / "tune-self-tiny-map-params-smoke"
    assert capsys.readouterr().err.splitlines()[-1] == f"report: {folder / 'page.html'}"
    (search,) = StudyFolder(folder).read_study().searches
    assert len(search.trials) == 4
    assert {f"pareto{suffix}" for suffix in (".md", ".csv", ".png", ".svg")} <= {
        f.name for f in folder.iterdir()
    }


@pytest.mark.skipif(
    "TAL_BENCH_SLOW" not in os.environ, reason="half a minute each; TAL_BENCH_SLOW=1 runs them"
)
@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_smokes_on_its_own_dataset(name: str, tmp_path: Path) -> None:
    result = run(["ablate", name, "--budget", "smoke", "--tracking-uri", "off"], tmp_path)
    assert result.returncode == 0, result.stderr
