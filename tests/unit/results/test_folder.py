"""Damage on disk is noticed, named, and mended by doing the run again; a full disk is waited for."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_parts import result_of, run_spec

from tal_bench.errors import DataError, DiskFullError
from tal_bench.results.checksums import seal, unseal
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RunResult
from tal_bench.studies.run import Job, load_result, run
from tal_bench.system import files as results
from tal_bench.system.files import write_atomically


@pytest.fixture
def kept(tmp_path: Path) -> tuple[StudyFolder, RunResult]:
    folder = StudyFolder(tmp_path)
    spec = run_spec()
    write_atomically(folder.run_file(spec.hash, ".safetensors"), b"weights")
    result = result_of(spec).model_copy(update={"files": folder.digests(spec.hash)})
    folder.write_run(result)
    return folder, result


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.floats(allow_nan=False), st.none()), min_size=1))
def test_what_was_sealed_comes_back(value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    sealed = seal(text)
    assert json.loads(sealed) == {"checksum": json.loads(sealed)["checksum"], **value}
    assert unseal(sealed.encode(), Path("x")).decode() == text
    assert unseal(text.encode(), Path("x")).decode() == text, "files of earlier versions have no seal"


@given(st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(seal('{\n "map_avg": 31.25,\n "epochs": [1, 2, 3]\n}').encode())
    place = data.draw(st.integers(0, sealed.index(b"checksum") - 5))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DataError, match="checksum"):
        unseal(bytes(sealed), Path("x"))


def test_a_damaged_record_or_file_is_done_again(
    kept: tuple[StudyFolder, RunResult], caplog: pytest.LogCaptureFixture
) -> None:
    folder, result = kept
    job = Job(result.spec, folder.path)
    assert load_result(job) == result
    for suffix in (".safetensors", ".json"):
        file = folder.run_file(result.hash, suffix)
        whole = file.read_bytes()
        file.write_bytes(whole.replace(b"10.0", b"90.0").replace(b"weights", b"weighty"))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert load_result(job) is None
        assert f"{result.hash}{suffix} is damaged" in caplog.text
        assert "done again" in caplog.text
        file.write_bytes(whole)
    assert load_result(job) == result


def test_weights_that_were_removed_are_no_damage(kept: tuple[StudyFolder, RunResult]) -> None:
    folder, result = kept
    folder.run_file(result.hash, ".safetensors").unlink()
    assert load_result(Job(result.spec, folder.path)) == result


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A disk without room; grows by every pause that is made."""
    pauses: list[float] = []

    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results, "_write", refuse)
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
