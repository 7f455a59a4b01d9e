"""The notebooks are committed with the outputs that they have of the published studies, and read other studies.

`python tests/notebooks/test_notebooks.py` (`make notebooks`) executes them on the published studies and saves
their outputs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from fake_study import ROWS, write_fake_study
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMAGES = {
    "01_quickstart": 2,
    "02_compare_variants": 1,
    "03_cost_and_pareto": 2,
    "04_error_diagnosis": 2,
    "05_tuning": 1,
    "06_your_own_data": 0,
    "07_compare_studies": 1,
}
"""Notebook to the least number of its figures."""
LARGEST = 400_000
"""Bytes of a notebook with its outputs."""
FACTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "01_quickstart": lambda names: len(names["final"]) == 2 * len(CHOSEN) and names["cost"] == "minute",
    "02_compare_variants": lambda names: len(names["pairs"]) == 3 and len(names["differences"]) == 3,
    "03_cost_and_pareto": lambda names: names["cost"] == "minute" and "both" in names["front"],
    "04_error_diagnosis": lambda names: names["found"].row_names == ["actionformer", "none", "both"],
    "05_tuning": lambda names: list(names["tables"]) == ["none", "self", "both"],
    "07_compare_studies": lambda names: len(names["comparison"].datasets) == 1,
}
"""Notebook to what is true of its variables after it has read the study of this test."""
CHOSEN = tuple(row for row in ROWS if row.name in ("actionformer", "none", "self", "both"))


def executed(file: Path) -> Any:
    """Return a notebook that ran from top to bottom beside nothing but the published studies."""
    notebook = nbformat.read(file, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder, "reports")
        reports.mkdir()
        (reports / "published").symlink_to(ROOT / "reports" / "published")
        os.environ.pop("TAL_BENCH_STUDY", None)
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
        resources = {"metadata": {"path": folder}}
        # without encryption, every kernel warns that others on this machine can read along
        config = Config(KernelManager={"transport_encryption": "auto"})
        client = NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources=resources, config=config
        )
        client.record_timing = False
        client.execute()
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode()
    return notebook


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def texts(notebook: Any) -> list[str]:
    """Return the texts that the cells print or show, one per output."""
    return [o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs(notebook)]


def test_every_notebook_is_known() -> None:
    assert {file.stem for file in NOTEBOOKS} == set(IMAGES) == set(FACTS) | {"06_your_own_data"}


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_notebooks_are_small_and_import_the_public_interface_only(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert max(len(line) for cell in code for line in cell.source.splitlines()) <= 110
    assert not [
        line
        for cell in code
        for line in cell.source.splitlines()
        if "tal_bench." in line and "import" in line
    ]
    assert file.stat().st_size < LARGEST


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.stem)
def test_outputs_are_those_of_the_published_studies(file: Path) -> None:
    notebook, before = executed(file), nbformat.read(file, as_version=4)
    assert texts(notebook) == texts(before), "make notebooks executes and saves them"
    images = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(images) >= IMAGES[file.stem]
    assert not [o for o in outputs(before) if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the `reports` of a person with a study, one on other test videos before it, and a smoke study after it."""
    folder = tmp_path_factory.mktemp("own")
    rows = CHOSEN[:2]
    write_own_study(folder / "reports" / "earlier", day=1, rows=rows, seeds=2, videos=4)
    write_own_study(folder / "reports" / "mine", day=2, rows=CHOSEN, seeds=2, trials=5, videos=6)
    write_own_study(folder / "reports" / "smoke", day=3, rows=rows, seeds=1, videos=5, budget="smoke")
    return folder


def write_own_study(folder: Path, **parts: Any) -> None:
    """Write a study with a report."""
    write_fake_study(folder, **parts)
    (folder / "summary.json").write_text("{}")


def run_cells(file: Path) -> dict[str, Any]:
    """Run the code of a notebook in this process, and return its variables."""
    from matplotlib import pyplot as plt

    names: dict[str, Any] = {}
    for cell in nbformat.read(file, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, str(file), "exec"), names)
    plt.close("all")
    return names


@pytest.mark.parametrize("name", FACTS)
def test_a_persons_own_study_is_opened(
    name: str, reports: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reports)
    monkeypatch.delenv("TAL_BENCH_STUDY", raising=False)
    monkeypatch.setenv("MPLBACKEND", "agg")
    assert FACTS[name](run_cells(ROOT / "notebooks" / f"{name}.ipynb"))
    printed = capsys.readouterr().out
    assert "smoke is left out: budget smoke is a functional test" in printed
    if name == "07_compare_studies":
        assert (
            "earlier is left out: not comparable with reports/mine on sprites: other test videos" in printed
        )
    else:
        assert printed.startswith("reports/mine, your study that ended last; smoke is left out")


def test_a_study_without_costs_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake_study(tmp_path, costs=False, trials=0, seeds=1, rows=CHOSEN)
    monkeypatch.setenv("TAL_BENCH_STUDY", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    run_cells(ROOT / "notebooks" / "03_cost_and_pareto.ipynb")
    assert capsys.readouterr().out.count("no measured costs") == 2


if __name__ == "__main__":
    for notebook_file in NOTEBOOKS:
        nbformat.write(executed(notebook_file), notebook_file)
        print(notebook_file.relative_to(ROOT))
