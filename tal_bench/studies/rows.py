"""Which rows a study has: its variants, their teachers, and the reference rows beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tal_bench.config import RowSpec, StudySpec, grid_size
from tal_bench.distill.objective import MIX
from tal_bench.distill.variants import Variant, variants
from tal_bench.errors import InputError
from tal_bench.models.registry import get_model, model_name, students, teachers
from tal_bench.models.size_space import short
from tal_bench.registry import did_you_mean
from tal_bench.results.records import RowRecord, SearchRecord
from tal_bench.studies.protocol import StudentRow, member_row, student_row, student_search
from tal_bench.studies.run_specs import Context, check_teachers, labels_row, teacher_model
from tal_bench.studies.scheduler import Plan

BASELINE = "none"
MAIN = "both"
"""The row of a study that names none."""
LARGEST_GRID = 64
"""Points of a grid that are tried without being asked for by number."""
FACTORIAL = ("none", "self", "cross-modal", "cross-structure", "both-single", "both")
"""The rows that `all` stands for."""
ALL = "all"
INPUTS_ORDER = ("all", "privileged", "primary", "hallucinated")
"""Of teacher and reference rows in a table, by what the model reads."""


def chosen_rows(spec: StudySpec) -> list[RowSpec]:
    """The baseline and the named rows, `all` expanded, in the order of the table.

    Variants stand in the order of their declaration, rows that the study declares in theirs, behind them.

    Raises:
        InputError: unknown name.
    """
    own = {row.name: row for row in spec.every_row}
    wanted = {BASELINE} if spec.baseline else set()
    for name in spec.variants or tuple(own) or (MAIN,):
        if name == ALL:
            wanted |= set(own) or set(FACTORIAL)
        else:
            wanted.add(name if name in own else variants.get(name).name)
    plain = [RowSpec(variant=name, name=name) for name in variants if name in wanted and name not in own]
    chosen = [*plain, *(row for name, row in own.items() if name in wanted)]
    return sorted(chosen, key=lambda row: row.name != BASELINE)


def student_rows(spec: StudySpec, context: Context) -> list[StudentRow]:
    """The student rows of a study, each with its own student, teacher, terms and held settings.

    Raises:
        InputError: a row has no such term, teacher or setting.
    """
    rows = []
    for one in chosen_rows(spec):
        where = f"row '{one.name}'"
        variant = variants.get(one.variant)
        terms = {use.name for use in variant.terms}
        for kind, names, known in (
            ("term", one.without, terms),
            ("teacher", one.shares, set(variant.teachers)),
        ):
            for name in names:
                if name not in known:
                    raise InputError(
                        f"variant '{variant.name}' has no {kind} '{name}'",
                        where=where,
                        hint=did_you_mean(name, sorted(known)),
                    )
        if one.shares and not any(one.shares.get(r, t.weight) for r, t in variant.teachers.items()):
            raise InputError("no teacher has a share", where=where, hint="give one of them more than 0")
        changed = replace(
            variant,
            terms=tuple(use for use in variant.terms if use.name not in one.without),
            teachers={
                role: replace(ref, weight=one.shares.get(role, ref.weight))
                for role, ref in variant.teachers.items()
            },
        )
        own = replace(context, student=one.student or context.student, teacher=one.teacher or context.teacher)
        row = StudentRow(one.name, _without_idle_teachers(changed), own, dict(one.settings))
        for name in row.held:
            if name not in row.known:
                hint = did_you_mean(name, sorted(row.known))
                raise InputError(f"unknown setting '{name}'", where=where, hint=hint)
        rows.append(row)
    _check_search(spec, rows)
    return rows


def _without_idle_teachers(variant: Variant) -> Variant:
    """Teachers that no term looks at, or whose share is 0, need not be trained."""
    mixed = any(use.teacher == MIX for use in variant.terms)
    looked_at = {use.teacher for use in variant.terms} | {variant.student_init}
    kept = {
        role: ref for role, ref in variant.teachers.items() if role in looked_at or (mixed and ref.weight > 0)
    }
    return replace(variant, teachers=kept)


def _check_search(spec: StudySpec, rows: Sequence[StudentRow]) -> None:
    known = {name for row in rows for name in row.known}
    for name in spec.search:
        if name not in known:
            hint = did_you_mean(name, sorted(known))
            raise InputError(f"no row has a setting '{name}'", where="search", hint=hint)
    if spec.sampler == "grid" and spec.trials is None:
        for row in rows:
            if (points := grid_size(row.space)) > LARGEST_GRID:
                raise InputError(
                    f"the grid of row '{row.name}' has {points} points",
                    where="search",
                    hint="name fewer values, or say how many are enough with --trials",
                )
    if spec.sampler == "nsga2" and len(spec.objective) == 1:
        raise InputError(
            "nsga2 is for several objectives", where="sampler", hint="use tpe, or --objective map,gmacs"
        )


def check_names(spec: StudySpec) -> None:
    """Refuse unknown names before anything is prepared or written.

    Raises:
        InputError: with a suggestion.
    """
    rows = chosen_rows(spec)
    for student in dict.fromkeys([spec.student, *(row.student for row in rows if row.student)]):
        if student not in students and student in teachers:
            raise InputError(
                f"'{student}' reads privileged modalities",
                where="--student",
                hint="see tal-bench list students",
            )
        students.get(student)
    for row in rows:
        variants.get(row.variant)
        if row.teacher:
            teachers.get(row.teacher)
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
        InputError: a row does not fit its student.
    """
    rows = student_rows(spec, context)
    labelled, taught_by = labelled_rows(spec, context, rows)
    search = student_search if len(spec.objective) > 1 else student_row
    plans = [(row.name, search(row)) for row in sorted(rows, key=lambda row: -len(row.variant.teachers))]
    plans += [(m, labels_row(context, m, m, "teacher" if m in taught_by else "reference")) for m in labelled]
    return [*labelled, *(row.name for row in rows)], plans


