"""Plugins: Python files given by `--plugin`, and entry points of installed packages.

A plugin adds entries to the registries on import: `tal_bench.data.registry.datasets`,
`tal_bench.models.structures.structures`, `tal_bench.models.registry.teachers` and `students`,
`tal_bench.distill.variants.variants`, `tal_bench.distill.terms.registry.terms`,
`tal_bench.corruption.registry.corruptions`, `tal_bench.execution.registry.executors`; or to the lists
`tal_bench.results.columns.COST_COLUMNS`, `tal_bench.report.study.columns.COLUMNS` and
`tal_bench.report.study.figures.FIGURES`. An installed package declares its module as an entry point of the
group `tal_bench.plugins`.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from tal_bench.errors import InputError, TalBenchError

GROUP = "tal_bench.plugins"
_loaded: set[str] = set()


def load_plugins(files: Sequence[Path] = ()) -> None:
    """Import the installed plugins and the given files, unless this process has imported them before.

    The module name of a file depends only on its path, so that worker processes, which load the same files,
    can unpickle objects defined there.

    Raises:
        InputError: A plugin is missing or its import fails; the message names file and line.
    """
    for point in importlib.metadata.entry_points(group=GROUP):
        key = f"{point.name} = {point.value}"
        if key not in _loaded:
            try:
                point.load()
            except Exception as error:
                where = f"installed plugin '{key}'"
                raise InputError(_message(error), where=where, hint="fix or uninstall it") from error
            _loaded.add(key)
    for file in files:
        _load_file(file)


def module_name(file: Path) -> str:
    """Return the module name of a plugin file."""
    path = str(file.expanduser().resolve())
    return f"tal_bench_plugin_{file.stem}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"


def _load_file(file: Path) -> None:
    path, name = file.expanduser().resolve(), module_name(file)
    if name in _loaded:
        return
    if not path.is_file():
        raise InputError("no such plugin file", where=f"--plugin {file}", hint="give a Python file")
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        line = _line(error, path)
        raise InputError(_message(error), where=f"{file}:{line}" if line else file) from error
    _loaded.add(name)


def _line(error: BaseException, path: Path) -> int | None:
    """Return the line of the plugin that raised the error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return lines[-1] if lines else None


def _message(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return text if isinstance(error, TalBenchError) else f"plugin failed: {type(error).__name__}: {text}"
