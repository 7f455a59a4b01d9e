"""What a run leaves behind, and how a study is read back: `load(...)` gives one pandas row per run.

Files of a study, below `reports/<study>/`:

    study.json                 StudyRecord: the study's spec and its rows
    ground_truth.json          annotations of the evaluated test videos, ActivityNet-style
    runs/<hash>.json           RunResult, written last: its presence says that the run has ended
    runs/<hash>.safetensors    weights (EMA)
    runs/<hash>.detections.json  detections on test, ActivityNet-style (final runs)
    runs/<hash>.resume         state of a training that is under way, or was interrupted
    costs/<key>.json           CostRecord, one per architecture

Records end with a checksum of their text, and a RunResult holds those of the files beside it.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import ValidationError

from tal_bench.config import Objective, RunSpec, Settings, Spec, StudySpec
from tal_bench.errors import DiskFullError, InputError
from tal_bench.sealed import check_digest, digest, seal, unseal

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["finished", "pruned", "failed"]
R = TypeVar("R", bound=Spec)
LOG = logging.getLogger(__name__)
FULL = (errno.ENOSPC, errno.EDQUOT)
BESIDE = (".safetensors", ".detections.json")
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds between attempts to write on a disk that is full."""


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
        metrics: `map_0.30` ... `map_avg`, in percent, on the split of the spec's protocol; where the dataset
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
        protocol: how mAP was computed, for instance `ActivityNet-style AP, tIoU 0.3:0.1:0.7, on test`.
        scoring: which of the two protocols of average precision that is.
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
    protocol: str
    scoring: Literal["activitynet", "thumos"] = "activitynet"
    skipped: dict[str, str] = {}
    finished: str | None = None
    rows: tuple[RowRecord, ...] = ()
    searches: tuple[SearchRecord, ...] = ()


def write_atomically(path: Path, content: str | bytes, *, pauses: Sequence[float] = PAUSES) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: of the file; its directory is made.
        content: whole.
        pauses: seconds to wait before every further attempt while the disk is full.

    Raises:
        DiskFullError: it still is.
        InputError: the directory cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    for pause in (*pauses, None):
        try:
            return _write(path, data)
        except OSError as error:
            if error.errno not in FULL:
                raise InputError(f"cannot be written: {error.strerror}", where=path) from None
            if pause is None:
                raise DiskFullError("the disk is full", where=path, hint="make room, run again") from None
            if pause == pauses[0]:
                LOG.warning("%s: the disk is full; trying again for %.0f s", path, sum(pauses))
            time.sleep(pause)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes files private; results are to be shared
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class StudyFolder:
    """Paths and records of one study's folder.

    Args:
        path: `reports/<study>`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def run_file(self, hash_: str, suffix: str = ".json") -> Path:
        """File of a run: `.json`, `.safetensors`, `.detections.json` or `.resume`."""
        return self.path / "runs" / f"{hash_}{suffix}"

    def read_run(self, hash_: str) -> RunResult | None:
        """The result of an ended run, or none."""
        return _read(RunResult, self.run_file(hash_))

    def write_run(self, result: RunResult) -> None:
        """Record a run as ended."""
        write_atomically(self.run_file(result.hash), seal(result.model_dump_json(indent=1)))

    def digests(self, hash_: str) -> dict[str, str]:
        """Checksums of the files beside a run's record, by their suffixes."""
        files = {suffix: self.run_file(hash_, suffix) for suffix in BESIDE}
        return {suffix: digest(file) for suffix, file in files.items() if file.is_file()}

    def check_files(self, result: RunResult) -> None:
        """The files beside a run's record are those that the run wrote, as far as they are there.

        Raises:
            DataError: one is damaged.
        """
        for suffix, expected in result.files.items():
            check_digest(self.run_file(result.hash, suffix), expected)

    def runs(self) -> Iterator[RunResult]:
        """All ended runs."""
        for file in sorted((self.path / "runs").glob("*.json")):
            if not file.name.endswith(".detections.json"):
                result = _read(RunResult, file)
                if result is not None:
                    yield result

    def read_cost(self, key: str) -> CostRecord | None:
        """A measured cost, or none."""
        return _read(CostRecord, self.path / "costs" / f"{key}.json")

    def write_cost(self, cost: CostRecord) -> None:
        """Record a measured cost."""
        write_atomically(self.path / "costs" / f"{cost.key}.json", seal(cost.model_dump_json(indent=1)))

    def read_study(self) -> StudyRecord:
        """The study's record.

        Raises:
            InputError: the folder holds no study.
        """
        record = _read(StudyRecord, self.path / "study.json")
        if record is None:
            raise InputError("no study.json there", where=self.path, hint="give the folder of a study")
        return record

    def write_study(self, record: StudyRecord) -> None:
        """Record the study."""
        write_atomically(self.path / "study.json", seal(record.model_dump_json(indent=1)))


def load(source: Path | str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Read every run of a study into one table; `tal_bench.frame` describes its columns.

    Args:
        source: a study's folder, a folder that holds several of them, or the name of an MLflow experiment.
        tracking_uri: of the MLflow server; given, ``source`` is an experiment's name.

    Raises:
        InputError: there is no such study or experiment.
    """
    from tal_bench.frame import load_experiment, load_folder  # pandas takes as long to import as the rest

    if tracking_uri is None and Path(source).is_dir():
        return load_folder(Path(source))
    return load_experiment(str(source), tracking_uri)


def _read(kind: type[R], file: Path) -> R | None:
    """Parse a record, or none when the file does not exist.

    Raises:
        InputError: the file is not such a record.
    """
    try:
        return kind.model_validate_json(unseal(file.read_bytes(), file))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"not a {kind.__name__}: {place} {first['msg']}", where=file, hint="delete it and run again"
        ) from None
