"""Who may import whom; and what answers without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tal_bench"
CORE = {"types", "results", "errors", "registry", "config", "frame", "processes", "sealed", ""}
CORE |= {"allocator", "cores"}
ROOMS = {"data", "models", "distill", "evaluation"}
MACHINES = {"engine", "profiling"}
ALLOWED = {
    **dict.fromkeys(CORE, CORE),
    **{room: CORE | {room} for room in ROOMS},
    **{machine: CORE | ROOMS | {machine} for machine in MACHINES},
    "plugins": CORE,
    "doctor": CORE,
    "report": CORE | {"evaluation", "report"},
    "studies": CORE | ROOMS | MACHINES | {"plugins", "report", "studies"},
    "cli": CORE | ROOMS | MACHINES | {"plugins", "doctor", "report", "studies", "cli"},
    "__main__": {"cli"},
}
"""Room to the rooms it may import."""
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """`tal_bench.data.splits` → `data`; the package itself → the empty string."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported(file: Path) -> set[str]:
    """Modules of ours that a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: line {node.lineno}: write the import out in full"
            module = node.module or ""
            found |= (
                {f"tal_bench.{alias.name}" for alias in node.names} if module == "tal_bench" else {module}
            )
    return {module for module in found if module.split(".")[0] == "tal_bench"}


def module_of(file: Path) -> str:
    parts = ("tal_bench", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_rooms_import_only_what_lies_below(file: Path) -> None:
    own = room_of(module_of(file))
    assert own in ALLOWED, f"'{own}' is a new room: say here what it may import"
    wrong = {module for module in imported(file) if room_of(module) not in ALLOWED[own]}
    assert not wrong, f"{own} may not import {', '.join(sorted(wrong))}"


def test_the_rule_sees_violations(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from tal_bench.studies import run\n    import tal_bench.engine.train\n")
    assert {room_of(module) for module in imported(file)} == {"studies", "engine"}


WITHOUT_TORCH = {
    "report": "import tal_bench.report, tal_bench.report.collect, tal_bench.report.figures, "
    "tal_bench.report.tables, tal_bench.report.terminal",
    "evaluation": "import tal_bench.evaluation.io, tal_bench.evaluation.mean_ap, "
    "tal_bench.evaluation.recall, tal_bench.evaluation.significance",
    "results": "import tal_bench.results, tal_bench.frame",
    "datasets": "from tal_bench.cli import main; main(['list', 'datasets'])",
}


@pytest.mark.parametrize("code", WITHOUT_TORCH.values(), ids=WITHOUT_TORCH)
def test_works_without_torch(code: str) -> None:
    run(f"import sys; sys.modules['torch'] = None; {code}")  # importing it would raise


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tal_bench.cli import main; codes = [main([*a, '-h']) for a in ([], ['ablate'])];"
        "heavy = {'torch', 'pandas', 'numpy', 'mlflow', 'optuna', 'yaml'} & set(sys.modules);"
        "sys.exit(f'{codes} {heavy}' if heavy or any(codes) else 0)"
    )
    assert "ablate" in run(code)


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
