"""The GPU check itself: its rows on the CPU, its exit status, and all of it where there is a GPU."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from parity.checks import kd
from parity.fixtures import Fixture, discover

from gpu import batches, check, correctness, repeatability, speed
from gpu.rows import NOTE, Check, DenseProduct, Row, Settings, run_checks, timed
from gpu.speed import Step

EXCERPT = Path(__file__).parents[1] / "parity" / "excerpt"
SCRIPT = Path(__file__).with_name("check.py")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("kd_mars", "nms_edge", "af_losses"):
        for file in EXCERPT.glob(f"{name}.*"):
            shutil.copy(file, tmp_path)
    return Settings("cpu", tmp_path / "out", [tmp_path], time.monotonic() + 600)


def failing(settings: Settings) -> Iterator[Row]:
    yield Row("begun")
    raise RuntimeError("first line\nsecond line " + "x" * 200)


def passing(settings: Settings) -> Iterator[Row]:
    yield Row("value", value=2.0, unit="s")


def test_parity_has_a_row_per_kind(settings: Settings) -> None:
    rows = list(correctness.parity(settings))
    assert [row.check for row in rows] == ["parity: kd", "parity: losses", "parity: nms"]
    assert all(row.status == "ok" and (row.value or 0) > 0 for row in rows)


def test_a_wrong_loss_and_an_error_are_failed_rows_of_their_kinds(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = kd.METHODS["mars"]
    monkeypatch.setattr(
        kd, "METHODS", {"mars": lambda case: {k: x * (1 + 1e-8) for k, x in right(case).items()}}
    )
    (settings.parity[0] / "af_losses.safetensors").write_bytes(b"no arrays")
    rows = {row.check: row for row in correctness.parity(settings)}
    assert rows["parity: kd"].status == rows["parity: losses"].status == "failed"
    assert "in float64" in rows["parity: kd"].note
    assert "af_losses" in rows["parity: losses"].note
    assert rows["parity: nms"].status == "ok"


def test_parity_runs_on_the_default_device() -> None:
    with torch.device("meta"):
        assert (
            kd.Case.read(next(iter(kd_fixtures())), "case1", torch.float64)["student"].device.type == "meta"
        )


def kd_fixtures() -> Iterator[Fixture]:
    return (fixture for fixture in discover(EXCERPT) if fixture.name == "kd_mars")


def test_a_step_and_a_prediction_are_measured(settings: Settings) -> None:
    step = Step(speed.STUDENT, "fp32")
    prediction = Check("prediction", lambda given: speed._prediction(given, "fp32"))
    rows = run_checks([speed._check(step), prediction], settings, lambda text: None)
    assert [row.check for row in rows] == [step.name, "prediction actionformer fp32, with NMS"]
    for row in rows:
        assert row.status == "ok"
        assert row.value and row.dense_tflops and row.share and row.peak_mb
        assert 0 < row.share < 3


def test_batches_of_every_source_are_compared(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run_checks(batches.CHECKS, settings, lambda text: None)
    assert [row.check for row in rows] == ["batches from device memory", "batches from host memory"]
    assert all(row.status == "ok" and row.value for row in rows)
    correct = batches.ResidentFeatures.gather

    def shifted(
        self: batches.ResidentFeatures, starts: torch.Tensor, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return correct(self, starts + 1, mask)

    monkeypatch.setattr(batches.ResidentFeatures, "gather", shifted)
    rows = run_checks(batches.CHECKS, settings, lambda text: None)
    assert rows[-1].status == "failed" and "features/rgb, features/flow of a batch differ" in rows[-1].note


def test_a_repeated_training_is_compared(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    check = repeatability.CHECKS[0]
    (row,) = run_checks([check], settings, lambda text: None)
    assert row.status == "ok" and row.value == 6.0, "weights and detections of two teachers and a student"
    correct, calls = repeatability.start, list[int]()

    def with_another_seed(words: list[str | Path], folder: Path) -> subprocess.Popen[str]:
        calls.append(1)
        return correct([*words, "--seed", str(len(calls))], folder)

    monkeypatch.setattr(repeatability, "start", with_another_seed)
    (_, row) = run_checks([check], settings, lambda text: None)
    assert row.status == "failed" and "2 of 6 files differ: conv-dw-hallucinated" in row.note


def test_a_deterministic_step_is_measured_in_a_process_of_its_own(settings: Settings) -> None:
    (row,) = run_checks([speed._check(speed.REPEATABLE[0])], settings, lambda text: None)
    assert row.check == "step actionformer fp32, deterministic"
    assert row.status == "ok" and row.value


def test_the_memory_of_a_training_says_how_many_share_the_gpu(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "free_gpu_memory", lambda: [int(1e12)])
    monkeypatch.setattr(
        speed, "training_memory", lambda spec, *rest, graphs: int(3e6 * spec.train.batch_size)
    )
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    (row,) = speed.sharing(settings)
    assert row.value == 6.0 and re.search(r"; [1-4] trainings would share this GPU$", row.note)


def test_teachers_count_as_one_forward_pass_each(settings: Settings) -> None:
    alone, taught = (Step(speed.STUDENT, "fp32", teachers).flop(settings.data) for teachers in (False, True))
    forward = sum(speed.operations(name, settings.data) for name in speed.TEACHERS)
    assert taught - alone == pytest.approx(speed.BATCH * forward)


def test_a_dense_product_has_the_throughput_of_a_dense_product() -> None:
    product = DenseProduct(torch.device("cpu"))
    assert 0.2 < timed(product, product.flop, torch.device("cpu"))["share"] < 5


def test_a_check_that_raises_is_one_line_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(correctness, "CHECKS", [Check("raises", failing), Check("passes", passing)])
    monkeypatch.setattr(batches, "CHECKS", [])
    monkeypatch.setattr(repeatability, "CHECKS", [])
    monkeypatch.setattr(speed, "CHECKS", [Check("graphs", passing, needs_cuda=True)])
    assert check.main(["--device", "cpu", "--out", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "4 rows, 1 failed" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["check", "begun", "raises", "value", "graphs"]
    assert "RuntimeError: first line second line" in lines[3]
    assert len(lines[3]) < NOTE + 100
    found = json.loads((tmp_path / "gpu-check.json").read_text())
    assert [row["status"] for row in found["rows"]] == ["ok", "failed", "ok", "skipped"]
    assert found["rows"][1]["note"].endswith("x" * 200)
    assert found["environment"]["torch"] == torch.__version__


def test_without_failures_the_status_is_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correctness, "CHECKS", [Check("passes", passing)])
    monkeypatch.setattr(batches, "CHECKS", [])
    monkeypatch.setattr(repeatability, "CHECKS", [])
    monkeypatch.setattr(speed, "CHECKS", [])
    assert check.main(["--device", "cpu", "--out", str(tmp_path)]) == 0


def test_checks_for_which_no_time_is_left_are_skipped(tmp_path: Path) -> None:
    late = Settings("cpu", tmp_path, [], time.monotonic() - 1)
    (row,) = run_checks([Check("late", passing)], late, lambda text: None)
    assert row.status == "skipped"
    assert "--minutes" in row.note


def test_an_aim_needs_both_rows(settings: Settings) -> None:
    aim = speed.Aim("ratio", "slow", "fast", 5.0)
    (row,) = run_checks([speed._aim(aim)], settings, lambda text: None)
    assert row.status == "skipped"
    settings.rows[:] = [Row("slow", value=12.0), Row("fast", value=2.0)]
    assert aim.row(settings) == Row("ratio", value=6.0, unit="×", note="aim ≥ 5: met")
    assert replace(aim, bound=None).row(settings).note == ""
    settings.rows.pop()
    with pytest.raises(LookupError, match="fast"):
        aim.row(settings)


def test_missing_and_old_packages_are_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.missing(["torch>=2.6", "torch>=999", "no-such-thing>=1"]) == [
        "torch>=999",
        "no-such-thing>=1",
    ]
    monkeypatch.setattr(check, "missing", lambda requirements: ["numba>=0.61"])
    assert check.main(["--device", "cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'numba>=0.61'" in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--device cpu" in line


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_everything_passes_on_a_gpu(tmp_path: Path) -> None:
    words = [sys.executable, SCRIPT, "--out", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout
