"""Write the reference pages of the documentation from commands, specs and registries.

python -m tal_bench.cli.reference docs
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from typer import Typer
from typer.models import OptionInfo

from tal_bench.report.common.markup import escape_markdown
from tal_bench.system.files import write_atomically

if TYPE_CHECKING:
    from tal_bench.config import DatasetSpec
    from tal_bench.distill.variants import Variant

NOTE = "<!-- Written by `python -m tal_bench.cli.reference docs`; edit the declarations. -->"
VALUES = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}
"""What tables show as the value of an option of a type."""


def commands() -> str:
    """Return the page of all commands with their arguments and options."""
    from tal_bench.cli.app import app

    parts = [
        "# Commands and options",
        "Which arguments and options does each command take, and what are their defaults? "
        "[commands.md](../commands.md) shows the commands by purpose.",
    ]
    for path, callback in _commands(app, ()):
        first = (inspect.getdoc(callback) or "").partition("\n\n")[0]
        lines = [_parameter(p) for p in inspect.signature(callback, eval_str=True).parameters.values()]
        parts += [f"## tal-bench {' '.join(path)}", _markdown(first)]
        parts.append(_table(("name", "value", "default", "meaning"), lines))
    return _page(parts)


def _commands(app: Typer, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    """Yield the functions of an application by the names of their commands, groups within it included."""
    for command in app.registered_commands:
        if command.callback is not None:
            yield (*path, command.name or command.callback.__name__.replace("_", "-")), command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance, (*path, str(group.name)))


def _parameter(parameter: inspect.Parameter) -> list[str]:
    """Return the cells of an argument or option: name, value, default, meaning."""
    kind, info = get_args(parameter.annotation)[:2]
    is_option = isinstance(info, OptionInfo)
    kinds = [
        part
        for part in (get_args(kind) if get_origin(kind) is UnionType else (kind,))
        if part is not NoneType
    ]
    inner = get_args(kinds[0])[0] if get_origin(kinds[0]) is list else kinds[0]
    choices = get_args(inner) if get_origin(inner) is Literal else ()
    value = info.metavar or ("|".join(map(str, choices)) if choices else VALUES.get(inner, ""))
    # Typer takes the first name of an annotated option for its default.
    names = [name for name in (info.default, *(info.param_decls or ())) if isinstance(name, str)]
    flags = [flag for name in names for flag in name.split("/")]
    if not flags:
        own = parameter.name.replace("_", "-")
        flags = [f"--{own}", *([f"--no-{own}"] if inner is bool else [])]
    default = parameter.default
    if isinstance(info.show_default, str):
        shown = info.show_default
    elif default is inspect.Parameter.empty:
        shown = "required"
    elif inner is bool:
        shown = "on" if default else "off"
    else:
        shown = "" if default is None else str(default)
    name = ", ".join(f"`{flag}`" for flag in flags) if is_option else f"`{info.metavar}`"
    return [
        name,
        escape_markdown(value) if is_option else "",
        escape_markdown(shown),
        _markdown(info.help or ""),
    ]


def settings() -> str:
    """Return the page of the settings of networks, training, decoding, studies and datasets."""
    from tal_bench.config import DatasetSpec, DecodeSpec, DetectorSpec, Spec, StudySpec, TrainSpec
    from tal_bench.config.describe import describe

    parts = [
        "# Settings",
        "Which settings do studies, datasets, networks, training and decoding have in YAML files, and what "
        "are their defaults? `tal-bench list settings` prints those of networks, training and decoding.",
    ]
    kinds: dict[str, type[Spec]] = {
        "Study": StudySpec,
        "Dataset": DatasetSpec,
        "Network": DetectorSpec,
        "Training": TrainSpec,
        "Decoding": DecodeSpec,
    }
    for title, kind in kinds.items():
        lines = [(f"`{name}`", f"`{default}`", _markdown(text)) for name, default, text in describe(kind)]
        parts += [f"## {title}", _table(("key", "default", "meaning"), lines)]
    return _page(parts)


def structures() -> str:
    """Return the page of structures, and of the students and teachers that come with them."""
    from tal_bench.models.registry import students, teachers
    from tal_bench.models.structures import structures as declared

    parts = [
        "# Structures, students and teachers",
        "Which detectors are there, and how do they differ from ActionFormer? Every structure has students "
        "and teachers by what they read; the suffix `-ta` adds temporal attention, `-small` the small size.",
    ]
    for name in declared:
        structure = declared.get(name)
        changes = {
            "Architecture": structure.detector,
            **{f"Training, size `{size}`": values for size, values in structure.training.items()},
            **{f"Decoding, size `{size}`": values for size, values in structure.decoding.items()},
        }
        lines = [f"- {title}: {_values(values)}" for title, values in changes.items() if values]
        lines += [
            f"- {title}: {', '.join(f'`{n}`' for n in registry if registry.get(n).structure == name)}"
            for title, registry in (("Students", students), ("Teachers", teachers))
        ]
        parts += [f"## {name}", "\n".join(lines)]
    return _page(parts)


def _values(values: Any) -> str:
    return ", ".join(f"`{key}` {value}" for key, value in sorted(values.items()))


def variants() -> str:
    """Return the page of variants: the methods by which students are distilled."""
    from tal_bench.distill.variants import variants as declared

    lines = [_variant(declared.get(name)) for name in declared]
    return _page(
        [
            "# Variants",
            "By which methods can a student be distilled, from which teachers and with which terms? "
            "`tal-bench ablate --variant NAME` runs one; the formulas of the terms are in "
            "[methods.md](../methods.md).",
            _table(("variant", "what it is", "teachers", "terms (weight)", "publication"), lines),
        ]
    )


def _variant(variant: Variant) -> list[str]:
    readers = {"all": "all modalities", "primary": "primary", "privileged": "privileged"}
    teachers = [
        f"{ref.structure} ({readers.get(ref.inputs, ref.inputs)})" for ref in variant.teachers.values()
    ]
    terms = [f"[`{use.name}`](../methods.md#{use.name}) ({use.weight:g})" for use in variant.terms]
    return [
        f"`{variant.name}`",
        _markdown(variant.summary),
        ", ".join(teachers),
        ", ".join(dict.fromkeys(terms)),
        _markdown(variant.reference),
    ]


def datasets() -> str:
    """Return the page of registered datasets."""
    from tal_bench.data.registry import datasets as declared

    parts = [
        "# Registered datasets",
        "Which datasets are known by name, how are they evaluated, and which files do they need? "
        "[datasets.md](../datasets.md) says where to get them and [check.md](../check.md) how to check them.",
    ]
    for name in declared:
        entry = declared.get(name)
        parts += [f"## {name}", f"{_markdown(entry.summary[:1].upper() + entry.summary[1:])}."]
        if entry.prepare is not None:
            parts.append(f"- Made by: `tal-bench data prepare {name}`")
            continue
        lines = [
            *_facts(entry.spec(Path())),
            *(f"- File: `{' '.join(file.split())}`" for file in entry.files),
        ]
        parts.append("\n".join(lines))
    return _page(parts)


def _facts(spec: DatasetSpec) -> list[str]:
    streams = ", ".join(f"{key} ({m.role}, {m.channels} channels)" for key, m in spec.modalities.items())
    tiou = ", ".join(f"{level:g}" for level in spec.tiou)
    return [
        f"- Streams: {streams}",
        f"- Trained on `{'`, `'.join(spec.train)}`, tested on `{'`, `'.join(spec.test)}`",
        f"- {'THUMOS' if spec.ap_method == 'thumos' else 'ActivityNet-style'} AP at tIoU {tiou}",
        f"- Size `{spec.size}`, at most {spec.max_length} steps of {spec.stride:g} frames",
    ]


def columns() -> str:
    """Return the page of the columns of tables, files and DataFrames."""
    from tal_bench.report.study.column_list import column_list

    parts = [
        "# Columns",
        "What does each column of `table.csv`, `summary.json` and `load_runs` hold? "
        "`tal-bench list columns` prints the same with the columns of plugins.",
    ]
    for title, lines in column_list().items():
        parts.append(f"## Columns of {title}")
        parts.append(
            _table(
                ("column", "meaning", "also in"),
                [(_keys(k), _markdown(m), _markdown(a)) for k, m, a in lines],
            )
        )
    return _page(parts)


def _keys(text: str) -> str:
    return ", ".join(f"`{key}`" for key in text.split(", "))


def _markdown(text: str) -> str:
    """Escape the text of a declaration, without the code that it marks, on one line."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(p if p.startswith("`") else escape_markdown(p) for p in parts)


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _page(parts: Iterable[str]) -> str:
    title, *rest = parts
    return "\n\n".join([title, *rest[:1], NOTE, *rest[1:]]) + "\n"


def terms() -> str:
    """Return the page of distillation terms."""
    from tal_bench.distill.methods_page import parts

    return _page(parts())


PAGES: dict[str, Callable[[], str]] = {
    "methods.md": terms,
    "reference/commands.md": commands,
    "reference/settings.md": settings,
    "reference/structures.md": structures,
    "reference/variants.md": variants,
    "reference/datasets.md": datasets,
    "reference/columns.md": columns,
}
"""Written pages of the documentation, by their place in `docs/`."""

if __name__ == "__main__":
    for name, make in PAGES.items():
        write_atomically(Path(sys.argv[1]) / name, make())
