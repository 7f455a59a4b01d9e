"""The worked examples of CONTRIBUTING.md: declared outside the tree, they appear wherever they should."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from fake_study import ROWS, write_fake_study
from processes import ForkedCommands

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
KINDS = {
    "term": "terms.add",
    "variant": "variants.add",
    "structure": "structures.add",
    "dataset": "datasets.add",
    "column": "COST_COLUMNS.append",
    "figure": "FIGURES.append",
    "executor": "executors.add",
}
"""Kind of declaration to the call that makes it."""
Run = Callable[..., str]


def example(kind: str) -> str:
    """Return the worked example of a kind."""
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)
    (found,) = (block for block in blocks if KINDS[kind] in block)
    return str(found)


@cache
def plugin(folder: Path) -> Path:
    """Write all examples to one plugin."""
    file = folder / "mine.py"
    file.write_text("\n\n".join(map(example, KINDS)), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture
def run(commands: ForkedCommands) -> Run:
    """What `tal-bench` prints in a process of its own, in which the plugin is loaded first."""

    def printed(*words: str | Path, code: int = 0) -> str:
        ended, text = commands.run(words)
        assert ended == code, text
        return text

    return printed


def test_the_stated_lines_are_those_of_the_examples() -> None:
    stated = dict(re.findall(r"^\| (\w+) \| [^|]+ \| [\d–]+ \| (\d+) \|", TEXT, flags=re.MULTILINE))
    lines = {
        kind: len([line for line in example(kind).splitlines() if line and "import" not in line.split()])
        for kind in KINDS
    }
    assert {kind: int(count) for kind, count in stated.items()} == lines


def test_stated_files_exist() -> None:
    for line in re.findall(r"^\| \w+ \| `\w+\.(?:add|append)`.*$", TEXT, flags=re.MULTILINE):
        places = re.findall(r"`([\w/]+(?:/|\.py))`", line)
        assert places and all((ROOT / "tal_bench" / place).exists() for place in places), line


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_works_alone(kind: str, tmp_path: Path, run: Run) -> None:
    ast.parse(example(kind))
    file = tmp_path / "alone.py"
    file.write_text(example(kind), encoding="utf-8")
    run("list", "settings", "--plugin", file)


def test_every_declaration_is_listed(mine: Path, run: Run) -> None:
    listed = run("list", "--plugin", mine)
    for name in ("stem-max", "stem-only", "pool-hallucinated", "pool-privileged", "kitchen", "half"):
        assert re.search(rf"(^|\s){name}\s", listed), name
    assert re.search(
        r"^windows_per_second .*passes per", run("list", "columns", "--plugin", mine), re.MULTILINE
    )
    assert re.search(r"^sizes +Cost", run("list", "figures", "--plugin", mine), re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--variant", "stem-onl"), "did you mean 'stem-only'?"),
        (("--student", "pool-hallucinate"), "did you mean 'pool-hallucinated'?"),
        (("--dataset", "kitchn"), "did you mean 'kitchen'?"),
        (("--scheduler", "hal"), "--scheduler: unknown executor 'hal' (did you mean 'half'?)"),
    ],
)
def test_names_are_known_to_the_options(mine: Path, run: Run, words: tuple[str, ...], message: str) -> None:
    assert message in run("ablate", "--dry-run", *words, "--plugin", mine, code=2)


READ = """
import json, sys
from pathlib import Path
import tal_bench
from tal_bench.plugins import load_plugins

plugin, folder = map(Path, sys.argv[1:])
load_plugins([plugin])
study = tal_bench.load_study(folder)

from tal_bench.results.folder import StudyFolder
from tal_bench.tracking.run_data import states

logged = [
    {name: value for name, value, step in state.metrics}
    for state in states(study.record, StudyFolder(folder), "FINISHED")
]
print(json.dumps({
    "runs": study.runs["windows_per_second"].dropna().unique().tolist(),
    "table": study.table()["windows_per_second"].tolist(),
    "costs": "windows_per_second" in study.costs(),
    "figures": sorted(study.figures),
    "logged": [metrics.get("cost/windows_per_second") for metrics in logged],
}))
"""


def test_column_and_figure_are_in_every_output(mine: Path, tmp_path: Path, run: Run) -> None:
    write_fake_study(tmp_path, rows=ROWS[3:6], trials=1)
    terminal = run("report", tmp_path, "--plugin", mine)
    assert "Windows" in terminal and "13.3" in terminal  # 1000 / 75 ms
    read = {name: (tmp_path / name).read_text(encoding="utf-8") for name in ("table.md", "table.tex")}
    assert "| Windows (1/s) ↑ |" in read["table.md"]
    assert r"\shortstack[r]{Windows\\{}(1/s) $\uparrow$} \\" in read["table.tex"]
    assert all("13.3" in text for text in read.values())
    assert "windows_per_second" in (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()[0]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<th>Windows (1/s) ↑</th>" in page
    assert "<figcaption>Parameters of the model of each row.</figcaption>" in page
    assert (tmp_path / "figures" / "sizes.png").is_file()
    rows = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["rows"]
    assert [round(row["windows_per_second"], 1) for row in rows] == [13.3, 10.5, 10.5]

    command = [sys.executable, "-c", READ, str(mine), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["table"] == [row["windows_per_second"] for row in rows]
    assert sorted(found["runs"]) == sorted({*found["table"]})
    assert found["costs"] and "sizes" in found["figures"]
    assert len(found["logged"]) > len(rows) and set(found["logged"]) == {*found["table"]}
