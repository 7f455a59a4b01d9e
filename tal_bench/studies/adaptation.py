"""A study as it can be done on a dataset whose students see all there is."""

from __future__ import annotations

from tal_bench.config import DatasetSpec, StudySpec
from tal_bench.distill.variants import variants
from tal_bench.models.registry import get_model, model_name, model_names
from tal_bench.studies.rows import ALL, FACTORIAL, without_branch


def fitted(spec: StudySpec, dataset: DatasetSpec) -> tuple[StudySpec, str]:
    """Leave out what needs a privileged modality where a dataset has none.

    `all` then stands for the rows whose teachers see what the student sees, a hallucinating student loses
    its branch, and references read the primary modalities. Variants that are named stay as they are.

    Returns:
        The study, and what was changed in one line; empty where nothing was.
    """
    if dataset.channels("privileged"):
        return spec, ""
    possible = [
        name
        for name in FACTORIAL
        if all(ref.inputs in ("student", "primary") for ref in variants.get(name).teachers.values())
    ]
    chosen = [x for name in spec.variants for x in (possible if name == ALL else [name])]
    fitting = spec.model_copy(
        update={
            "student": without_branch(spec.student) or spec.student,
            "variants": tuple(dict.fromkeys(chosen)),
            "references": tuple(dict.fromkeys(filter(None, map(_primary, spec.references)))),
        }
    )
    if fitting == spec:
        return spec, ""
    rows = ", ".join(fitting.variants)
    return fitting, f"no privileged modality in '{dataset.name}': student {fitting.student}, rows {rows}"


def _primary(name: str) -> str:
    """The counterpart of a reference that reads primary modalities; empty where there is none."""
    model = get_model(name)
    if model.inputs == "privileged":
        return ""
    other = model_name(
        model.structure, "primary", temporal_attention=model.temporal_attention, size=model.size
    )
    return other if other in model_names() else name
