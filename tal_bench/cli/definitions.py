"""Study definitions: find one by name or path, merge it with the flags, check every name in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tal_bench.errors import InputError
from tal_bench.registry import Registry, did_you_mean

if TYPE_CHECKING:
    from tal_bench.config import StudySpec

DEFAULT_STUDY = "two-by-two"
EVERY_ROW = "all"
REFERENCE_INPUTS: tuple[Literal["all", "privileged", "primary"], ...] = ("all", "privileged", "primary")


def definitions_folder() -> Path:
    """Where the shipped definitions lie: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "ablations"
    return inside if inside.is_dir() else package.parent / "ablations"


def shipped_studies() -> dict[str, Path]:
    """Name to file of the shipped definitions."""
    return {file.stem: file for file in sorted(definitions_folder().glob("*.yaml"))}


def find_definition(study: str) -> Path:
    """The file of a study given by name or path.

    Raises:
        InputError: neither a shipped name nor a file.
    """
    if study.lower().endswith((".yaml", ".yml")):
        return Path(study)
    shipped = shipped_studies()
    if study not in shipped:
        hint = _or_file(did_you_mean(study, list(shipped)))
        raise InputError(f"unknown study '{study}'", where="STUDY", hint=hint)
    return shipped[study]


def study_spec(study: str | None, flags: Mapping[str, Any]) -> StudySpec:
    """A definition with the flags that were given, every name in it known.

    Without a study and without variants it is the main comparison alone: `both` against `none`.

    Args:
        study: name or path; none for the default.
        flags: field of `StudySpec` to value, none where the flag was not given.

    Raises:
        InputError: unknown study, key or name, or a value that does not fit.
    """
    from tal_bench.config import StudySpec, parse_spec, read_yaml

    file = find_definition(study or DEFAULT_STUDY)
    written = parse_spec(StudySpec, read_yaml(file), where=file)
    changes = {field: value for field, value in flags.items() if value not in (None, ())}
    if study is None:
        changes.setdefault("variants", ("both",))
    return _checked(
        written.model_dump() | changes, {f: f"{file}: {f}" for f in StudySpec.model_fields}, changes
    )


def tuning_spec(flags: Mapping[str, Any]) -> StudySpec:
    """A search without a table beside it: the given variants and their teachers, no baseline, no references.

    Args:
        flags: as in `study_spec`; `both` where no variant is given.

    Raises:
        InputError: a name that is not known, or a value that does not fit.
    """
    from tal_bench.config import StudySpec

    changes = {"variants": ("both",)} | {k: v for k, v in flags.items() if v not in (None, ())}
    value = {
        "name": "-".join(["tune", *changes["variants"]]),
        "description": f"{' and '.join(changes['variants'])}: searched on validation, the find tested once.",
        "baseline": False,
    }
    return _checked(value | changes, dict.fromkeys(StudySpec.model_fields, ""), changes)


def _checked(value: Mapping[str, Any], places: Mapping[str, str], flags: Mapping[str, Any]) -> StudySpec:
    """The study with every name in it known; what is not is said to be in its place or its flag."""
    from tal_bench.config import StudySpec, parse_spec

    merged = _teacher_folder(parse_spec(StudySpec, value, where="flags"))
    flagged = {field: f"--{field.removesuffix('s')}" for field in flags}
    check_names(merged, {**places, **flagged})
    return with_references(merged)


def _teacher_folder(spec: StudySpec) -> StudySpec:
    """A teacher that is a folder's name, and no model's, as a path."""
    if not Path(spec.teacher).is_dir():
        return spec
    from tal_bench.models.registry import teachers

    here = spec.teacher if spec.teacher in teachers else str(Path(spec.teacher).resolve())
    return spec.model_copy(update={"teacher": here})


