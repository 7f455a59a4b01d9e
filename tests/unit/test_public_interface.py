"""`import tal_bench` is light, complete for type checkers, and all that the documentation imports."""

from __future__ import annotations

import ast
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tal_bench

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "pandas", "numpy", "mlflow", "matplotlib", "optuna", "scipy", "pydantic", "yaml")
WITHOUT_TORCH = (
    "load_study",
    "load_runs",
    "collect",
    "write_report",
    "compare",
    "evaluate",
    "StudySpec",
    "datasets",
)


def run(code: str) -> str:
    """Return what a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert run(f"import sys, tal_bench; print([n for n in {HEAVY} if n in sys.modules])") == "[]"
    assert (
        run(f"import sys, tal_bench; dir(tal_bench); print([n for n in {HEAVY} if n in sys.modules])") == "[]"
    )


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_reading_works_without_torch(name: str) -> None:
    run(f"import sys; sys.modules['torch'] = None; import tal_bench; tal_bench.{name}")


@pytest.mark.parametrize("order", [1, -1])
def test_names_do_not_depend_on_earlier_imports(order: int) -> None:
    names = tal_bench.__all__[::order]
    assert run(f"from tal_bench import {', '.join(names)}; print(type(corruptions).__name__)") == "Registry"


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "tal_bench" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == tal_bench._MODULES
    assert set(seen) == set(tal_bench.__all__) <= set(dir(tal_bench))


def test_no_name_is_that_of_a_submodule() -> None:
    assert not {module.name for module in pkgutil.iter_modules(tal_bench.__path__)} & set(tal_bench.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ablation'"):
        tal_bench.ablation  # noqa: B018


def sources() -> Iterator[tuple[str, str]]:
    """Yield every Python example that readers see, with its place."""
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for number, cell in enumerate(json.loads(file.read_text(encoding="utf-8"))["cells"]):
            if cell["cell_type"] == "code":
                yield f"{file.name}, cell {number}", "".join(cell["source"])
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = file.read_text(encoding="utf-8")
        for number, block in enumerate(
            re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
        ):
            yield f"{file.name}, block {number}", block


def private_uses(code: str) -> set[str]:
    """Return what code imports or uses of the package beyond its public names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("tal_bench.")}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "tal_bench":
                found |= {f"tal_bench.{alias.name}" for alias in node.names} - PUBLIC
            elif node.module.startswith("tal_bench."):
                found.add(node.module)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "tal_bench"
        ):
            found |= {f"tal_bench.{node.attr}"} - PUBLIC
    return found


PUBLIC = {f"tal_bench.{name}" for name in tal_bench.__all__}


def test_examples_use_public_names_only() -> None:
    examples = dict(sources())
    uses = [place for place, code in examples.items() if "tal_bench" in code]
    assert len({place.split(",")[0] for place in uses}) > 8
    private = {place: found for place, code in examples.items() if (found := private_uses(code))}
    assert not private


@pytest.mark.parametrize(
    "code",
    [
        "import tal_bench.data",
        "from tal_bench.config import Range",
        "from tal_bench import data",
        "import tal_bench\ntal_bench.report.study",
        "def f():\n    from tal_bench.data import registry",
    ],
)
def test_the_rule_sees_private_uses(code: str) -> None:
    assert private_uses(code)
    assert not private_uses("import tal_bench\nfrom tal_bench import Range\ntal_bench.load_study('x').runs")
