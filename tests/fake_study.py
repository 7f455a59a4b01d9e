"""Generate a small study folder with plausible numbers, for tests that read results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from tal_bench.config import (
    DatasetSpec,
    DetectorSpec,
    DistillSpec,
    ModalitySpec,
    RunSpec,
    StudySpec,
    TeacherUse,
    TermUse,
    TrainSpec,
)
from tal_bench.evaluation.mean_ap import interpolated_ap
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import CostRecord, EpochRecord, RowRecord, RunResult, StudyRecord
from tal_bench.system.files import write_atomically

CLASSES = ("circle", "square", "triangle")
TIOU = (0.3, 0.4, 0.5, 0.6, 0.7)
ENVIRONMENT = {
    "commit": "0123abc",
    "python": "3.11.9",
    "torch": "2.8.0",
    "hardware": "Fake CPU",
    "threads": "1",
}
DATASET = DatasetSpec(
    name="sprites",
    annotations=Path("annotations.json"),
    modalities={
        "RGB": ModalitySpec(role="primary", folder=Path("rgb"), channels=16),
        "flow": ModalitySpec(role="privileged", folder=Path("flow"), channels=16),
    },
    stride=4,
    window=8,
    max_length=64,
    size="small",
    fingerprint="f" * 16,
)


@dataclass(frozen=True)
class Row:
    """A row of the fake study; `jitter` is the error of the detections as a share of their length."""

    name: str
    kind: str
    model: str
    modalities: str
    jitter: float
    teachers: tuple[tuple[str, str], ...] = ()


STUDENT = "conv-dw-hallucinated"
ROWS = (
    Row("actionformer", "teacher", "actionformer", "RGB + flow", 0.09),
    Row("conv", "teacher", "conv", "RGB + flow", 0.10),
    Row("actionformer-primary", "teacher", "actionformer-primary", "RGB", 0.17),
    Row("conv-dw-primary", "reference", "conv-dw-primary", "RGB", 0.20),
    Row("none", "student", STUDENT, "RGB", 0.22),
    Row("self", "student", STUDENT, "RGB", 0.21, (("modal", "conv-dw-primary"),)),
    Row("cross-modal", "student", STUDENT, "RGB", 0.15, (("modal", "conv"),)),
    Row("cross-structure", "student", STUDENT, "RGB", 0.19, (("structure", "actionformer-primary"),)),
    Row("both-single", "student", STUDENT, "RGB", 0.14, (("modal", "actionformer"),)),
    Row("both", "student", STUDENT, "RGB", 0.13, (("modal", "actionformer"), ("structure", "conv"))),
)


def write_fake_study(
    folder: Path,
    *,
    name: str = "fake",
    seeds: int = 3,
    videos: int = 8,
    trials: int = 2,
    finished: bool = True,
    day: int = 31,
    failing: tuple[str, ...] = (),
    costs: bool = True,
    video_costs: bool = True,
    rows: tuple[Row, ...] = ROWS,
    budget: Literal["smoke", "quick", "full"] = "quick",
) -> StudyRecord:
    """Write a study in the format of `tal_bench.studies`.

    Args:
        folder: Folder of the study; created if missing.
        name: Name of the study.
        seeds: Number of final runs per row.
        videos: Number of test videos.
        trials: Number of tuning runs per student row; the last one is pruned if there are several.
        finished: Whether the study has ended.
        day: Day of January on which it ended.
        failing: Names of rows whose last seed failed.
        costs: Whether costs were measured.
        video_costs: Whether costs per minute of video were measured.
        rows: Rows of the study.
        budget: Budget in the specification of the study.
    """
    files = StudyFolder(folder)
    truth = _ground_truth(videos)
    write_atomically(folder / "ground_truth.json", json.dumps({"database": truth}))
    records = []
    for index, row in enumerate(rows):
        finals = []
        for seed in range(seeds):
            spec = _spec(row, "final", seed)
            random = np.random.default_rng([index, seed])
            if row.name in failing and seed == seeds - 1:
                files.write_run(
                    RunResult(
                        hash=spec.hash,
                        spec=spec,
                        status="failed",
                        environment=ENVIRONMENT,
                        error="loss is not finite at step 17",
                    )
                )
            else:
                detections = _detections(truth, row.jitter * random.uniform(0.9, 1.1), random)
                write_atomically(
                    files.run_file(spec.hash, ".detections.json"), json.dumps({"results": detections})
                )
                files.write_run(_result(spec, row, random, _score(truth, detections)))
            finals.append(spec.hash)
        tuned = [_trial(files, row, number, trials) for number in range(trials * (row.kind == "student"))]
        cost = _cost(row, video_costs)
        if costs:
            files.write_cost(cost)
        records.append(
            RowRecord(
                name=row.name,
                kind=row.kind,  # type: ignore[arg-type]
                model=row.model,
                modalities=row.modalities,
                teachers=dict(row.teachers),
                settings={"lr": 1e-3} if row.kind == "student" else {},
                trials=tuple(tuned),
                chosen=tuned[0] if tuned else "",
                training_gmacs=2.0 + len(row.teachers) if costs else None,
                finals=tuple(finals),
                seeds=tuple(range(seeds)),
                cost=cost.key if costs else "",
            )
        )
    record = StudyRecord(
        spec=StudySpec(name=name, variants=("both",), budget=budget, trials=max(trials, 1), seeds=seeds),
        command=f"tal-bench ablate {name} --budget {budget}",
        dataset=DATASET.name,
        fingerprint=DATASET.fingerprint,
        classes=CLASSES,
        test_videos=videos,
        tiou=TIOU,
        evaluation="ActivityNet-style AP, tIoU 0.3:0.7",
        finished=f"2026-01-{day:02}T12:00:00+00:00" if finished else None,
        rows=tuple(records),
    )
    files.write_study(record)
    return record


def _spec(row: Row, phase: str, seed: int, lr: float = 1e-3) -> RunSpec:
    structure = "actionformer" if row.model.startswith("actionformer") else "conv-dw"
    inputs = "hallucinated" if row.model == STUDENT else "primary" if "primary" in row.model else "all"
    distill = None
    if row.teachers:
        distill = DistillSpec(
            teachers={role: TeacherUse(run="0" * 16, model=model) for role, model in row.teachers},
            terms=(TermUse(name=f"logits-{row.name}", teacher=row.teachers[0][0], weight=0.5),),
        )
    detector = DetectorSpec(
        structure=structure,
        inputs=inputs,  # type: ignore[arg-type]
        primary={"RGB": 16},
        privileged={"flow": 16},
        classes=len(CLASSES),
        max_length=64,
        width=32,
        head_width=32,
        temporal_attention=row.name == "conv",
    )
    return RunSpec(
        dataset=DATASET,
        model=row.model,
        detector=detector,
        train=TrainSpec(epochs=10, warmup_epochs=2, lr=lr),
        distill=distill,
        phase=phase,  # type: ignore[arg-type]
        seed=seed,
    )


def _trial(files: StudyFolder, row: Row, number: int, trials: int) -> str:
    """Write a tuning run and return its hash."""
    spec = _spec(row, "tuning", 0, lr=1e-4 * (1 + number))
    random = np.random.default_rng([7, number])
    pruned = number == trials - 1 and trials > 1
    average = 30.0 + 10 * random.random()
    metrics = {"map_avg": average} | {f"map_{t:.2f}": average + 40 * (0.5 - t) for t in TIOU}
    result = _result(spec, row, random, {} if pruned else metrics)
    files.write_run(result.model_copy(update={"status": "pruned" if pruned else "finished"}))
    return spec.hash


def _result(spec: RunSpec, row: Row, random: np.random.Generator, metrics: dict[str, float]) -> RunResult:
    parts = ("labels", "logits") if row.teachers else ("labels",)
    history = tuple(
        EpochRecord(
            epoch=epoch,
            losses={part: float(2 / epoch + 0.1 * random.random()) for part in parts},
            validation_map=2.5 * epoch if spec.phase == "tuning" else None,
        )
        for epoch in (4, 8, 12)
    )
    return RunResult(
        hash=spec.hash,
        spec=spec,
        status="finished",
        metrics=metrics,
        per_class={name: metrics.get("map_avg", 0.0) for name in CLASSES},
        history=history,
        environment=ENVIRONMENT,
        timings={"train": 12.5, "predict": 0.5, "evaluate": 0.1},
    )


def _cost(row: Row, video_costs: bool) -> CostRecord:
    flow = "flow" in row.modalities
    transformer = row.model.startswith("actionformer")
    hallucinated = row.model == STUDENT
    latency = (140.0 if transformer else 75.0) + 20 * hallucinated
    minute = {"decode": 2.1, "backbone": 9.4, "detector": latency / 1000} | ({"flow": 1.2} if flow else {})
    return CostRecord(
        key=f"{row.model}-1",
        model=row.model,
        params=29_251_612 if transformer else 19_600_000 if hallucinated else 13_223_452,
        gmacs=45.25 if transformer else 39.7 if hallucinated else 25.25,
        frames=2304,
        latency_ms={"median": latency, "iqr": 4.2},
        peak_memory_mb=410.0 if transformer else 260.0,
        threads=1,
        device="Fake CPU",
        precision="fp32",
        minute=minute | ({"backbone": 19.0} if flow else {}) if video_costs else {},
        minute_alternatives={"flow_tvl1": 480.0} if flow and video_costs else {},
    )


def _ground_truth(videos: int) -> dict[str, dict[str, object]]:
    random = np.random.default_rng(0)
    database: dict[str, dict[str, object]] = {}
    for number in range(videos):
        starts = np.sort(random.uniform(0, 50, 6))
        annotations = [
            {
                "segment": [float(start), float(start + random.uniform(2, 8))],
                "label": CLASSES[(number + index) % 3],
                "label_id": (number + index) % 3,
            }
            for index, start in enumerate(starts)
        ]
        database[f"video_{number}"] = {
            "subset": "test",
            "duration": 60.0,
            "fps": 25.0,
            "annotations": annotations,
        }
    return database


def _detections(
    truth: dict[str, dict[str, object]], jitter: float, random: np.random.Generator
) -> dict[str, list[dict[str, object]]]:
    """Return true segments with perturbed boundaries, some missing, and false ones with lower scores."""
    detections: dict[str, list[dict[str, object]]] = {}
    for video, entry in truth.items():
        lines = []
        for annotation in entry["annotations"]:  # type: ignore[attr-defined]
            start, end = annotation["segment"]
            error = random.normal(0, jitter * (end - start), 2)
            if random.random() > jitter:
                score = float(random.uniform(0.3, 1.0))
                lines.append((float(start + error[0]), float(end + error[1]), annotation["label"], score))
        for _ in range(10):
            start = random.uniform(0, 55)
            label = CLASSES[int(random.integers(3))]
            lines.append((float(start), float(start + 4), label, float(random.uniform(0.0, 0.5))))
        detections[video] = [
            {"segment": [start, end], "label": label, "score": score} for start, end, label, score in lines
        ]
    return detections


def _score(
    truth: dict[str, dict[str, object]], detections: dict[str, list[dict[str, object]]]
) -> dict[str, float]:
    """Return the metrics of the detections, as written by a run."""
    detection_table = pd.DataFrame(
        [
            (video, *line["segment"], line["label"], line["score"])  # type: ignore[misc]
            for video, lines in detections.items()
            for line in lines
        ],
        columns=["video", "start", "end", "label", "score"],
    )
    truth_table = pd.DataFrame(
        [
            (video, *line["segment"], line["label"])
            for video, entry in truth.items()
            for line in entry["annotations"]  # type: ignore[attr-defined]
        ],
        columns=["video", "start", "end", "label"],
    )
    score = interpolated_ap(detection_table, truth_table, TIOU, videos=sorted(truth))
    metrics = {f"map_{t:.2f}": 100 * float(value) for t, value in zip(TIOU, score.map, strict=True)}
    return metrics | {"map_avg": 100 * score.average}
