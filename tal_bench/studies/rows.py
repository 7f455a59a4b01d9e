"""Which rows a study has, by name: the chosen variants, and the reference rows beside them."""

from __future__ import annotations

from typing import Literal

from tal_bench.config import DatasetSpec, RowSpec, StudySpec
from tal_bench.distill.variants import variants
from tal_bench.models.checkpoint import read_card, weights_file
from tal_bench.models.registry import get_model, model_name, model_names, students

BASELINE = "none"
MAIN = "both"
"""The row of a study that names none."""
ALL = "all"
FACTORIAL = ("none", "none-matched", "self", "cross-modal", "cross-structure", "both-single", "both")
"""The rows that `all` stands for."""
INPUTS_ORDER = ("all", "privileged", "primary", "hallucinated", "decomposed")
"""Order of teacher and reference rows in a table, by the inputs of the model."""
REFERENCE_INPUTS: tuple[Literal["all", "privileged", "primary"], ...] = ("all", "privileged", "primary")


def chosen_rows(spec: StudySpec) -> list[RowSpec]:
    """Return the baseline and the named rows, `all` expanded, in the order of the table.

    Variants stand in the order of their declaration, followed by the rows that the study declares.

    Raises:
        InputError: a variant is unknown.
    """
    own = {row.name: row for row in spec.every_row}
    wanted = {BASELINE} if spec.baseline else set()
    for name in spec.variants or tuple(own) or (MAIN,):
        if name == ALL:
            wanted |= set(own) or set(FACTORIAL)
        else:
            wanted.add(name if name in own else variants.get(name).name)
    registered = [RowSpec(variant=name, name=name) for name in variants if name in wanted and name not in own]
    rows = [*registered, *(row for name, row in own.items() if name in wanted)]
    return sorted(rows, key=lambda row: row.name != BASELINE)


def with_references(spec: StudySpec) -> StudySpec:
    """Add the teacher with every choice of inputs as reference rows to a study of `all` variants."""
    if ALL not in spec.variants or spec.rows:
        return spec
    if spec.teacher_file is not None:  # the imported teacher has a row of its own
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


def without_privileged(spec: StudySpec, dataset: DatasetSpec) -> tuple[StudySpec, str]:
    """Remove what needs a privileged modality from a study on a dataset that has none.

    `all` then stands for the rows whose teachers read what the student reads, a hallucinating student loses
    its branch, and references read the primary modalities. Variants that are named stay as they are.

    Returns:
        The study, and one line on what was changed; empty where nothing was.
    """
    if dataset.channels("privileged"):
        return spec, ""
    possible = [
        name
        for name in FACTORIAL
        if all(ref.inputs in ("student", "primary") for ref in variants.get(name).teachers.values())
    ]
    names = [x for name in spec.variants for x in (possible if name == ALL else [name])]
    changed = spec.model_copy(
        update={
            "student": without_branch(spec.student) or spec.student,
            "variants": tuple(dict.fromkeys(names)),
            "references": tuple(dict.fromkeys(filter(None, map(_primary, spec.references)))),
        }
    )
    if changed == spec:
        return spec, ""
    rows = ", ".join(changed.variants)
    return changed, f"no privileged modality in '{dataset.name}': student {changed.student}, rows {rows}"


def _primary(name: str) -> str:
    """Return the counterpart of a reference that reads primary modalities; empty where there is none."""
    model = get_model(name)
    if model.inputs == "privileged":
        return ""
    other = model_name(
        model.structure, "primary", temporal_attention=model.temporal_attention, size=model.size
    )
    return other if other in model_names() else name


def without_branch(student: str) -> str | None:
    """Return the student's counterpart without hallucination or branches, or None.

    An untrained branch can cost several points, which distillation must not be credited for.
    """
    model = get_model(student)
    name = model_name(
        model.structure, "primary", temporal_attention=model.temporal_attention, size=model.size
    )
    return name if model.inputs in ("hallucinated", "decomposed") and name in students else None
