"""Specifications of datasets, detectors, runs and studies, and their YAML form.

Every spec is frozen and rejects unknown keys. A spec determines what it describes completely: two runs with
equal `RunSpec.hash` are the same experiment.
"""

from tal_bench.config.base import (
    Count,
    Fraction,
    Inputs,
    OddCount,
    Positive,
    Size,
    Spec,
    Window,
    brief,
    content_hash,
    parse_spec,
    read_yaml,
    without_later_fields,
)
from tal_bench.config.dataset import DatasetSpec, ModalitySpec
from tal_bench.config.detector import DetectorSpec
from tal_bench.config.run import (
    DistillSpec,
    Phase,
    Precision,
    Pruner,
    Range,
    RunSpec,
    Search,
    TeacherUse,
    TermUse,
    choices,
    grid_size,
    hashed_fields,
)
from tal_bench.config.study import (
    BUDGETS,
    Budget,
    Objective,
    RowSpec,
    Sampler,
    Settings,
    StudySpec,
    weights_path,
)
from tal_bench.config.training import DecodeSpec, TrainSpec

__all__ = [
    "BUDGETS",
    "Budget",
    "Count",
    "DatasetSpec",
    "DecodeSpec",
    "DetectorSpec",
    "DistillSpec",
    "Fraction",
    "Inputs",
    "ModalitySpec",
    "Objective",
    "OddCount",
    "Phase",
    "Positive",
    "Precision",
    "Pruner",
    "Range",
    "RowSpec",
    "RunSpec",
    "Sampler",
    "Search",
    "Settings",
    "Size",
    "Spec",
    "StudySpec",
    "TeacherUse",
    "TermUse",
    "TrainSpec",
    "Window",
    "brief",
    "choices",
    "content_hash",
    "grid_size",
    "hashed_fields",
    "parse_spec",
    "read_yaml",
    "weights_path",
    "without_later_fields",
]
