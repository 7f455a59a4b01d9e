"""Tools for tests of malformed input, which must cause one error line, exit code 2 and no side effects."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from data_files import small_dataset
from hypothesis import strategies as st

from tal_bench.cli import main


@dataclass(frozen=True)
class Case:
    """Malformed input.

    Attributes:
        name: Description of the problem.
        make: Function that creates the problem in a valid folder.
        words: Words that the message must contain, in addition to the file.
    """

    name: str
    make: Callable[[Path], Any]
    words: tuple[str, ...]


def cases(*rows: tuple[str, Callable[[Path], Any], tuple[str, ...]]) -> pytest.MarkDecorator:
    """Parametrize a test with a table of cases, whose names must be unique."""
    names = [name for name, _, _ in rows]
    assert len(set(names)) == len(names)
    return pytest.mark.parametrize("case", [Case(*row) for row in rows], ids=names)


HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Warnings that Python does not show by default; others would be shown on standard error."""


def call(*words: object) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("typer.main.get_command", command)  # cached: together half of the time of a call
        patch.setattr("importlib.metadata.entry_points", entry_points)
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        for kind in HIDDEN:
            warnings.simplefilter("ignore", kind)
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue() + "".join(f"warning: {w.message}\n" for w in caught)


command = functools.cache(typer.main.get_command)
entry_points = functools.cache(importlib.metadata.entry_points)


def refused(*words: object) -> tuple[str, str]:
    """Run a command that must reject its input; return its error and its output."""
    code, out, err = call(*words)
    assert code == 2, (code, out, err)
    assert is_one_line(err), err
    return err, out


def is_one_line(err: str) -> bool:
    """Whether the text is one error line without control characters."""
    line = err.removesuffix("\n")
    return line != err and line.startswith("error: ") and line.isprintable() and "Traceback" not in line


def answered(*words: object) -> None:
    """Check that a command accepts its input, possibly with notes, or rejects it with one error line."""
    code, out, err = call(*words)
    assert code in (0, 2), (code, out, err)
    assert is_one_line(err) if code else all(line.startswith("note: ") for line in err.splitlines()), err


@contextlib.contextmanager
def empty_place(folder: Path) -> Iterator[None]:
    """Work in an empty folder with an empty cache, and check that both are empty afterwards."""
    here, cache = folder / "here", folder / "cache"
    here.mkdir(parents=True)
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TAL_BENCH_CACHE", "XDG_CACHE_HOME"):
            patch.setenv(name, str(cache))
        for name in ("TAL_BENCH_DATA", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        os.chdir(here)
        try:
            yield
        finally:
            os.chdir(before)
    assert not list(here.iterdir())
    assert not cache.exists()


def dataset_file(folder: Path) -> Path:
    """Write a valid dataset; return its YAML file."""
    folder.mkdir(parents=True)
    spec = small_dataset(folder, train=3, test=2)
    value = {
        "name": "small",
        "annotations": "annotations.json",
        "modalities": {
            name: {"role": m.role, "folder": name, "channels": m.channels}
            for name, m in spec.modalities.items()
        },
        "stride": spec.stride,
        "window": spec.window,
        "max_length": 64,
        "size": "small",
    }
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return file


def tripwire(folder: Path) -> Any:
    """Return an object whose unpickling creates a folder."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "exploded"),)

    return Bomb()


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -1, 0, 2**63, 2**64]),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.lists(st.one_of(st.floats(), st.text(max_size=2)), max_size=3),
)
"""Unexpected values."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all values in nested objects and lists."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


@st.composite
def disturbed(draw: st.DrawFn, value: Any) -> Any:
    """Replace, remove or add one nested value."""
    import copy

    value = copy.deepcopy(value)
    *above, last = draw(st.sampled_from([path for path in places(value) if path]))
    inside = value
    for key in above:
        inside = inside[key]
    match draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            inside[last] = draw(ODD)
        case "remove":
            del inside[last]
        case _ if isinstance(inside, dict):
            inside[draw(st.text(max_size=8))] = draw(ODD)
        case _:
            inside.append(draw(ODD))
    return value


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Truncate, change or insert bytes."""
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    match draw(st.sampled_from(["cut", "change", "insert"])):
        case "cut":
            return content[:at]
        case "change":
            new = draw(st.binary(min_size=1, max_size=8))
            return content[:at] + new + content[at + len(new) :]
        case _:
            return content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]
