"""Records that a run and a study leave behind."""

from __future__ import annotations

from typing import Literal

from tal_bench.config import Objective, RunSpec, Settings, Spec, StudySpec

Status = Literal["finished", "pruned", "failed"]


class EpochRecord(Spec):
    """One epoch of a training; older results keep those with an evaluation alone.

    Attributes:
        epoch: number of epochs done.
        losses: mean of every named part of the objective over the epoch.
        validation_map: average mAP on validation; none in final runs, and where none was due.
    """

    epoch: int
    losses: dict[str, float]
    validation_map: float | None = None


class RunResult(Spec):
    """The outcome of one `RunSpec`; a failure is a result too.

    Attributes:
        hash: of the spec.
        spec: what was run.
        status: `finished`, `pruned` (stopped early by the tuner) or `failed`.
        metrics: `map_0.30` ... `map_avg`, in percent, on the split of the spec's phase; where the dataset
            asks for it also `recall_1x_0.30` ... `recall_1x_avg`, and `map_0.50-0.95` over a second grid.
        per_class: class to average AP, in percent.
        evaluation: how the metrics were computed, in words.
        videos: number of videos evaluated.
        skipped: videos of the dataset that were left out, see `missing` and `exclude` of `DatasetSpec`.
        history: training, in time order.
        environment: commit, versions, hardware, threads.
        timings: seconds of train, predict, evaluate.
        files: suffix of a file beside the record to its SHA-256.
        error: one line, when failed.
    """

    hash: str
    spec: RunSpec
    status: Status
    metrics: dict[str, float] = {}
    per_class: dict[str, float] = {}
    evaluation: str = ""
    videos: int = 0
    skipped: tuple[str, ...] = ()
    history: tuple[EpochRecord, ...] = ()
    environment: dict[str, str] = {}
    timings: dict[str, float] = {}
    files: dict[str, str] = {}
    error: str | None = None


class CostRecord(Spec):
    """What an architecture costs, measured once on a quiet machine.

    Attributes:
        key: hash of the architecture and the measuring conditions.
        model: registered name.
        params: number of weights that inference needs.
        gmacs: 1e9 multiply-accumulates of one forward pass at `frames` steps.
        frames: T of the measurement.
        latency_ms: `median` and `iqr` of that forward pass.
        peak_memory_mb: activations and weights at the peak of a forward pass.
        threads: CPU threads used.
        device: name of the hardware.
        precision: of the matrix products.
        minute: seconds spent on one minute of video by step: `decode`, `flow` (privileged extraction;
            absent for primary-only models), `backbone`, `detector`; empty when the dataset has no videos.
        minute_alternatives: other privileged extractors, name to seconds per minute of video (`flow_tvl1`).
    """

    key: str
    model: str
    params: int
    gmacs: float
    frames: int
    latency_ms: dict[str, float]
    peak_memory_mb: float
    threads: int
    device: str
    precision: str
    minute: dict[str, float] = {}
    minute_alternatives: dict[str, float] = {}


class RowRecord(Spec):
    """One row of the table.

    Attributes:
        name: variant name, or the model's name for reference rows.
        kind: `teacher` and `reference` rows are trained on labels; `student` rows are the variants.
        model: registered name of the row's model.
        modalities: as tables show them, for instance `RGB + flow`.
        teachers: role to registered model.
        settings: tuned values, name to value; empty for untuned rows.
        trials: hashes of the tuning runs.
        chosen: hash of the tuning run whose settings these are.
        finals: hashes of the final runs, in the order of `seeds`.
        seeds: of the final runs.
        cost: key of the row's CostRecord.
    """

    name: str
    kind: Literal["teacher", "reference", "student"]
    model: str
    modalities: str
    teachers: dict[str, str] = {}
    settings: dict[str, float] = {}
    trials: tuple[str, ...] = ()
    chosen: str = ""
    finals: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    cost: str = ""


class SearchRecord(RowRecord):
    """A search for a front: no final runs, its members are rows of the table.

    Attributes:
        objective: of the search.
        tried, values: the trials' settings, and what they reached; nothing where one failed.
        front: hashes of the trials on it, the lowest mAP first.
        members: rows of the table, in that order.
    """

    objective: tuple[Objective, ...]
    tried: tuple[Settings, ...] = ()
    values: tuple[tuple[float, ...], ...] = ()
    front: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


class StudyRecord(Spec):
    """A study as its folder keeps it.

    Attributes:
        spec: what was asked.
        command: the command line that made it.
        dataset: name.
        fingerprint: of the data.
        classes: names, by index.
        test_videos: number of evaluated videos.
        evaluation: how mAP was computed, for instance `ActivityNet-style AP, tIoU 0.3:0.1:0.7, on test`.
        ap_method: how average precision is computed.
        skipped: videos that were left out, with the reason.
        finished: ISO time, none while rows are missing.
        rows: in the order of the table.
        searches: for fronts.
    """

    spec: StudySpec
    command: str
    dataset: str
    fingerprint: str
    classes: tuple[str, ...]
    test_videos: int
    tiou: tuple[float, ...]
    evaluation: str
    ap_method: Literal["activitynet", "thumos"] = "activitynet"
    skipped: dict[str, str] = {}
    finished: str | None = None
    rows: tuple[RowRecord, ...] = ()
    searches: tuple[SearchRecord, ...] = ()
