"""Study definitions: find one by name or path, merge it with the flags, check its names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tal_bench.config import StudySpec, parse_spec, read_yaml
from tal_bench.data.registry import datasets, read_dataset_file
from tal_bench.distill.variants import variants
from tal_bench.errors import InputError
from tal_bench.models.checkpoint import read_card, weights_file
from tal_bench.models.registry import model_names, students, teachers
from tal_bench.registry import Registry, did_you_mean
from tal_bench.studies.rows import ALL

DEFAULT_STUDY = "two-by-two"


def definitions_folder() -> Path:
    """Return the folder of the shipped definitions: in an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "ablations"
    return inside if inside.is_dir() else package.parent / "ablations"


def shipped_studies() -> dict[str, Path]:
    """Return the file of every shipped definition by its name."""
    return {file.stem: file for file in sorted(definitions_folder().glob("*.yaml"))}


def find_definition(study: str) -> Path:
    """Return the file of a study given by name or path.

    Raises:
        InputError: It is neither a shipped name nor a YAML file.
    """
    if study.lower().endswith((".yaml", ".yml")):
        return Path(study)
    shipped = shipped_studies()
    if study not in shipped:
        hint = _or_file(did_you_mean(study, list(shipped)))
        raise InputError(f"unknown study '{study}'", where="STUDY", hint=hint)
    return shipped[study]


Places = Mapping[str, str]
"""Field of a study to the flag, or to the file and key, that it comes from."""


def study_spec(study: str | None, flags: Mapping[str, Any]) -> tuple[StudySpec, Places]:
    """Return a definition merged with the flags that were given, and where each field comes from.

    Without a study and without variants it is the main comparison alone: `both` against `none`.

    Args:
        study: Name or path; None for the default.
        flags: Field of `StudySpec` to value; None where the flag was not given.

    Raises:
        InputError: The study or a key is unknown, or a value does not fit.
    """
    file = find_definition(study or DEFAULT_STUDY)
    written = parse_spec(StudySpec, read_yaml(file), where=file)
    changes = {field: value for field, value in flags.items() if value not in (None, ())}
    if study is None:
        changes.setdefault("variants", ("both",))
    return _merged(
        written.model_dump() | changes, {f: f"{file}: {f}" for f in StudySpec.model_fields}, changes
    )


def tuning_spec(flags: Mapping[str, Any]) -> tuple[StudySpec, Places]:
    """Return a search without a table beside it: the given variants, no baseline, no references.

    Args:
        flags: As in `study_spec`; `both` where no variant is given.

    Raises:
        InputError: A value does not fit.
    """
    changes = {"variants": ("both",)} | {k: v for k, v in flags.items() if v not in (None, ())}
    value = {
        "name": "-".join(["tune", *changes["variants"]]),
        "description": f"{' and '.join(changes['variants'])}: searched on validation, tested once.",
        "baseline": False,
    }
    return _merged(value | changes, dict.fromkeys(StudySpec.model_fields, ""), changes)


def _merged(value: Mapping[str, Any], places: Places, flags: Mapping[str, Any]) -> tuple[StudySpec, Places]:
    spec = _with_teacher_path(parse_spec(StudySpec, value, where="flags"))
    return spec, {**places, **{field: f"--{field.removesuffix('s')}" for field in flags}}


def _with_teacher_path(spec: StudySpec) -> StudySpec:
    """Turn a teacher that names a folder, and no model, into a path."""
    if spec.teacher in teachers or not Path(spec.teacher).is_dir():
        return spec
    return spec.model_copy(update={"teacher": str(Path(spec.teacher).resolve())})


def check_names(spec: StudySpec, places: Places | None = None) -> None:
    """Check that every dataset, model and variant of a study is registered, or a file that can be read.

    Args:
        spec: Study.
        places: Where its fields come from, for messages; the names of the fields when None.

    Raises:
        InputError: The first unknown name, with the closest known one.
    """
    at = dict(zip(StudySpec.model_fields, StudySpec.model_fields, strict=True)) | dict(places or {})
    check_dataset(spec.dataset, at["dataset"])
    _check_student(spec.student, at["student"])
    if spec.teacher_file is None:
        _known(spec.teacher, teachers, at["teacher"])
    else:
        _check_weights(spec.teacher_file, at["teacher"])
    for row in spec.rows:
        where = f"{at['rows']}: {row.title}"
        _known(row.variant, variants, where)
        if row.student is not None:
            _check_student(row.student, where)
        if row.teacher is not None:
            _known(row.teacher, teachers, where)
    own = [row.name for row in spec.every_row]
    for name in spec.variants:
        if name != ALL and name not in variants and name not in own:
            hint = did_you_mean(name, [*own, *variants.names(), ALL])
            raise InputError(f"unknown variant '{name}'", where=at["variants"], hint=hint)
    for name in spec.references:
        if name not in model_names():
            hint = did_you_mean(name, model_names())
            raise InputError(f"unknown model '{name}'", where=at["references"], hint=hint)


def _check_student(name: str, where: str) -> None:
    if name in teachers and name not in students:
        hint = "choose one of tal-bench list students"
        raise InputError(f"'{name}' reads privileged modalities", where=where, hint=hint)
    _known(name, students, where)


def check_dataset(dataset: str, where: str = "--dataset") -> None:
    """Check that a dataset is registered, or a file that can be read; nothing is prepared.

    Raises:
        InputError: It is neither.
    """
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
    """Check that a file holds weights of this package.

    Raises:
        InputError: It is missing, or has to be imported first.
    """
    if file.is_file() and file.suffix in (".tar", ".pth", ".pt", ".ckpt"):
        hint = f"tal-bench checkpoint import {file} --as PROGRAM"
        raise InputError("a checkpoint of another program", where=f"{where} {file}", hint=hint)
    read_card(weights_file(file))
