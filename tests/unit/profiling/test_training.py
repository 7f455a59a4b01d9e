"""Cost of a training step: what is dropped, what is held, and which rows share a measurement."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import FAST, tiny_spec

from tal_bench.config import DistillSpec, RunSpec, TeacherUse, TermUse
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.profiling.training import profile_training, training_key
from tal_bench.training.device import Device
from tal_bench.types import Batch

STUDENT, TEACHER = "conv-dw-hallucinated", "tridet"


def architecture(name: str, width: int) -> Any:
    spec = detector_spec(get_model(name), tiny_spec(), 3)
    return spec.model_copy(update={"width": width, "head_width": width})


def run_spec(*terms: str, weight: float = 1.0) -> RunSpec:
    distill = DistillSpec(
        teachers={"modal": TeacherUse(run="0", model=TEACHER)},
        terms=tuple(TermUse(name=name, teacher="modal", weight=weight) for name in terms),
    )
    return RunSpec(
        dataset=tiny_spec(),
        model=STUDENT,
        detector=architecture(STUDENT, 16),
        train=FAST,
        distill=distill if terms else None,
    )


def teachers(*terms: str) -> dict[str, Any]:
    return {"modal": (get_model(TEACHER), architecture(TEACHER, 32))} if terms else {}


@pytest.mark.parametrize(("terms", "dropped"), [((), 0), (("offsets",), 0), (("stem", "offsets"), 16 * 32)])
def test_the_parameters_of_the_terms_are_counted(
    terms: tuple[str, ...], dropped: int, capfd: pytest.CaptureFixture[str]
) -> None:
    state = torch.get_rng_state()
    cost = profile_training(
        run_spec(*terms), get_model(STUDENT), teachers(*terms), device=Device("cpu"), threads=1
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert cost.dropped_params == dropped
    assert 0 < cost.step_ms["median"] < 60_000
    assert (cost.batch_size, cost.frames) == (2, 64)
    student = sum(p.numel() for p in get_model(STUDENT).build(architecture(STUDENT, 16)).parameters())
    held = 4 * 4 * student  # weights, average, two moments
    if terms:
        held += 4 * sum(p.numel() for p in get_model(TEACHER).build(architecture(TEACHER, 32)).parameters())
    assert held < 1e6 * cost.peak_memory_mb < 40 * held
    assert not capfd.readouterr().err


def test_rows_with_the_same_work_share_a_measurement() -> None:
    def key(*terms: str, weight: float = 1.0, device: Any = None) -> str:
        spec = run_spec(*terms, weight=weight)
        return training_key(spec, teachers(*terms), device=device or Device("cpu"), threads=1)

    assert key("stem") == key("stem", weight=3.0)
    assert len({key(), key("stem"), key("offsets"), key("stem", device=Device("cpu", "bf16"))}) == 4


def test_measured_batches_are_pinned_as_those_of_a_training() -> None:
    class Pinning(Device):
        pinned = 0

        def pin(self, batch: Batch) -> Batch:
            self.pinned += 1
            return super().pin(batch)

    device = Pinning("cpu")
    profile_training(run_spec(), get_model(STUDENT), {}, device=device, threads=1)
    assert device.pinned == 1
