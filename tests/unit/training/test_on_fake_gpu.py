"""A training step and predictions on fake CUDA tensors: every structure, every term, every precision."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fake_gpu import GpuRules, RuleError, fake_gpu
from nondeterministic import OPERATIONS, WITHOUT_ALGORITHM, documented
from study_parts import run_specs
from test_contracts import DATASET, K, narrow
from test_term_structures import refusal
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tal_bench.config import DetectorSpec, DistillSpec, Precision, TeacherUse, TermUse, TrainSpec
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.terms.registry import terms
from tal_bench.distill.variants import variants
from tal_bench.errors import InputError
from tal_bench.models.registry import get_model
from tal_bench.models.structures import structures
from tal_bench.system.arithmetic.determinism import VARIABLE
from tal_bench.training import step as step_module
from tal_bench.training.device import Device
from tal_bench.training.step import TrainingStep
from tal_bench.types import Batch

PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
SLOW = pytest.mark.skipif("TAL_BENCH_SLOW" not in os.environ, reason="TAL_BENCH_SLOW is not set")
HOST_RANDOM = "mgd"
"""Term that draws random numbers on the host in every step, whose steps are therefore not recorded."""
NARROW = 16
"""Width of the networks of `narrow`."""
LEVELS, T, LENGTHS = 3, 32, (32, 19)
"""A first, a middle and a last level; the last one is as short as that of `narrow` on six levels."""
SCHEDULE = TrainSpec(iou_power=0.2, regression_weight="balanced", input_noise=0.1, label_smoothing=0.1)
"""A schedule with every optional part of the loss."""


def shallow(name: str) -> DetectorSpec:
    """Return a registered architecture, a few channels wide, with three levels."""
    spec = narrow(name)
    fewer = {
        "branch_blocks": spec.branch_blocks - spec.levels + LEVELS,
        "regression_ranges": (*spec.regression_ranges[: LEVELS - 1], spec.regression_ranges[-1]),
        "max_length": T,
    }
    return DetectorSpec.model_validate(spec.model_dump() | fewer)


def batch() -> Batch:
    """Return two labelled videos, one of them padded."""
    mask = torch.arange(T) < torch.tensor(LENGTHS)[:, None]
    features = {name: torch.ones(2, m.channels, T) for name, m in DATASET.modalities.items()}
    segments = torch.tensor([[[3.0, 9.0], [10.0, 30.0]], [[4.0, 8.0], [10.0, 17.0]]])
    return Batch(features, mask, segments, torch.tensor([[0, 2], [1, 0]]), [])


def new_step(
    student: str,
    precision: Precision,
    teachers: dict[str, str],
    uses: tuple[TermUse, ...],
    spec: TrainSpec,
    *,
    width: int = NARROW,
    deterministic: bool = False,
) -> TrainingStep:
    """Return the training step of a student of a width on the fake GPU, with teachers by role."""
    own = shallow(student).model_copy(update={"width": width, "head_width": width})
    architectures = {role: shallow(name) for role, name in teachers.items()}
    objective = None
    if uses:
        given = {role: TeacherUse(run="0", model=name) for role, name in teachers.items()}
        distill = DistillSpec(teachers=given, terms=uses)
        objective = DistillationObjective(distill, own, architectures)
    return TrainingStep(
        get_model(student).build(own),
        own,
        spec,
        steps_per_epoch=10,
        device=Device("cuda", precision, deterministic=deterministic),
        teachers={role: get_model(name).build(architectures[role]) for role, name in teachers.items()},
        objective=objective,
    )


def checked_update(
    student: str,
    precision: Precision,
    teachers: dict[str, str] | None = None,
    uses: tuple[TermUse, ...] = (),
    spec: TrainSpec = SCHEDULE,
    width: int = NARROW,
) -> GpuRules:
    """Make two steps on the fake GPU, and check both: the first also makes what is kept between steps."""
    with fake_gpu():
        step = new_step(student, precision, teachers or {}, uses, spec, width=width)
        given = Device("cuda").move(batch())
        with GpuRules(precision, first=True):
            step(given)
        step.set_rate()
        with GpuRules(precision) as rules:
            losses = step.update(given, step.teachers(given))
        assert all(value.device.type == "cuda" for value in losses.values())
        assert len(losses) >= 4 + len(uses)
    return rules


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("structure", structures)
def test_a_step_on_labels(structure: str, precision: Precision) -> None:
    rules = checked_update(f"{structure}-hallucinated", precision)
    names = " ".join(rules.operations)
    assert sum(rules.operations.values()) > 300
    for part in ("convolution_backward", "_fused_adamw_", "_foreach_lerp_", "native_layer_norm"):
        assert part in names, "forward, backward, optimizer and average are all seen"


@pytest.mark.parametrize("student", structures)
def test_a_step_with_every_term(student: str) -> None:
    """All terms at once, of one teacher of another structure or, for those of trident heads, of the same."""
    names = list(structures)
    precision = PRECISIONS[names.index(student) % len(PRECISIONS)]
    teacher = student if student == "tridet" else names[names.index(student) - 1]
    uses = tuple(
        TermUse(name=name, teacher="t", weight=1.0)
        for name in terms
        if refusal(name, f"{student}-hallucinated", teacher) is None and name != HOST_RANDOM
    )
    assert len(uses) > 15
    checked_update(f"{student}-hallucinated", precision, {"t": teacher}, uses)


class DeterministicMode(TorchDispatchMode):
    """Notes the operations for which PyTorch demands deterministic algorithms, and the others."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[int, bool], list[str]] = defaultdict(list)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        mode = torch.get_deterministic_debug_mode(), torch.backends.cudnn.deterministic
        self.seen[mode].append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("deterministic", [False, True])