def labelled_rows(
    spec: StudySpec, context: Context, rows: Sequence[StudentRow]
) -> tuple[list[str], set[str]]:
    """Models trained on labels (teachers, references, students without their branch), and which teach.

    Raises:
        InputError: a row does not fit its student.
    """
    for row in rows:
        check_teachers(row.variant, row.context)
    taught_by = dict.fromkeys(teacher_model(r, x.context) for x in rows for r in x.variant.teachers.values())
    used = dict.fromkeys([spec.student, *(row.context.student for row in rows)])
    labelled = [m for m in dict.fromkeys([*taught_by, *spec.references]) if m not in used]
    plain = [without_branch(student) for student in used] if spec.baseline else []
    labelled += [m for m in dict.fromkeys(filter(None, plain)) if m not in labelled and m not in used]
    labelled.sort(key=lambda m: (m not in taught_by, INPUTS_ORDER.index(context.model(m).inputs)))
    return labelled, set(taught_by)


def plan_members(
    spec: StudySpec, context: Context, found: Mapping[str, RowRecord]
) -> tuple[dict[str, list[str]], list[tuple[str, Plan]]]:
    """Rows of the members of the fronts that were found: their names by search, and their plans."""
    names: dict[str, list[str]] = {}
    plans: list[tuple[str, Plan]] = []
    for row in student_rows(spec, context):
        search = found.get(row.name)
        if isinstance(search, SearchRecord):
            by_hash = dict(zip(search.trials, search.tried, strict=True))
            for hash_ in search.front:
                size = short(by_hash[hash_])
                name = f"{row.name} {size}" if size else row.name
                if name in names.get(row.name, []):
                    name = f"{name} {hash_[:4]}"
                names.setdefault(row.name, []).append(name)
                plans.append((name, member_row(replace(row, name=name), by_hash[hash_], hash_)))
    return names, plans


def expected_runs(spec: StudySpec, context: Context) -> int:
    """Number of results that its plans will get, shared ones counted in each, for the progress bar."""
    budget = context.budget
    rows = student_rows(spec, context)
    labelled, _ = labelled_rows(spec, context, rows)
    searches = len(budget.teacher_lr)
    finals = 0 if len(spec.objective) > 1 else budget.seeds

    def taught(row: StudentRow) -> int:
        models = {teacher_model(ref, row.context) for ref in row.variant.teachers.values()}
        tuned = 1 if row.trials else 0
        final = 0 if not finals else budget.seeds if budget.paired_teachers else 1
        each = max(searches, tuned) + final
        return sum(max(tuned, min(final, 1)) if context.is_imported(model) else each for model in models)

    return sum(row.trials + finals + taught(row) for row in rows) + sum(
        1 if context.is_imported(model) else searches + budget.seeds for model in labelled
    )
