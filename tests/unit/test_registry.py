"""`Registry` and the errors that cross processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tal_bench
from tal_bench.errors import DataError, InputError, TalBenchError
from tal_bench.registry import Registry, did_you_mean


def fruits() -> Registry[int]:
    registry: Registry[int] = Registry("fruit")
    for number, name in enumerate(("pear", "apple", "fig")):
        assert registry.add(name, number) == number
    return registry


def test_names_are_in_the_order_of_declaration() -> None:
    registry = fruits()
    assert registry.names() == list(registry) == ["pear", "apple", "fig"]
    assert registry.get("apple") == 1
    assert "fig" in registry
    assert "plum" not in registry


@pytest.mark.parametrize(
    ("module", "registry"),
    [
        ("tal_bench.distill.terms.logits", "terms"),
        ("tal_bench.distill.terms.offsets", "terms"),
        ("tal_bench.data.datasets.presets.hapt", "datasets"),
        ("tal_bench.models.students_and_teachers", "students"),
    ],
)
def test_the_order_does_not_depend_on_the_first_import(module: str, registry: str) -> None:
    code = f"import {module}, tal_bench; print(*tal_bench.{registry})"
    command = [sys.executable, "-c", code]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert listed.split() == list(getattr(tal_bench, registry))


def test_entries_of_other_modules_come_last_whichever_module_imports_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry: Registry[int] = Registry("fruit", "built_in_fruits")
    shelf = ModuleType("shelf")
    monkeypatch.setattr(shelf, "registry", registry, raising=False)
    monkeypatch.setitem(sys.modules, "shelf", shelf)
    (tmp_path / "built_in_fruits.py").write_text(
        "import fruits_of_a_plugin\nfrom shelf import registry\nregistry.add('plum', 1)\n"
    )
    (tmp_path / "fruits_of_a_plugin.py").write_text("from shelf import registry\nregistry.add('lime', 2)\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert registry.names() == ["plum", "lime"]
    finally:
        for name in ("built_in_fruits", "fruits_of_a_plugin"):
            sys.modules.pop(name, None)


def test_a_name_cannot_be_registered_twice() -> None:
    registry = fruits()
    with pytest.raises(InputError, match="fruit 'fig' is already registered"):
        registry.add("fig", 9)
    assert registry.get("fig") == 2


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"file.yaml: unknown fruit 'appel' \(did you mean 'apple'\?\)"):
        fruits().get("appel", where="file.yaml")
    with pytest.raises(InputError, match=r"known: pear, apple, fig"):
        fruits().get("zzzzz")
    assert did_you_mean("x", []) == "known: "


@pytest.mark.parametrize("kind", [TalBenchError, InputError, DataError])
def test_errors_can_be_pickled(kind: type[TalBenchError]) -> None:
    error = kind("is\nwrong", where="file.yaml", hint="fix it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "file.yaml: is wrong (fix it)"
    assert again.exit_code == (1 if kind is TalBenchError else 2)


def test_for_each_also_sees_names_that_are_added_later() -> None:
    registry, seen = fruits(), list[str]()
    registry.for_each(seen.append)
    assert seen == ["pear", "apple", "fig"]
    registry.add("plum", 3)
    with pytest.raises(InputError):
        registry.add("fig", 9)
    assert seen == ["pear", "apple", "fig", "plum"]
