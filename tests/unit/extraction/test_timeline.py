"""Times of videos: those that a player shows, as `ffmpeg` counts them, whatever the container does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clips import grey_frames, set_edits, write_clip
from ffmpeg_clips import BY_TIMESTAMP, CLIPS, STREAMS, joined, needs_ffmpeg, numbers, reference
from video_times import compare

from tal_bench.extraction.decoding import VideoReader

FAULTS = Path(__file__).resolve().parents[4] / "shared" / "faults" / "video-times"
JOINTS = {"concatenated with sound, MPEG-TS": 0.33}
"""Largest difference in seconds where a few frames at the joint of two recordings are placed differently."""


def times(path: Path) -> list[float]:
    """Seconds at which the frames are shown, and at which the video ends."""
    return [time for time, _ in VideoReader(path).pictures()]


def read(path: Path, fps: float = 10) -> VideoReader:
    """Read a video to its end."""
    reader = VideoReader(path, fps=fps, size=(16, 16))
    reader.levels = [int(frame[8, 8, 0]) for frame in reader]  # type: ignore[attr-defined]
    return reader


@needs_ffmpeg
@pytest.mark.parametrize("name", CLIPS)
def test_times_are_those_of_ffmpeg(name: str, tmp_path: Path) -> None:
    path = CLIPS[name](tmp_path)
    expected = reference(path, STREAMS.get(name, 0), by_timestamp=name in BY_TIMESTAMP)
    result = compare(path, expected)
    assert result.times <= JOINTS.get(name, 0.0015), "largest difference of a frame's time"
    ours, theirs = result.ends
    assert theirs - 0.0015 < ours < theirs + 0.11, "the last frame may rest until the stream ends"
    assert bool(result.warning) == ("concatenated" in name)
    assert "earlier than" not in result.warning
    if name in JOINTS:
        return
    shown = np.stack([frame[:, :, 0] for frame in VideoReader(path, fps=10)])
    moments = (np.arange(len(shown)) + 0.5) / 10 + 1e-4  # a frame that begins then is shown from there on
    wanted = expected.numbers[np.maximum(np.searchsorted(expected.times, moments, "right") - 1, 0)]
    clear = np.abs(moments[:, None] - expected.times).min(1) > 0.002
    assert (numbers(shown) == wanted)[clear].all()
    assert len(shown) == pytest.approx(10 * ours, abs=1)


@pytest.mark.parametrize(("name", "seconds"), [("gap150.mp4", 158), ("late.mkv", 6.02), ("cut.mp4", 6)])
def test_shared_faults(name: str, seconds: float) -> None:
    if not (FAULTS / name).is_file():
        pytest.skip(f"{name} is not in {FAULTS}")
    reader = read(FAULTS / name)
    assert reader.duration == pytest.approx(seconds, abs=0.06)
    assert reader.warning == ""
    assert times(FAULTS / name)[0] == pytest.approx(2.023 if name == "late.mkv" else 0, abs=1e-9)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_rest_that_the_duration_confirms_is_kept(tmp_path: Path, suffix: str) -> None:
    stamps = [*np.arange(40) / 10, *(150 + np.arange(40, 80) / 10)]
    path = write_clip(tmp_path / f"a{suffix}", grey_frames(range(40, 120)), stamps=stamps, codec="libx264")
    reader = read(path)
    assert reader.duration == pytest.approx(158, abs=0.11)
    assert reader.warning == ""
    assert abs(reader.levels[1500] - 79) < 4, "the picture at rest"  # type: ignore[attr-defined]
    assert abs(reader.levels[1560] - 100) < 4  # type: ignore[attr-defined]


def test_a_rest_beyond_the_declared_duration_is_not_believed(tmp_path: Path) -> None:
    stamps = [*np.arange(40) / 10, *(150 + np.arange(40, 80) / 10)]
    path = write_clip(tmp_path / "a.mkv", grey_frames(range(80)), fps=10, stamps=stamps)
    content = path.read_bytes()
    duration = content.index(b"\x44\x89\x88") + 3  # the element Duration, a double in milliseconds
    path.write_bytes(content[:duration] + np.array(8000.0, ">f8").tobytes() + content[duration + 8 :])
    reader = read(path)
    assert reader.duration == pytest.approx(8, abs=0.11)
    assert reader.warning == "timestamps jump by +150.0 s at 4.0 s; read as continuous"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_picture_that_begins_after_the_sound_is_late(tmp_path: Path, suffix: str) -> None:
    stamps = 2 + np.arange(40) / 10
    path = write_clip(
        tmp_path / f"a{suffix}", grey_frames(range(100, 140)), stamps=stamps, codec="libx264", sound=6
    )
    reader = read(path)
    assert times(path)[0] == pytest.approx(2, abs=0.07), "sound may begin a little before 0"
    assert reader.duration == pytest.approx(6, abs=0.2)
    assert reader.warning == ""
    levels = reader.levels  # type: ignore[attr-defined]
    assert abs(levels[0] - 100) < 4 and abs(levels[15] - 100) < 4, "the first picture, before it begins"
    assert abs(levels[40] - 120) < 4


def test_edit_lists_are_followed(tmp_path: Path) -> None:
    def clip(name: str, *edits: tuple[float, float]) -> Path:
        path = write_clip(tmp_path / name, grey_frames(range(40, 240, 2)), fps=10, codec="libx264")
        return set_edits(path, edits)

    cut = read(clip("cut.mp4", (6.0, 4.0)))
    assert cut.warning == "", "frames that are decoded and not shown are not missing"
    assert (cut.decoded, cut.duration) == (60, pytest.approx(6))
    assert abs(cut.levels[0] - 120) < 4  # type: ignore[attr-defined]
    middle = read(clip("middle.mp4", (2.0, 3.0)))
    assert (middle.duration, middle.warning) == (pytest.approx(2, abs=0.11), "")
    two = read(clip("two.mp4", (2.0, 1.0), (3.0, 6.0)))
    assert (two.duration, two.warning) == (pytest.approx(5, abs=0.11), "")
    levels = two.levels  # type: ignore[attr-defined]
    assert abs(levels[10] - 80) < 4 and abs(levels[25] - 170) < 4


@pytest.mark.parametrize("start", [95_437.0, 95_360.0])
def test_a_wrap_of_33_bits_is_no_jump(tmp_path: Path, start: float) -> None:
    stamps = start + np.arange(1000) / 10
    path = write_clip(tmp_path / "a.ts", grey_frames([40, 200] * 500), stamps=stamps, codec="libx264")
    reader = read(path)
    assert reader.duration == pytest.approx(100, abs=0.11)
    assert reader.warning == ""
    np.testing.assert_allclose(times(path)[:-1], np.arange(1000) / 10, atol=1e-4)


@pytest.mark.parametrize("starts", [(0.0, 0.0), (500.0, 20.0)])
def test_concatenated_recordings_follow_each_other(tmp_path: Path, starts: tuple[float, float]) -> None:
    parts = [
        write_clip(
            tmp_path / f"{k}.ts",
            grey_frames([level] * 40),
            stamps=start + np.arange(40) / 10,
            codec="libx264",
        )
        for k, (start, level) in enumerate(zip(starts, (60, 180), strict=True))
    ]
    path = joined(tmp_path / "a.ts", *parts)
    reader = read(path)
    assert reader.duration == pytest.approx(8, abs=0.11)
    assert "read as continuous" in reader.warning
    levels = reader.levels  # type: ignore[attr-defined]
    assert abs(levels[35] - 60) < 4 and abs(levels[45] - 180) < 4


def test_the_sound_may_be_longer_than_the_picture(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", grey_frames(range(40)), fps=10, sound=12)
    reader = read(path)
    assert (reader.duration, reader.warning) == (pytest.approx(4, abs=0.11), "")


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "ffv1"), (".avi", "mpeg4")])
def test_a_file_cut_short_is_truncated(tmp_path: Path, suffix: str, codec: str) -> None:
    frames = [np.random.default_rng(k).integers(0, 256, (32, 32, 3), dtype=np.uint8) for k in range(100)]
    path = write_clip(tmp_path / f"a{suffix}", frames, fps=10, sound=10, codec=codec)
    assert read(path).warning == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    reader = read(path)
    assert reader.truncated
    assert "earlier than its header declares" in reader.warning


def test_frames_without_timestamps_are_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.h264", grey_frames(range(50)), fps=25, codec="libx264")
    reader = read(path)
    assert reader.duration == pytest.approx(2, abs=0.11)
    assert reader.warning == "50 frames have no timestamp; read at 25 frames per second"


def test_a_single_wrong_time_delays_no_frame_after_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", grey_frames(range(100, 160)), fps=10)
    timeline = VideoReader(path)._timeline

    def frame(stamp: int) -> Any:
        return SimpleNamespace(pts=stamp, dts=stamp, duration=100)

    stamps = [*range(0, 2000, 100), 9000, *range(2100, 6000, 100)]
    shown = [timeline.show(frame(stamp)) for stamp in stamps]
    assert shown[:20] == pytest.approx([k / 10 for k in range(20)])
    assert timeline.jumps == []
    assert timeline.misplaced == 39
    assert timeline.show(frame(9500)) == pytest.approx(9.5)
