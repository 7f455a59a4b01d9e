"""Records of runs, costs and studies that are stored as JSON."""

from __future__ import annotations

from typing import Literal

from tal_bench.config import Objective, RunSpec, Settings, Spec, StudySpec

Status = Literal["finished", "pruned", "failed"]


class EpochRecord(Spec):
    """One training epoch. Results of older versions contain only epochs with an evaluation.

    Attributes:
        epoch: Number of completed epochs.
        losses: Mean of each named part of the objective over the epoch.
        validation_map: Average mAP on validation in percent; None in final runs and in epochs without an
            evaluation.
    """

    epoch: int
    losses: dict[str, float]
    validation_map: float | None = None


class RunResult(Spec):
    """Result of one `RunSpec`, also of a failed run.

    Attributes:
        hash: Hash of the spec.
        spec: Specification of the run.
        status: `finished`, `pruned` (stopped early by the pruner) or `failed`.
        metrics: `map_0.30` ... `map_avg` in percent, on the split of the spec's phase. If the dataset
            declares them, also `recall_1x_0.30` ... `recall_1x_avg`, and `map_0.50-0.95` over a second grid.
        per_class: Average AP of each class in percent.
        evaluation: Description of how the metrics were computed.
        videos: Number of evaluated videos.
        skipped: Videos of the dataset that were left out, see `missing` and `exclude` of `DatasetSpec`.
        history: Epochs of the training in order.
        environment: Commit, versions, hardware and number of threads.
        timings: Seconds spent on `train`, `predict` and `evaluate`.
        files: SHA-256 of the run's weights and detections, keyed by file suffix.
        error: Reason of a failure, on one line.
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
    """Inference cost of an architecture, measured while no training is running.

    Attributes:
        key: Hash of the architecture and the measurement conditions.
        model: Registered name of the model.
        params: Number of parameters used at inference.
        gmacs: Multiply-accumulates of one forward pass over `frames` time steps, in units of 1e9.
        frames: Number of time steps T of the measured forward pass.
        latency_ms: `median` and `iqr` of the latency of the forward pass in milliseconds; on a GPU also
            `graph`, the median where it is launched as one CUDA graph.
        peak_memory_mb: Peak memory of the forward pass, weights and activations, in MB.
        threads: Number of CPU threads.
        device: Name of the hardware.
        precision: Precision of the matrix products.
        minute: Seconds per minute of video for each step: `decode`, `flow` (extraction of the privileged
            modality; absent for primary-only models), `backbone`, `detector`. Empty if the dataset has no
            videos.
        minute_alternatives: Seconds per minute of video of other extractors of the privileged modality, by
            name (`flow_tvl1`).
        minute_device: Hardware of the networks of `minute`; decoding and flow run on the CPU. Empty where
            nothing was measured, and in earlier records.
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
    minute_device: str = ""

    @property
    def minute_total(self) -> float | None:
        """Seconds to process one minute of video, end to end; None if not measured."""
        return sum(self.minute.values()) if self.minute else None

    def minute_with(self, alternative: str) -> float | None:
        """Return `minute_total` with another extractor of a privileged modality, for example `flow_tvl1`."""
        total = self.minute_total
        step = alternative.partition("_")[0]
        if total is None or step not in self.minute:  # the model does not use the modality
            return total
        seconds = self.minute_alternatives.get(alternative)
        return None if seconds is None else total - self.minute[step] + seconds


class TrainingCost(Spec):
    """Cost of a training step under an objective, measured while no training is running.

    Attributes:
        key: Hash of networks, terms and the measurement conditions.
        step_ms: `median` and `iqr` of the time of a step in milliseconds.
        peak_memory_mb: Peak memory of a step in MB: weights, their average, teachers, moments of the
            optimizer, batch and activations.
        dropped_params: Number of parameters of the objective, which are dropped after the training.
        batch_size: Number of videos of a step.
        frames: Number of time steps T of each video.
        threads: Number of CPU threads.
        device: Name of the hardware.
        precision: Precision of the matrix products.
    """

    key: str
    step_ms: dict[str, float]
    peak_memory_mb: float
    dropped_params: int
    batch_size: int
    frames: int
    threads: int
    device: str
    precision: str


class RowRecord(Spec):
    """One row of a study's table.

    Attributes:
        name: Name of the variant or, for teacher and reference rows, of the model.
        kind: `teacher` and `reference` rows are trained on labels; `student` rows are the variants.
        model: Registered name of the row's model.
        modalities: Modalities read at inference, as shown in tables, for instance `RGB + flow`.
        teachers: Registered model of each teacher role.
        settings: Value of each tuned setting; empty for untuned rows.
        trials: Hashes of the tuning runs.
        confirmations: Hashes of the runs of the best trials with further seeds on validation.
        chosen: Hash of the tuning run whose settings were selected.
        finals: Hashes of the final runs, in the order of `seeds`.
        seeds: Seeds of the final runs.
        cost: Key of the row's CostRecord.
        training: Key of the row's TrainingCost; empty for imported teachers.
        training_gmacs: Multiply-accumulates (10^9) of a final training per training video, with the forward
            passes of its teachers; None if not known.
    """

    name: str
    kind: Literal["teacher", "reference", "student"]
    model: str
    modalities: str
    teachers: dict[str, str] = {}
    settings: dict[str, float] = {}
    trials: tuple[str, ...] = ()
    confirmations: tuple[str, ...] = ()
    chosen: str = ""
    finals: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    cost: str = ""
    training: str = ""
    training_gmacs: float | None = None

    @property
    def runs(self) -> tuple[str, ...]:
        """Hashes of all runs of the row, in the order in which they are made."""
        return (*self.trials, *self.confirmations, *self.finals)


class SearchRecord(RowRecord):
    """Search for a Pareto front. It has no final runs; the members of the front are rows of the table.

    Attributes:
        objective: Objectives of the search.
        tried: Settings of the trials.
        values: Objective values of the trials; empty for failed trials.
        front: Hashes of the trials on the front, in ascending order of mAP.
        members: Names of the members' rows, in the same order.
    """

    objective: tuple[Objective, ...]
    tried: tuple[Settings, ...] = ()
    values: tuple[tuple[float, ...], ...] = ()
    front: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


class StudyRecord(Spec):
    """Specification, dataset and rows of a study.

    Attributes:
        spec: Specification of the study.
        id: Identity of the folder, which tells it from others of the same name.
        command: Command line that started the study.
        dataset: Name of the dataset.
        fingerprint: Fingerprint of the data.
        classes: Names of the classes, ordered by index.
        test_videos: Number of evaluated test videos.
        tiou: tIoU thresholds of the evaluation.
        evaluation: Description of the evaluation, for instance `ActivityNet-style AP, tIoU 0.3:0.1:0.7, on
            test`.
        ap_method: AP method.
        skipped: Videos that were left out, with the reason.
        finished: ISO time of completion; None while rows are missing.
        rows: Rows in the order of the table.
        searches: Searches for Pareto fronts.
    """

    spec: StudySpec
    id: str = ""
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
