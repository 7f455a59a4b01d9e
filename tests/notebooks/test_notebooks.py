"""The notebooks run from top to bottom, and are kept without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from fake_study import write_fake_study
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_outputs_are_stripped(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("costs", [True, False], ids=["costs", "no costs"])
def test_quickstart_runs(costs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tmp_path / "study"
    write_fake_study(study, costs=costs)
    monkeypatch.setenv("TAL_BENCH_STUDY", str(study))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    file = next(f for f in NOTEBOOKS if f.stem == "01_quickstart")
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error"]
    assert not [o for o in outputs if o.get("name") == "stderr"], "a reader should not meet warnings"
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 2
    shown = " ".join(o["data"].get("text/plain", "") for o in outputs if "data" in o)
    assert "both-single" in shown
