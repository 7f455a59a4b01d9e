"""Which rows a study has: its variants, their teachers, and the reference rows beside them."""

from __future__ import annotations

from collections.abc import Sequence

from tal_bench.config import StudySpec
from tal_bench.distill.variants import Variant, variants
from tal_bench.errors import InputError
from tal_bench.models.registry import get_model, model_name, students, teachers
from tal_bench.studies.drive import Plan
from tal_bench.studies.plan import Context, check_teachers, labels_row, student_row, teacher_model

BASELINE = "none"
FACTORIAL = ("none", "self", "cross-modal", "cross-structure", "both-single", "both")
"""The rows that `all` stands for."""
ALL = "all"
INPUTS_ORDER = ("all", "privileged", "primary", "hallucinated")
"""Of teacher and reference rows in a table, by what the model reads."""


def chosen_variants(names: Sequence[str]) -> list[Variant]:
    """The baseline and the named variants, `all` expanded, in the order of their declaration.

    Raises:
        InputError: unknown name.
    """
    wanted = {BASELINE}
    for name in names:
        wanted |= set(FACTORIAL) if name == ALL else {variants.get(name).name}
    return [variants.get(name) for name in variants if name in wanted]


def check_names(spec: StudySpec) -> None:
    """Refuse unknown names before anything is prepared or written.

    Raises:
        InputError: with a suggestion.
    """
    chosen_variants(spec.variants)
    if spec.student not in students and spec.student in teachers:
        raise InputError(
            f"'{spec.student}' reads privileged modalities",
            where="--student",
            hint="see tal-bench list students",
        )
    students.get(spec.student)
    if spec.teacher_file is None:
        get_model(spec.teacher)
    for name in spec.references:
        get_model(name)


def without_branch(student: str) -> str | None:
    """The student's counterpart without hallucination, or none.

    An untrained branch can cost several points, which distillation must not be credited for.
    """
    model = get_model(student)
    name = model_name(
        model.structure, "primary", temporal_attention=model.temporal_attention, size=model.size
    )
    return name if model.inputs == "hallucinated" and name in students else None


def plan_rows(spec: StudySpec, context: Context) -> tuple[list[str], list[tuple[str, Plan]]]:
    """Names of the rows in the order of the table, and their plans in the order of urgency.

    Raises:
        InputError: a variant does not fit the student.
    """
    chosen = chosen_variants(spec.variants)
    for variant in chosen:
        check_teachers(variant, context)
    taught_by = dict.fromkeys(teacher_model(r, context) for v in chosen for r in v.teachers.values())
    labelled = [m for m in dict.fromkeys([*taught_by, *spec.references]) if m != spec.student]
    plain = without_branch(spec.student)
    if plain is not None and plain not in labelled:
        labelled.append(plain)
    labelled.sort(key=lambda m: (m not in taught_by, INPUTS_ORDER.index(context.model(m).inputs)))
    plans = [(v.name, student_row(context, v)) for v in sorted(chosen, key=lambda v: -len(v.teachers))]
    plans += [(m, labels_row(context, m, m, "teacher" if m in taught_by else "reference")) for m in labelled]
    return [*labelled, *(v.name for v in chosen)], plans


def expected_runs(spec: StudySpec, context: Context) -> int:
    """Number of results that its plans will get, shared ones counted in each, for the progress bar."""
    budget = context.budget
    chosen = chosen_variants(spec.variants)
    names, _ = plan_rows(spec, context)
    searches = len(budget.teacher_lr)
    teacher = max(searches, 1) + (budget.seeds if budget.paired_teachers else 1)

    def taught(variant: Variant) -> int:
        models = {teacher_model(ref, context) for ref in variant.teachers.values()}
        return sum(1 if context.is_brought(model) else teacher for model in models)

    labelled = names[: len(names) - len(chosen)]
    return sum(budget.trials + budget.seeds + taught(variant) for variant in chosen) + sum(
        1 if context.is_brought(model) else searches + budget.seeds for model in labelled
    )
