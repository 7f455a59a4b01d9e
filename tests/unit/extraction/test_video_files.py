"""Feature files of many videos: layout, manifest, resuming, and videos that cannot be used."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import noise_frames, write_clip, write_sound
from processes import finished, start, still_alive, wait_until, workers
from test_backbone_weights import NET, extraction

from tal_bench.cli import main
from tal_bench.config import content_hash
from tal_bench.config.extraction import FILE, Extraction
from tal_bench.errors import InputError, TalBenchError
from tal_bench.extraction import video_files as module
from tal_bench.extraction.streams import complete
from tal_bench.extraction.video_files import JOURNAL, MANIFEST, extract_file, extract_files, find_videos
from tal_bench.extraction.workers import map_items
from tal_bench.system.worker_pool import UnusableWorkerError

ARGS = ["--backbone", NET, "--weights", "random", "--size", "32"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two valid clips, and files with every kind of defect."""
    folder = tmp_path_factory.mktemp("videos")
    for k, count in enumerate((40, 25)):
        write_clip(folder / f"good_{k}.mkv", noise_frames(count, seed=k), fps=25)
    write_clip(folder / "three.mkv", noise_frames(3), fps=25)
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(60)]
    whole = write_clip(folder / "cut.mkv", frames, fps=25)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video at all\n" * 40)
    write_sound(folder / "sound.mp4")
    return folder


@pytest.fixture(scope="module")
def settings() -> Extraction:
    return complete(extraction())


def manifest(out: Path) -> dict[str, dict[str, object]]:
    videos: dict[str, dict[str, object]] = json.loads((out / MANIFEST).read_text())["videos"]
    return videos


