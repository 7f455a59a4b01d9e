"""Reading and writing a study's folder: damaged files and full disks."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_parts import result_of, run_spec

from tal_bench.errors import DiskFullError
from tal_bench.results.checksums import verified, with_checksum
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RunResult
from tal_bench.studies.run import Job, load_result, run
from tal_bench.system import files
from tal_bench.system.files import write_atomically


@pytest.fixture
def ended_run(tmp_path: Path) -> tuple[StudyFolder, RunResult]:
    folder = StudyFolder(tmp_path)
    spec = run_spec()
    write_atomically(folder.run_file(spec.hash, ".safetensors"), b"weights")
    result = result_of(spec).model_copy(update={"files": folder.digests(spec.hash)})
    folder.write_run(result)
    return folder, result


@given(st.binary())
def test_content_with_a_checksum_round_trips(content: bytes) -> None:
    assert verified(with_checksum(content)) == content


@given(st.data())
def test_any_flipped_bit_is_detected(data: st.DataObject) -> None:
    content = bytearray(with_checksum(b"weights\nand moments"))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ValueError, match="checksum mismatch"):
        verified(bytes(content))


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".safetensors", b"weighty", "damaged: checksum mismatch"),
        (".json", b'{\n "hash": "abc', "not a RunResult: Invalid JSON"),
        (".json", b"\xff\xfe\x00", "not a RunResult: Invalid JSON"),
        (".json", b'{"hash": 1}', "not a RunResult: hash Input should be a valid string"),
    ],
)
def test_a_damaged_file_is_reported_and_the_run_done_again(
    ended_run: tuple[StudyFolder, RunResult],
    caplog: pytest.LogCaptureFixture,
    suffix: str,
    content: bytes,
    message: str,
) -> None:
    folder, result = ended_run
    job = Job(result.spec, folder.path)
    assert load_result(job) == result
    file = folder.run_file(result.hash, suffix)
    intact = file.read_bytes()
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert load_result(job) is None
    assert f"{result.hash}{suffix}: {message}" in caplog.text
    assert "repeated" in caplog.text
    file.write_bytes(intact)
    assert load_result(job) == result


def test_missing_weights_are_accepted(ended_run: tuple[StudyFolder, RunResult]) -> None:
    folder, result = ended_run
    folder.run_file(result.hash, ".safetensors").unlink()
    assert load_result(Job(result.spec, folder.path)) == result


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Simulate a full disk; returns the list of pauses between attempts."""
    pauses: list[float] = []

    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_write", refuse)
    monkeypatch.setattr("time.sleep", pauses.append)
    return pauses


def test_a_full_disk_is_waited_for(
    full: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DiskFullError, match="the disk is full"), caplog.at_level(logging.WARNING):
        write_atomically(tmp_path / "x", "text")
    assert full == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert len(caplog.records) == 1
    monkeypatch.undo()
    write_atomically(tmp_path / "x", "text")
    assert (tmp_path / "x").read_text() == "text"


def test_a_run_that_cannot_be_written_fails_and_ends_nothing(
    full: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tal_bench.studies.run import _Attempt

    monkeypatch.setattr(_Attempt, "finish", lambda self: self.result("finished"))
    result = run(Job(run_spec(), tmp_path))
    assert result.status == "failed"
    assert "the disk is full" in str(result.error)
