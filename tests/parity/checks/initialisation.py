"""Weights that a student copies from a teacher at initialisation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tal_bench.converters.original_keys import from_original
from tal_bench.converters.original_shapes import detector_spec_from_shapes
from tal_bench.models.detector import Detector
from tal_bench.training.train import initialise_from

from ..fixtures import Fixture
from . import Compared, Kind, has
from .arrays import equal

STUDENTS = {"step1_rgb": "rgb_conv", "step3_multi": "rgb_conv_dw"}
KEYS = "keys_if_ckpt_state_dict_is_"
Shapes = dict[str, list[int]]


def check(fixture: Fixture) -> Iterator[Compared]:
    """Build every network from its shapes, then initialise each student from each teacher."""
    every: dict[str, Shapes] = fixture.meta["state_dict_shapes"]
    for name, shapes in every.items():
        ours = {key: list(x.shape) for key, x in _detector(shapes, 0.0).state_dict().items()}
        theirs = {key: list(x.shape) for key, x in from_original(_filled(shapes, 0.0)).items()}
        yield equal(f"{name}: weights", ours == theirs, True)
    for step, facts in fixture.meta.items():
        for key, copied in facts.items() if isinstance(facts, dict) else ():
            if key.startswith(KEYS):
                assert step in STUDENTS, f"{fixture.id}: the student of {step} is not known"
                student, teacher = STUDENTS[step], key.removeprefix(KEYS)
                yield from _copy(f"{student} from {teacher}", every[student], every[teacher], copied)


def _copy(what: str, student: Shapes, teacher: Shapes, copied: list[str]) -> Iterator[Compared]:
    """Compare the copied names, and check that exactly these weights changed."""
    copy, source = _detector(student, 1.0), _detector(teacher, 2.0)
    names = initialise_from(copy, source)
    theirs = set(from_original({key: torch.empty(1) for key in copied}))
    yield equal(f"{what}: copied", sorted(set(names) ^ theirs), [])
    changed = {name for name, x in copy.state_dict().items() if bool((x == 2.0).all())}
    yield equal(f"{what}: changed", sorted(changed ^ theirs), [])


def _detector(shapes: Shapes, value: float) -> Detector:
    detector = Detector(detector_spec_from_shapes({name: tuple(s) for name, s in shapes.items()}))
    detector.load_state_dict(from_original(_filled(shapes, value)))
    return detector


def _filled(shapes: Shapes, value: float) -> dict[str, Tensor]:
    return {name: torch.full(shape, value) for name, shape in shapes.items()}


KIND: Kind = Kind("initialisation", has("state_dict_shapes"), check)
