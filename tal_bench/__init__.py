"""Benchmark and ablation suite for two-stream to RGB-only distillation in temporal action localization.

The public interface, documented in docs/api.md. A name is imported on first use, so that `import tal_bench`
imports neither torch nor pandas:

    ablate, dry_run, train_one, score_checkpoint   run a study, show its plan, train or test one model
    load_results, load_study, load_runs, compare   read what studies wrote
    evaluate, detect, load_model                   score files of detections, use a trained model
    students, teachers, variants, terms, datasets, corruptions, executors   registries that plugins add to
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tal_bench.config import (
        Budget,
        DatasetSpec,
        DecodeSpec,
        DetectorSpec,
        DistillSpec,
        ModalitySpec,
        Range,
        RowSpec,
        RunSpec,
        StudySpec,
        TeacherUse,
        TermUse,
        TrainSpec,
    )
    from tal_bench.corruption.registry import Corruption, corruptions
    from tal_bench.data.dataset import Dataset, open_dataset
    from tal_bench.data.registry import DatasetEntry, add_preset, datasets, read_dataset_file
    from tal_bench.distill.randomness import StepRandom
    from tal_bench.distill.terms.reductions import masked_mean
    from tal_bench.distill.terms.registry import Term, terms
    from tal_bench.distill.variants import TeacherRef, Variant, variants
    from tal_bench.errors import DataError, DiskFullError, InputError, TalBenchError
    from tal_bench.evaluation.evaluate import evaluate
    from tal_bench.evaluation.mean_ap import MeanAP, interpolated_ap, thumos_ap
    from tal_bench.evaluation.significance import Interval, contrast, paired_difference
    from tal_bench.execution.registry import ExecutorEntry, WorkerSetup, executors
    from tal_bench.inference.detect import detect
    from tal_bench.models.checkpoint import ModelCard, load_model
    from tal_bench.models.registry import Model, students, teachers
    from tal_bench.models.structures import Structure, structures
    from tal_bench.registry import Registry
    from tal_bench.report.common.figure_declaration import FigureDeclaration
    from tal_bench.report.comparison.collect import compare
    from tal_bench.report.comparison.data import ComparedDataset, ComparedRow, StudyComparison
    from tal_bench.report.comparison.studies import comparable_studies
    from tal_bench.report.comparison.write import write_comparison
    from tal_bench.report.diagnosis.summary import DiagnosisReport, DiagnosisTables
    from tal_bench.report.leaderboard.page import write_leaderboard
    from tal_bench.report.leaderboard.publish import publish
    from tal_bench.report.leaderboard.result import PublishedResult
    from tal_bench.report.loaded import LoadedStudy, load_study
    from tal_bench.report.loaded_report import LoadedReport, load_results
    from tal_bench.report.study.collect import ReportData, Row, collect
    from tal_bench.report.study.columns import COLUMNS, Column
    from tal_bench.report.study.figures import FIGURES
    from tal_bench.report.study.write import write_report
    from tal_bench.results.choice import StudyChoice, StudySelection, choose_study
    from tal_bench.results.columns import COST_COLUMNS, CostColumn
    from tal_bench.results.folder import StudyFolder
    from tal_bench.results.records import (
        CostRecord,
        EpochRecord,
        RowRecord,
        RunResult,
        SearchRecord,
        StudyRecord,
        TrainingCost,
    )
    from tal_bench.studies.ablate import ExecutionOptions, ablate
    from tal_bench.studies.dry_run import PlanSummary, RowSummary, dry_run
    from tal_bench.studies.single_run import score_checkpoint, train_one
    from tal_bench.system.worker_pool import LocalWorkerPool, WorkerPool
    from tal_bench.tracking.dataframe import load_runs
    from tal_bench.types import (
        Batch,
        DetectorOutput,
        Outputs,
        PointLabels,
        Segments,
        StudentOutputs,
        VideoMeta,
    )

# read once by torch: large pages for tensors of 2 MB or more, which saves a tenth of a bf16 training step
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_NAMES = {
    "studies.ablate": "ExecutionOptions ablate",
    "execution.registry": "ExecutorEntry WorkerSetup executors",
    "system.worker_pool": "LocalWorkerPool WorkerPool",
    "studies.dry_run": "PlanSummary RowSummary dry_run",
    "studies.single_run": "score_checkpoint train_one",
    "inference.detect": "detect",
    "models.checkpoint": "ModelCard load_model",
    "tracking.dataframe": "load_runs",
    "report.loaded": "LoadedStudy load_study",
    "report.loaded_report": "LoadedReport load_results",
    "report.comparison.collect": "compare",
    "report.comparison.data": "ComparedDataset ComparedRow StudyComparison",
    "report.comparison.studies": "comparable_studies",
    "report.comparison.write": "write_comparison",
    "report.leaderboard.page": "write_leaderboard",
    "report.leaderboard.publish": "publish",
    "report.leaderboard.result": "PublishedResult",
    "report.study.collect": "ReportData Row collect",
    "report.study.write": "write_report",
    "report.study.columns": "COLUMNS Column",
    "results.choice": "StudyChoice StudySelection choose_study",
    "results.columns": "COST_COLUMNS CostColumn",
    "report.study.figures": "FIGURES",
    "report.common.figure_declaration": "FigureDeclaration",
    "report.diagnosis.summary": "DiagnosisReport DiagnosisTables",
    "results.folder": "StudyFolder",
    "results.records": ("CostRecord EpochRecord RowRecord RunResult SearchRecord StudyRecord TrainingCost"),
    "evaluation.evaluate": "evaluate",
    "evaluation.mean_ap": "MeanAP interpolated_ap thumos_ap",
    "evaluation.significance": "Interval contrast paired_difference",
    "registry": "Registry",
    "distill.variants": "TeacherRef Variant variants",
    "distill.terms.registry": "Term terms",
    "distill.terms.reductions": "masked_mean",
    "distill.randomness": "StepRandom",
    "models.registry": "Model students teachers",
    "models.structures": "Structure structures",
    "data.registry": "DatasetEntry add_preset datasets read_dataset_file",
    "data.dataset": "Dataset open_dataset",
    "corruption.registry": "Corruption corruptions",
    "config": (
        "Budget DatasetSpec DecodeSpec DetectorSpec DistillSpec ModalitySpec Range "
        "RowSpec RunSpec StudySpec TeacherUse TermUse TrainSpec"
    ),
    "types": "Batch DetectorOutput Outputs PointLabels Segments StudentOutputs VideoMeta",
    "errors": "DataError DiskFullError InputError TalBenchError",
}
"""Public names by the module that defines them."""
_MODULES = {name: f"tal_bench.{module}" for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "COLUMNS",
    "COST_COLUMNS",
    "FIGURES",
    "Batch",
    "Budget",
    "Column",
    "ComparedDataset",
    "ComparedRow",
    "Corruption",
    "CostColumn",
    "CostRecord",
    "DataError",
    "Dataset",
    "DatasetEntry",
    "DatasetSpec",
    "DecodeSpec",
    "DetectorOutput",
    "DetectorSpec",
    "DiagnosisReport",
    "DiagnosisTables",
    "DiskFullError",
    "DistillSpec",
    "EpochRecord",
    "ExecutionOptions",
    "ExecutorEntry",
    "FigureDeclaration",
    "InputError",
    "Interval",
    "LoadedReport",
    "LoadedStudy",
    "LocalWorkerPool",
    "MeanAP",
    "ModalitySpec",
    "Model",
    "ModelCard",
    "Outputs",
    "PlanSummary",
    "PointLabels",
    "PublishedResult",
    "Range",
    "Registry",
    "ReportData",
    "Row",
    "RowRecord",
    "RowSpec",
    "RowSummary",
    "RunResult",
    "RunSpec",
    "SearchRecord",
    "Segments",
    "StepRandom",
    "Structure",
    "StudentOutputs",
    "StudyChoice",
    "StudyComparison",
    "StudyFolder",
    "StudyRecord",
    "StudySelection",
    "StudySpec",
    "TalBenchError",
    "TeacherRef",
    "TeacherUse",
    "Term",
    "TermUse",
    "TrainSpec",
    "TrainingCost",
    "Variant",
    "VideoMeta",
    "WorkerPool",
    "WorkerSetup",
    "ablate",
    "add_preset",
    "choose_study",
    "collect",
    "comparable_studies",
    "compare",
    "contrast",
    "corruptions",
    "datasets",
    "detect",
    "dry_run",
    "evaluate",
    "executors",
    "interpolated_ap",
    "load_model",
    "load_results",
    "load_runs",
    "load_study",
    "masked_mean",
    "open_dataset",
    "paired_difference",
    "publish",
    "read_dataset_file",
    "score_checkpoint",
    "structures",
    "students",
    "teachers",
    "terms",
    "thumos_ap",
    "train_one",
    "variants",
    "write_comparison",
    "write_leaderboard",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'tal_bench' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
