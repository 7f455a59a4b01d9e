"""What distillation terms cost in a training step at the published size, given the teacher's outputs.

    python tests/benchmarks/term_costs.py [ROUNDS [TERM ...]]

prints for every term, or those named, the time of a step with it relative to the step on labels alone: the
median over rounds in which both are timed alternately (B 2, T 2304, networks of width 512). Parameters are
those of the term itself, which are trained with the student and then dropped.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import torch
from published import BATCH, THREADS, batch, network, training_step
from term_weights import PAIRS

from tal_bench.config import DistillSpec, TeacherUse, TermUse, TrainSpec
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.terms.registry import OFFERED_BY, terms
from tal_bench.profiling.latency import measure_latency
from tal_bench.training.device import Device
from tal_bench.training.step import TrainingStep
from tal_bench.training.teachers import Teachers

ROUNDS = 5


def pair_of(names: tuple[str, ...]) -> tuple[str, str]:
    """Return a teacher and a student that offer what the terms read."""
    needed = {feature for name in names for feature in terms.get(name).reads} & OFFERED_BY.keys()
    return next(pair for offered, pair in PAIRS.items() if needed <= {*offered})


def steps(names: tuple[str, ...]) -> tuple[Callable[[], object], Callable[[], object], int]:
    """Return a training step with the terms, the step of the same student without, and their parameters.

    The teacher's outputs, including the features that the terms read, are computed before.
    """
    device, videos = Device("cpu"), batch(BATCH)
    teacher_name, student_name = pair_of(names)
    teacher_spec, teacher = network(teacher_name)
    spec, student = network(student_name)
    uses = tuple(TermUse(name=name, teacher="teacher", weight=terms.get(name).weight) for name in names)
    distill = DistillSpec(teachers={"teacher": TeacherUse(run="0", model=teacher_name)}, terms=uses)
    objective = DistillationObjective(distill, spec, {"teacher": teacher_spec})
    answers = Teachers({"teacher": teacher}, device, objective.keep)(videos)
    for output in answers.values():  # computed at their first use
        _ = output.inputs, output.stem, output.logits, output.offsets, output.features
    with_terms = TrainingStep(
        student, spec, TrainSpec(), steps_per_epoch=100, device=device, objective=objective
    )
    alone = training_step(student_name, device)
    own = sum(parameter.numel() for parameter in objective.parameters())
    return lambda: with_terms(videos, answers), lambda: alone(videos), own


def milliseconds(call: Callable[[], object]) -> float:
    """Return the elapsed milliseconds of a call."""
    return measure_latency(call, warmup=0, runs=1).median


def main() -> None:
    """Print the table."""
    torch.set_num_threads(THREADS)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print(f"{'term':26} {'step':>8} {'lowest':>8} {'highest':>8} {'parameters':>11}")
    for name in sys.argv[2:] or terms:
        with_term, alone, own = steps((name,))
        with_term(), alone()
        ratios = [milliseconds(with_term) / milliseconds(alone) for _ in range(rounds)]
        middle = statistics.median(ratios)
        print(f"{name:26} {middle:6.3f} x {min(ratios):6.3f} x {max(ratios):6.3f} x {own:11,}", flush=True)


if __name__ == "__main__":
    main()