def check_names(spec: StudySpec, places: Mapping[str, str]) -> None:
    """Every dataset, model and variant of a study is registered, or a dataset file that can be read.

    Args:
        spec: the study.
        places: field to the flag or file and key that it comes from.

    Raises:
        InputError: the first name that is not known, with the closest that is.
    """
    check_dataset(spec.dataset, places["dataset"])
    from tal_bench.distill.variants import variants
    from tal_bench.models.registry import model_names, students, teachers

    if spec.student in teachers:
        hint = "a student does without them, see tal-bench list students"
        raise InputError(f"'{spec.student}' reads privileged modalities", where=places["student"], hint=hint)
    _known(spec.student, students, places["student"])
    if spec.teacher_file is None:
        _known(spec.teacher, teachers, places["teacher"])
    else:
        _check_weights(spec.teacher_file, places["teacher"])
    own = [row.name for row in spec.every_row]
    for row in spec.rows:
        _known(row.variant, variants, f"{places['rows']}: {row.title}")
        if row.student is not None:
            _known(row.student, students, f"{places['rows']}: {row.title}")
        if row.teacher is not None:
            _known(row.teacher, teachers, f"{places['rows']}: {row.title}")
    for name in spec.variants:
        if name != EVERY_ROW and name not in variants and name not in own:
            hint = did_you_mean(name, [*own, *variants.names(), EVERY_ROW])
            raise InputError(f"unknown variant '{name}'", where=places["variants"], hint=hint)
    for name in spec.references:
        if name not in model_names():
            hint = did_you_mean(name, model_names())
            raise InputError(f"unknown model '{name}'", where=places["references"], hint=hint)


def check_dataset(dataset: str, where: str = "--dataset") -> None:
    """A registered name, or a dataset file that can be read; nothing is prepared.

    Raises:
        InputError: neither.
    """
    from tal_bench.data.registry import datasets, read_dataset_file

    if dataset.lower().endswith((".yaml", ".yml")):
        read_dataset_file(Path(dataset))
    elif dataset not in datasets:
        hint = _or_file(did_you_mean(dataset, datasets.names()))
        raise InputError(f"unknown dataset '{dataset}'", where=where, hint=hint)


def _or_file(suggestion: str) -> str:
    return f"{suggestion}{' or' if suggestion.endswith('?') else '; or'} give the path of a .yaml file"


def _known(name: str, registry: Registry[Any], where: str) -> None:
    if name not in registry:
        raise InputError(
            f"unknown {registry.kind} '{name}'", where=where, hint=did_you_mean(name, registry.names())
        )


def _check_weights(file: Path, where: str) -> None:
    """A teacher that is a file is one of ours.

    Raises:
        InputError: it is not there, or has to be imported first.
    """
    from tal_bench.models.checkpoint import read_card, weights_file

    if file.is_file() and file.suffix in (".tar", ".pth", ".pt", ".ckpt"):
        hint = f"tal-bench checkpoint import {file} --as PROGRAM"
        raise InputError("a checkpoint of another program", where=f"{where} {file}", hint=hint)
    read_card(weights_file(file))


def with_references(spec: StudySpec) -> StudySpec:
    """Beside `all` variants stands the teacher with every choice of inputs, privileged alone included."""
    if EVERY_ROW not in spec.variants or spec.rows:
        return spec
    from tal_bench.models.registry import get_model, model_name, model_names

    if spec.teacher_file is not None:  # its own row stands for what it reads
        from tal_bench.models.checkpoint import read_card, weights_file

        names = read_card(weights_file(spec.teacher_file)).counterparts(REFERENCE_INPUTS)
    else:
        teacher = get_model(spec.teacher)
        names = [
            model_name(
                teacher.structure, inputs, temporal_attention=teacher.temporal_attention, size=teacher.size
            )
            for inputs in REFERENCE_INPUTS
        ]
    references = [*spec.references, *(name for name in names if name in model_names())]
    return spec.model_copy(update={"references": tuple(dict.fromkeys(references))})