def test_failed_videos_do_not_stop_the_others(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "features"
    args = ["features", "extract", str(videos), "--out", str(out), *ARGS, "--jobs", "1"]
    assert main(args) == 2
    captured = capsys.readouterr()
    for line in (
        "empty.mp4: empty file, 0 bytes",
        "text.mp4: not a readable video",
        "sound.mp4: no video stream, only audio",
        "three.mkv: 3 frames: shorter than a window of 6",
        "cut.mkv: ends after",
        "4 of 7 videos could not be used",
    ):
        assert line in captured.err
    assert "Traceback" not in captured.err
    assert f"{out}: 3 videos" in captured.out
    status = {name: record["status"] for name, record in manifest(out).items()}
    assert status == {
        "cut": "truncated",
        "empty": "failed",
        "good_0": "ok",
        "good_1": "ok",
        "sound": "failed",
        "text": "failed",
        "three": "failed",
    }
    for name, steps in (("good_0", (40 - 6) // 4 + 1), ("good_1", (25 - 6) // 4 + 1)):
        for stream in ("rgb", "flow"):
            assert np.load(out / stream / f"{name}.npy").shape == (steps, 96)
        assert manifest(out)[name]["steps"] == steps
    content = json.loads((out / MANIFEST).read_text())
    assert {"av", "torch", "timm", "opencv"} <= set(content["versions"])
    assert content["command"].startswith("tal-bench")
    assert len(content["extraction"]["rgb weights_hash"]) == 16
    assert sorted(p.name for p in out.iterdir()) == [".lock", FILE, "flow", MANIFEST, "rgb"]


def test_finished_videos_are_skipped(videos: Path, tmp_path: Path, settings: Extraction) -> None:
    files = {"a": tmp_path / "a.mkv", "three": videos / "three.mkv"}
    write_clip(files["a"], noise_frames(20), fps=25)
    first = extract_files(files, tmp_path / "out", settings)
    assert first.skipped == set()
    written = (tmp_path / "out" / "rgb" / "a.npy").stat().st_mtime_ns
    again = extract_files(files, tmp_path / "out", settings)
    assert again.skipped == {"a"}, "what failed is tried again"
    assert (tmp_path / "out" / "rgb" / "a.npy").stat().st_mtime_ns == written
    assert [record.status for record in again.records] == ["ok", "failed"]
    write_clip(files["a"], noise_frames(30), fps=25)
    assert extract_files(files, tmp_path / "out", settings).skipped == set(), "another file of that name"
    (tmp_path / "out" / "flow" / "a.npy").unlink()
    assert extract_files(files, tmp_path / "out", settings).skipped == set(), "a stream is missing"


def test_other_settings_need_another_folder(videos: Path, tmp_path: Path, settings: Extraction) -> None:
    files = {"good": videos / "good_0.mkv"}
    extract_files(files, tmp_path, settings)
    with pytest.raises(InputError, match=r"other settings: stride was 4, now 8"):
        extract_files(files, tmp_path, settings.model_copy(update={"stride": 8}))
    with pytest.raises(InputError, match=r"other settings: precision was fp32, now bf16"):
        extract_files(files, tmp_path, settings.model_copy(update={"precision": "bf16"}))
    (tmp_path / FILE).unlink()
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(InputError, match="not a manifest"):
        extract_files(files, tmp_path, settings)


def test_settings_of_before_there_was_a_precision_are_those_of_fp32(
    videos: Path, tmp_path: Path, settings: Extraction
) -> None:
    files = {"good": videos / "good_0.mkv"}
    extract_files(files, tmp_path, settings)
    earlier = json.loads((tmp_path / FILE).read_text())
    assert earlier.pop("precision") == "fp32"
    (tmp_path / FILE).write_text(json.dumps(earlier))
    assert extract_files(files, tmp_path, settings).skipped == {"good"}
    del earlier["batch"]
    assert settings.hash == content_hash(earlier)
    assert settings.model_copy(update={"precision": "bf16"}).hash != settings.hash


def test_the_journal_of_a_killed_process_is_read(videos: Path, tmp_path: Path, settings: Extraction) -> None:
    files = {"good": videos / "good_0.mkv"}
    extract_files(files, tmp_path, settings)
    record = {"id": "good", **manifest(tmp_path)["good"]}
    content = json.loads((tmp_path / MANIFEST).read_text()) | {"videos": {}}
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    (tmp_path / JOURNAL).write_text(json.dumps(record) + "\n" + json.dumps(record)[:50])
    assert extract_files(files, tmp_path, settings).skipped == {"good"}
    assert set(manifest(tmp_path)) == {"good"}
    assert not (tmp_path / JOURNAL).exists()


def test_a_killed_extraction_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(6):
        write_clip(tmp_path / f"v{k}.mkv", noise_frames(400, seed=k), fps=25)
    out = tmp_path / "out"
    files = [tmp_path / f"v{k}.mkv" for k in range(6)]
    args = ["features", "extract", *map(str, files), "--out", str(out), *ARGS, "--jobs"]
    process = start([*args, "2"], tmp_path)

    def completed() -> int:
        return (out / JOURNAL).read_text().count("\n") if (out / JOURNAL).exists() else 0

    wait_until(process, lambda: completed() >= 1)
    children = workers(process)
    process.kill()
    finished(process)
    assert not still_alive(children), "workers follow their parent"
    kept = [json.loads(line)["id"] for line in (out / JOURNAL).read_text().splitlines()]
    assert 1 <= len(kept) < 6
    written = {name: (out / "rgb" / f"{name}.npy").stat().st_mtime_ns for name in kept}
    assert main([*args, "1"]) == 0
    assert f"{len(kept)} of them extracted earlier" in capsys.readouterr().out
    assert {name: (out / "rgb" / f"{name}.npy").stat().st_mtime_ns for name in kept} == written
    assert {r["status"] for r in manifest(out).values()} == {"ok"}
    assert len(manifest(out)) == len(list((out / "flow").iterdir())) == 6
    alone = tmp_path / "alone"
    assert main(["features", "extract", str(tmp_path / f"{kept[0]}.mkv"), "--out", str(alone), *ARGS]) == 0
    for stream in ("rgb", "flow"):
        one, two = (np.load(folder / stream / f"{kept[0]}.npy") for folder in (alone, out))
        np.testing.assert_array_equal(one, two, err_msg="a worker's features are this process's")


def work(item: int) -> int:
    """Kill the process for item 3, as a crash in a codec would."""
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_worker_that_dies_fails_only_its_item() -> None:
    results = list(map_items(work, [1, 3, 2], 2, lambda item: -item))
    assert sorted(results) == [-3, 1, 2]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_nothing_is_left_to_do_when_a_command_is_resumed(device: str) -> None:
    assert list(map_items(work, [], 2, lambda item: -item, device)) == []


def test_unwritable_features_stop_the_extraction(
    videos: Path, tmp_path: Path, settings: Extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "save", no_space)
    with pytest.raises(InputError, match=r"good\.npy: cannot be written: No space left"):
        extract_files({"good": videos / "good_0.mkv"}, tmp_path, settings)


@pytest.mark.parametrize(
    ("error", "works", "raised", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            True,
            TalBenchError,
            "--batch: out of GPU memory",
        ),
        (RuntimeError("CUDA error: misaligned address"), False, UnusableWorkerError, "misaligned address"),
    ],
)
def test_a_failure_of_the_gpu_is_not_one_of_the_video(
    error: Exception,
    works: bool,
    raised: type[Exception],
    message: str,
    tmp_path: Path,
    settings: Extraction,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(module, "open_device", lambda device: None)
    monkeypatch.setattr(module, "still_works", lambda device: works)
    monkeypatch.setattr(module, "video_features", fail)
    video = ("a", tmp_path / "a.mkv")
    with pytest.raises(raised, match=message):
        extract_file(video, out=tmp_path, extraction=settings, device="cuda")
    monkeypatch.setattr(module, "still_works", lambda device: True)
    record = extract_file(video, out=tmp_path, extraction=settings, device="cpu")
    assert record.status == "failed", "on the CPU, a video that does not fit into memory fails"


def test_ids_of_videos(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MKV", "notes.txt"):
        (tmp_path / name).touch()
    assert list(find_videos([tmp_path])) == ["a", "b"]
    assert list(find_videos([tmp_path / "notes.txt"])) == ["notes"], "what is named is taken"
    with pytest.raises(InputError, match=r"would both be written to a\.npy"):
        find_videos([tmp_path / "a.MKV", tmp_path / "a.mp4"])
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="contains no video"):
        find_videos([tmp_path / "none"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--size", "5"], "--size: got '5'"),
        (["--size", "64x"], "--size: got '64x'"),
        (["--fps", "0"], "--fps: got '0'"),
        (["--fps", "x"], "--fps: got 'x'"),
        (["--modality", "rgb,depth"], "--modality: got 'rgb,depth'"),
        (["--backbone", "resnet5"], "timm has no model 'resnet5'"),
        (["--weights", "flow=random"], "--weights: got 'flow=random'"),
        (["--window", "1"], "flow need at least 2 frames"),
    ],
)
def test_invalid_flags(
    args: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["features", "extract", "v.mp4", "--out", str(out), *ARGS, *args]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
