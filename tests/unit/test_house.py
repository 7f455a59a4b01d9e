"""Rules of the house that can be checked by reading: sizes, leftovers, files that must agree."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tal_bench.config import StudySpec, parse_spec
from tal_bench.studies.definition import DEFAULT_STUDY, shipped_studies

ROOT = Path(__file__).parents[2]
OWN = Path(__file__).name
LONGEST_FUNCTION = 80
"""Lines."""
LARGEST_FOLDER = 15
"""Python files."""
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".ipynb", ".cfg", ""}
READING = "unsafe reading"
LEFTOVERS = {
    "unfinished": r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError",
    "machine path": r"(?<![\w.])/(work|home|root|tmp|opt|Users)/\w",
    "package registry": r"\b(pypi\.org|pythonhosted\.org|--(extra-)?index-url|simple/)",
    READING: r"weights_only=False|allow_pickle=True|yaml\.load\(|pickle\.loads?\(",
}


def tree() -> list[Path]:
    """Files of the repository: those git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [
        f for f in files if f.is_file() and f.suffix in TEXT and "reports" not in f.relative_to(ROOT).parts
    ]


@pytest.mark.parametrize("what", LEFTOVERS)
def test_no_leftovers(what: str) -> None:
    pattern = re.compile(LEFTOVERS[what])
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in tree()
        if file.name not in (OWN, "LICENSE") and (what != READING or "tests" not in file.parts)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_functions_fit_a_screen() -> None:
    code = [file for file in tree() if file.suffix == ".py" and file.is_relative_to(ROOT / "tal_bench")]
    assert len(code) > 20
    too_long = {
        f"{file.relative_to(ROOT)}: {node.name}": lines
        for file in code
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert not too_long, too_long


def test_no_folder_is_crowded() -> None:
    files = Counter(file.parent for file in (ROOT / "tal_bench").rglob("*.py"))
    assert len(files) > 10
    crowded = {str(folder.relative_to(ROOT)): n for folder, n in files.items() if n > LARGEST_FOLDER}
    assert not crowded, f"a room is missing: {crowded}"


def test_every_package_is_one() -> None:
    folders = {file.parent for file in (ROOT / "tal_bench").rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)


@pytest.mark.parametrize("file", shipped_studies().values(), ids=shipped_studies())
def test_shipped_studies_are_named_as_their_files(file: Path) -> None:
    spec = parse_spec(StudySpec, yaml.safe_load(file.read_text(encoding="utf-8")), where=file)
    assert spec.name == file.stem
    assert spec.description


def test_the_default_study_is_shipped() -> None:
    assert DEFAULT_STUDY in shipped_studies()


def test_constraints_pin_every_dependency() -> None:
    lines = [
        x
        for x in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if x and not x.startswith("#")
    ]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[\w.]+", line) for line in lines), "only name==version"
    pinned = {line.partition("==")[0] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(x for e in project["optional-dependencies"].values() for x in e)]
    names = {re.split(r"[<>=!~\[; ]", line)[0].lower().replace("_", "-") for line in wanted}
    assert not names - pinned


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heading is not None
    assert heading[1] in (project["version"], "Unreleased")


def test_shell_steps_fail_loudly() -> None:
    script = ROOT / ".ci" / "run"
    assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
