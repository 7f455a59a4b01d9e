"""`make lab` says which study the notebooks read, names those that fail, and executes nothing in vain."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from fake_study import ROWS, write_fake_study

ROOT = Path(__file__).parents[2]
ROOT_USER, PERSON = 0, 1000
SOUND = "import tal_bench; print(tal_bench.load_results().folder.name)"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the Makefile, two notebooks of which the second fails, and an environment that is installed."""
    for name in ("Makefile", "pyproject.toml", "setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name, code in (("01_quickstart", SOUND), ("07_compare_studies", "1 / 0")):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    write_program(tmp_path / ".venv" / "bin" / "python", f'exec "{sys.executable}" "$@"')
    write_program(tmp_path / ".venv" / "bin" / "jupyter", 'echo jupyter "$@"')
    (tmp_path / ".venv" / "installed-notebooks").touch()
    return tmp_path


def write_program(file: Path, line: str) -> None:
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)


def add_study(project: Path, name: str, budget: str, age: int) -> None:
    folder = project / "reports" / name
    write_fake_study(folder, rows=ROWS[:1], seeds=1, videos=2, trials=0, budget=budget)
    (folder / "summary.json").write_text("{}")
    os.utime(folder / "study.json", (1e9 - age, 1e9 - age))


def make_lab(project: Path, user: int, *variables: str) -> subprocess.CompletedProcess[str]:
    """Call `make lab` as a user."""
    programs = project / "programs"
    programs.mkdir(exist_ok=True)
    write_program(programs / "id", f"echo {user}")
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "TAL_BENCH_STUDY"}
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    environment |= {"PATH": f"{programs}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}
    command = ["make", "lab", *variables]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_root_is_told_the_flag_before_anything_is_executed(project: Path) -> None:
    add_study(project, "mine", "quick", age=1)
    ended = make_lab(project, ROOT_USER)
    assert ended.returncode == 2 and not ended.stdout and not (project / "my_notebooks").exists()
    assert ended.stderr.splitlines()[0].startswith(
        "error: JupyterLab refuses to run as root; say make lab JUPYTER_FLAGS"
    )


def test_the_study_is_told_and_failed_notebooks_are_named(project: Path) -> None:
    add_study(project, "mine", "quick", age=1)
    add_study(project, "mine-smoke", "smoke", age=0)
    ended = make_lab(project, ROOT_USER, "JUPYTER_FLAGS=--allow-root")
    assert ended.returncode == 0, ended.stderr
    assert (
        "The notebooks read reports/mine, your study that ended last; mine-smoke is left out" in ended.stdout
    )
    assert (
        ended.stderr
        == "error: a cell of my_notebooks/07_compare_studies.ipynb failed; the notebook shows why\n"
    )
    started = ended.stdout.splitlines()[-1]
    assert started.startswith("jupyter lab") and started.endswith(
        "--allow-root my_notebooks/01_quickstart.ipynb"
    )
    executed = nbformat.read(project / "my_notebooks" / "01_quickstart.ipynb", as_version=4)
    assert executed.cells[0].outputs[0].text == "mine\n"


def test_without_a_study_the_saved_outputs_are_opened(project: Path) -> None:
    published = project / "reports" / "published" / "two-by-two-sprites"
    published.mkdir(parents=True)
    ended = make_lab(project, PERSON)
    assert ended.returncode == 0 and not (project / "my_notebooks").exists(), ended.stderr
    assert "two-by-two-sprites, a published study; none in reports/ has ended yet" in ended.stdout
    assert ended.stdout.splitlines()[-1].endswith(" notebooks/01_quickstart.ipynb")
