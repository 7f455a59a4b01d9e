"""Files of a study's folder.

Layout of `reports/<study>/`:

    study.json                 StudyRecord: the study's spec and its rows
    ground_truth.json          annotations of the evaluated test videos, ActivityNet-style
    runs/<hash>.json           RunResult, written last: its presence marks the run as ended
    runs/<hash>.safetensors    weights (EMA)
    runs/<hash>.detections.json  detections on test, ActivityNet-style (final runs)
    runs/<hash>.resume         training checkpoint of a run in progress or interrupted
    costs/<key>.json           CostRecord, one per architecture; TrainingCost, one per objective

A RunResult holds the SHA-256 of its weights and detections.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from tal_bench.config import Spec
from tal_bench.errors import InputError
from tal_bench.results.checksums import file_checksum, verify_file
from tal_bench.results.records import CostRecord, RunResult, StudyRecord, TrainingCost
from tal_bench.system.files import write_atomically

R = TypeVar("R", bound=Spec)
OUTPUTS = (".safetensors", ".detections.json")
"""Suffixes of the files of a run whose checksums its RunResult holds."""


class StudyFolder:
    """Paths and records of one study's folder.

    Args:
        path: Folder of the study, `reports/<study>`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def run_file(self, hash_: str, suffix: str = ".json") -> Path:
        """Return the path of a file of a run: `.json`, `.safetensors`, `.detections.json` or `.resume`."""
        return self.path / "runs" / f"{hash_}{suffix}"

    def read_run(self, hash_: str) -> RunResult | None:
        """Read the result of an ended run, or return None if the run has not ended.

        Raises:
            InputError: The file is not a valid RunResult.
        """
        return _read(RunResult, self.run_file(hash_))

    def write_run(self, result: RunResult) -> None:
        """Write the result of a run, which marks it as ended."""
        _write(self.run_file(result.hash), result)

    def digests(self, hash_: str) -> dict[str, str]:
        """Compute the SHA-256 of a run's weights and detections, keyed by file suffix."""
        files = {suffix: self.run_file(hash_, suffix) for suffix in OUTPUTS}
        return {suffix: file_checksum(file) for suffix, file in files.items() if file.is_file()}

    def check_files(self, result: RunResult) -> None:
        """Verify the checksums of a run's weights and detections; missing files are accepted.

        Raises:
            DataError: A file is damaged.
        """
        for suffix, expected in result.files.items():
            verify_file(self.run_file(result.hash, suffix), expected)

    def run_times(self) -> dict[str, int]:
        """Return the modification time of every run's record, in nanoseconds, by the hash of the run."""
        files = sorted((self.path / "runs").glob("*.json"))
        return {f.stem: f.stat().st_mtime_ns for f in files if not f.name.endswith(".detections.json")}

    def runs(self) -> Iterator[RunResult]:
        """Yield the results of all ended runs.

        Raises:
            InputError: A file is not a valid RunResult.
        """
        for hash_ in self.run_times():
            result = self.read_run(hash_)
            if result is not None:
                yield result

    def read_cost(self, key: str) -> CostRecord | None:
        """Read the cost of an architecture, or return None if it has not been measured."""
        return _read(CostRecord, self.path / "costs" / f"{key}.json")

    def read_training_cost(self, key: str) -> TrainingCost | None:
        """Read the cost of a training step, or return None if it has not been measured."""
        return _read(TrainingCost, self.path / "costs" / f"{key}.json")

    def write_cost(self, cost: CostRecord | TrainingCost) -> None:
        """Write the cost of an architecture or of a training step."""
        _write(self.path / "costs" / f"{cost.key}.json", cost)

    def read_study(self) -> StudyRecord:
        """Read the record of the study.

        Raises:
            InputError: The folder has no valid `study.json`.
        """
        record = _read(StudyRecord, self.path / "study.json")
        if record is None:
            raise InputError("no study.json there", where=self.path, hint="give the folder of a study")
        return record

    def write_study(self, record: StudyRecord) -> None:
        """Write the record of the study."""
        _write(self.path / "study.json", record)


def _write(file: Path, record: Spec) -> None:
    write_atomically(file, record.model_dump_json(indent=1) + "\n")


def _read(kind: type[R], file: Path) -> R | None:
    """Parse a record, or return None if the file does not exist.

    Raises:
        InputError: The file is not a valid record of this kind.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = f"{place} {first['msg']}" if place else first["msg"]
        raise InputError(
            f"not a {kind.__name__}: {message}", where=file, hint="delete it and run again"
        ) from None