def test_all_operations_of_a_step_are_deterministic_if_wanted(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    uses = (TermUse(name="stem", teacher="t", weight=1.0),)
    with fake_gpu():
        step = new_step(
            "conv-dw-hallucinated", "bf16", {"t": "conv"}, uses, SCHEDULE, deterministic=deterministic
        )
        given = Device("cuda").move(batch())
        step(given)
        with DeterministicMode() as mode:
            step.update(given, step.teachers(given))
    inside, outside = (mode.seen[one] for one in ((2, True), (0, False)))
    if not deterministic:
        assert not inside
        return
    assert len(inside) > 300 and any("_fused_adamw_" in name for name in inside)
    assert set(outside) <= {"aten::detach"}, "of the losses that are returned"
    assert torch.get_deterministic_debug_mode() == 0, "other code of the process keeps its own"
    assert (VARIABLE in os.environ) == deterministic


def test_every_operation_that_pytorch_cannot_repeat_is_known() -> None:
    assert len(documented()) > 15
    assert not documented() - WITHOUT_ALGORITHM.keys()
    known = {name.partition("::")[2].partition(".")[0] for name in torch._C._dispatch_get_all_op_names()}
    assert not OPERATIONS - known


def taught(student: str, variant: str, precision: Precision, width: int = NARROW) -> None:
    """Check the step of a variant, with its own teachers."""
    chosen = variants.get(variant)
    specs = run_specs(classes=K)
    roles = {role: specs.teacher_of(ref, student, "actionformer") for role, ref in chosen.teachers.items()}
    checked_update(student, precision, roles, chosen.terms, width=width)


def test_a_step_with_two_teachers() -> None:
    taught("conv-dw-hallucinated", "both", "tf32")


def test_a_step_of_a_student_that_is_wider_than_its_teachers() -> None:
    """Projections follow their weights in precision, for features that autocast has left in bf16."""
    taught("conv-dw-hallucinated", "both", "bf16", width=2 * NARROW)


@SLOW
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", variants)
@pytest.mark.parametrize("structure", structures)
def test_every_variant(structure: str, variant: str, precision: Precision) -> None:
    student = f"{structure}-hallucinated"
    chosen = variants.get(variant)
    if any(use.name == HOST_RANDOM for use in chosen.terms):
        pytest.skip(f"{HOST_RANDOM} draws random numbers on the host, so its steps are not recorded")
    specs = run_specs(classes=K)
    try:
        roles = {r: specs.teacher_of(ref, student, "actionformer") for r, ref in chosen.teachers.items()}
        specs.check_teachers(chosen, student, roles)
    except InputError as error:
        pytest.skip(str(error))
    taught(student, variant, precision)


@pytest.mark.parametrize("structure", structures)
def test_a_prediction(structure: str, precision: Precision = "bf16") -> None:
    """The forward pass of a network prepared for inference, as teachers and predictions use it."""
    with fake_gpu():
        device = Device("cuda", precision)
        net = device.prepare_for_inference(get_model(structure).build(shallow(structure)))
        given = device.move(batch())
        with torch.no_grad(), device.autocast():
            net(given)
            with GpuRules(precision):
                output = net(given)
        found = [*output.logits, *output.offsets]
        assert {(x.device.type, x.dtype) for x in found} == {("cuda", torch.float32)}


def add_a_host_tensor(loss: Tensor) -> Tensor:
    return loss + torch.ones(1)


def read_a_value(loss: Tensor) -> Tensor:
    return loss * float(loss.detach())


def copy_to_the_host(loss: Tensor) -> Tensor:
    return loss.cpu().cuda()


def select_by_a_mask(loss: Tensor) -> Tensor:
    values = torch.stack([loss, loss])
    return values[values > 0].sum()


def add_up_in_parts(loss: Tensor) -> Tensor:
    return loss + torch.stack([loss, loss]).cumsum(0)[1]


def interpolate(loss: Tensor) -> Tensor:
    return loss + F.interpolate(torch.stack([loss, loss])[None, None], scale_factor=2, mode="linear").sum()


def count_without_a_kernel(loss: Tensor) -> Tensor:
    return loss + torch.histogram(loss.detach().expand(4), 2)[0].sum()


def multiply_two_dtypes(loss: Tensor) -> Tensor:
    return loss + (loss.bfloat16().expand(4, 4) @ torch.ones(4, 4, device="cuda")).sum()


def multiply_in_half(loss: Tensor) -> Tensor:
    return loss + (loss.bfloat16().expand(4, 4) @ torch.ones(4, 4, device="cuda", dtype=torch.bfloat16)).sum()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (add_a_host_tensor, r"aten::add\.Tensor has operands on cpu and cuda"),
        (read_a_value, "aten::_local_scalar_dense reads a value on the host"),
        (copy_to_the_host, "aten::_to_copy copies to the host"),
        (select_by_a_mask, r"aten::index\.Tensor with a mask has a shape that depends on values"),
        (add_up_in_parts, "aten::cumsum has no deterministic algorithm"),
        (interpolate, r"aten::upsample_linear1d_backward\S* has no deterministic algorithm"),
        pytest.param(
            count_without_a_kernel,
            r"aten::histogram\.bin_ct has no kernel for CUDA",
            marks=pytest.mark.skipif(torch.version.cuda is None, reason="needs PyTorch with CUDA kernels"),
        ),
        (multiply_two_dtypes, r"aten::mm has operands of torch\.bfloat16 and torch\.float32"),
        (multiply_in_half, r"aten::mm computes in torch\.bfloat16, not in fp32"),
    ],
)
def test_faults_in_a_loss_are_found(
    fault: Callable[[Tensor], Tensor], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules see what a step does: the same step passes above without the fault."""
    correct = step_module._losses

    def losses(*args: Any) -> Any:
        found, normalizer = correct(*args)
        return {**found, "total": fault(found["total"])}, normalizer

    monkeypatch.setattr(step_module, "_losses", losses)
    with pytest.raises(RuleError, match=message):
        checked_update("conv", "fp32")


def test_other_faults_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu(), pytest.raises(RuleError, match="copies from the host within a step"), GpuRules("fp32"):
        torch.ones(2).to("cuda")
    with fake_gpu(), pytest.raises(RuleError, match="has no kernel for CUDA"), GpuRules("fp32"):
        torch.ops.mkldnn._linear_pointwise(torch.ones(2, 2), torch.ones(2, 2), None, "none", [], "none")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    x = torch.ones(2, 2)
    with pytest.raises(RuleError, match=r"TF32 set to \(False, True\)"), GpuRules("fp32"):
        x @ x
