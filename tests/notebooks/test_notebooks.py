"""The notebooks run from top to bottom on one small study, and are kept without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from fake_study import write_fake_study
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
IMAGES = {
    "01_quickstart": 2,
    "02_compare_variants": 1,
    "03_cost_and_pareto": 2,
    "04_error_diagnosis": 2,
    "05_tuning": 1,
    "06_your_own_data": 0,
}
"""Notebook to the number of its figures."""
SHOWS = {
    "01_quickstart": "both-single",
    "02_compare_variants": "interaction",
    "03_cost_and_pareto": "flow_tvl1",
    "04_error_diagnosis": "localization",
    "05_tuning": "pruned",
    "06_your_own_data": "video_2",
}
"""Notebook to a word that its outputs must have."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One study for all notebooks."""
    folder = tmp_path_factory.mktemp("study")
    write_fake_study(folder, trials=6)
    return folder


def test_every_notebook_is_known() -> None:
    assert {file.stem for file in NOTEBOOKS} == set(IMAGES) == set(SHOWS)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_outputs_are_stripped(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert max(len(line) for cell in code for line in cell.source.splitlines()) <= 110


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_notebook_runs(file: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = execute(file, study, tmp_path, monkeypatch)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == IMAGES[file.stem]
    shown = " ".join(output.get("text", "") or output["data"].get("text/plain", "") for output in outputs)
    assert SHOWS[file.stem] in shown


def test_a_study_without_costs_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fake_study(tmp_path / "study", costs=False, trials=0)
    (file,) = (f for f in NOTEBOOKS if f.stem == "03_cost_and_pareto")
    outputs = execute(file, tmp_path / "study", tmp_path, monkeypatch)
    assert any("no measured costs" in output.get("text", "") for output in outputs)


def execute(file: Path, study: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Outputs of a notebook that ran from top to bottom without an error or a warning."""
    monkeypatch.setenv("TAL_BENCH_STUDY", str(study))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(file, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error"]
    assert not [o for o in outputs if o.get("name") == "stderr"], "a reader should not meet warnings"
    return outputs
