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

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from tal_bench.config import Spec
from tal_bench.errors import InputError
from tal_bench.results.checksums import check_digest, digest, seal, unseal
from tal_bench.results.records import CostRecord, RunResult, StudyRecord
from tal_bench.system.files import write_atomically

R = TypeVar("R", bound=Spec)
BESIDE = (".safetensors", ".detections.json")


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
