"""Every term with every pair of structures: it trains, or the plan of a study refuses it in one line."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from study_parts import run_specs
from test_contracts import K, batch, build, narrow

from tal_bench.config import DistillSpec, TeacherUse, TermUse
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.terms.registry import BRANCHES, TRIDENT_SCORES, terms
from tal_bench.distill.variants import TeacherRef, Variant
from tal_bench.errors import InputError
from tal_bench.models.structures import structures
from tal_bench.models.targets import assign, point_labels, pyramid_points
from tal_bench.training.device import Device
from tal_bench.training.teachers import Teachers

TRIDENT = ("tridet",)
PAIRS = [(f"{student}-hallucinated", teacher) for student in structures for teacher in structures]
BRANCHED = [
    (f"{student}-decomposed", f"{teacher}-privileged")
    for student, teacher in zip(structures, [*structures][::-1], strict=True)
]
"""Students with branches, which terms that compare inputs refuse."""


def refusal(term: str, student: str, teacher: str) -> str | None:
    """Return why the plan of a study refuses a term for two models, None if it accepts it."""
    use = TermUse(name=term, teacher="both", weight=1.0)
    variant = Variant("one", "", teachers={"both": TeacherRef(teacher, "all")}, terms=(use,))
    try:
        run_specs().check_teachers(variant, student, {"both": teacher})
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("student", "teacher"), [*PAIRS, *BRANCHED])
def test_terms_train_or_are_refused(student: str, teacher: str) -> None:
    refused = {name: line for name in terms if (line := refusal(name, student, teacher))}
    both = all(name.partition("-")[0] in TRIDENT for name in (student, teacher))
    missing = set() if both else {*TRIDENT_SCORES}
    missing |= {"inputs"} if student.endswith("-decomposed") else {*BRANCHES}
    assert list(refused) == [name for name in terms if set(terms.get(name).reads) & missing]
    assert all("\n" not in line and name in line for name, line in refused.items())

    accepted = [name for name in terms if name not in refused]
    spec = DistillSpec(
        teachers={"both": TeacherUse(run="0", model=teacher)},
        terms=tuple(TermUse(name=name, teacher="both", weight=1.0) for name in accepted),
    )
    architecture, net = narrow(student), build(student).eval()
    objective = DistillationObjective(spec, architecture, {"both": narrow(teacher)})
    given = batch()
    output = net(given, objective.keep)
    points = pyramid_points(architecture, [x.shape[1] for x in output.logits])
    targets = assign(points, given.segments, given.labels, K, 1.5)
    output = replace(output, labels=point_labels(targets, output.mask, given))
    outputs = Teachers({"both": build(teacher, seed=1)}, Device("cpu"), objective.keep)(given)
    parameters = list(net.parameters())
    for name, value in objective(output, outputs).parts.items():
        assert bool(value.isfinite()), name
        found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        assert all(bool(g.isfinite().all()) for g in found if g is not None), name
        assert any(bool(g.any()) for g in found if g is not None), name


@pytest.mark.parametrize("name", terms)
def test_terms_that_need_several_classes_are_refused_for_one(name: str) -> None:
    least = terms.get(name).least_classes
    specs = replace(run_specs(), classes=1)
    use = TermUse(name=name, teacher="both", weight=1.0)
    variant = Variant("one", "", teachers={"both": TeacherRef("tridet", "all")}, terms=(use,))
    student = f"tridet-{'decomposed' if {*BRANCHES} & {*terms.get(name).reads} else 'hallucinated'}"
    if least == 1:
        specs.check_teachers(variant, student, {"both": "tridet"})
        return
    with pytest.raises(InputError, match=f"'{name}'.* needs {least} classes, and the dataset has 1"):
        specs.check_teachers(variant, student, {"both": "tridet"})
