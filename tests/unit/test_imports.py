"""Who may import whom; and what answers without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tal_bench"
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "types", "registry", "plugins", "system"),
    ("config",),
    ("results",),
    ("evaluation", "models", "extraction"),
    ("data", "distill"),
    ("training", "converters", "corruption"),
    ("profiling",),
    ("inference", "tuning", "tracking", "execution", "report"),
    ("studies",),
    ("",),
    ("cli",),
    ("__main__",),
)
"""Rooms, the lowest layer first; a room imports from lower layers only, the first layer also from itself."""
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


def allowed(room: str) -> set[str]:
    """Rooms that a room may import."""
    at = next((i for i, layer in enumerate(LAYERS) if room in layer), None)
    assert at is not None, f"'{room}' is a new room: give it a layer"
    return {room, *(LAYERS[0] if at == 0 else ()), *(below for layer in LAYERS[:at] for below in layer)}


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_rooms_import_only_lower_layers(file: Path) -> None:
    own = room_of(module_of(file))
    wrong = {module for module in imported(file) if room_of(module) not in allowed(own)}
    assert not wrong, f"{own} may not import {', '.join(sorted(wrong))}"


def test_no_files_import_each_other() -> None:
    names = {module_of(file) for file in MODULES}
    graph = {
        module_of(file): {x for x in imported_files(file, names) if x != module_of(file)} for file in MODULES
    }
    assert not circles(graph)


def test_the_check_sees_circles() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c"}


def imported_files(file: Path, names: set[str]) -> set[str]:
    """Modules of ours that a file imports anywhere, submodules instead of the packages they come from."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in names else str(node.module))
    return found & names


def circles(graph: dict[str, set[str]]) -> set[str]:
    """Nodes that can be reached from themselves."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph.get(start, ()))
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += graph.get(node, ())
        return seen

    return {node for node in graph if node in reached(node)}


def test_the_rule_sees_violations(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from tal_bench.studies import run\n    import tal_bench.training.train\n")
    assert {room_of(module) for module in imported(file)} == {"studies", "training"}


WITHOUT_TORCH = {
    "report": "import tal_bench.report, tal_bench.report.study.collect, "
    "tal_bench.report.study.drawings.cost_scatter, tal_bench.report.study.tables, "
    "tal_bench.report.study.terminal, tal_bench.report.comparison.write",
    "evaluation": "import tal_bench.evaluation.files, tal_bench.evaluation.mean_ap, "
    "tal_bench.evaluation.recall, tal_bench.evaluation.significance",
    "results": "import tal_bench.results.folder, tal_bench.results.dataframe",
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
