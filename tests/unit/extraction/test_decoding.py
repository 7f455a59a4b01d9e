"""Video files to frames: rates, sizes, rotation, and files in every state."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from clips import grey_frames, noise_frames, write_clip, write_sound
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_bench.errors import DataError
from tal_bench.extraction.decoding import VideoReader, thumbnails


def levels(path: Path, **given: object) -> list[int]:
    """Brightness of every frame."""
    return [int(frame[0, 0, 0]) for frame in VideoReader(path, **given)]  # type: ignore[arg-type]


def test_frames_are_unchanged(tmp_path: Path) -> None:
    frames = noise_frames(12)
    reader = VideoReader(write_clip(tmp_path / "a.mkv", frames))
    np.testing.assert_array_equal(list(reader), frames)
    assert (reader.frames, reader.decoded, reader.truncated, reader.warning) == (12, 12, False, "")
    assert reader.fps == 30
    assert reader.duration == pytest.approx(0.4)


def test_resampling_uses_the_middle_of_each_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", grey_frames(range(0, 120, 4)))
    assert levels(path) == list(range(0, 120, 4))
    assert levels(path, fps=10) == list(range(4, 120, 12)), "the second of every three"
    assert levels(path, fps=60) == [level for level in range(0, 120, 4) for _ in range(2)]
    assert len(levels(path, fps=8)) == 8


def test_variable_rates_follow_the_timestamps(tmp_path: Path) -> None:
    stamps = [0.0, 0.1, 0.2, 1.0, 1.04, 1.08, 2.0]
    path = write_clip(tmp_path / "a.mkv", grey_frames(range(10, 80, 10)), stamps=stamps)
    shown = levels(path, fps=10)
    for k, level in enumerate(shown[:20]):
        moment = (k + 0.5) / 10
        assert level == 10 * sum(stamp <= moment for stamp in stamps), moment
    assert len(shown) >= 20


@given(
    gaps=st.lists(st.integers(1, 400), min_size=1, max_size=12), fps=st.sampled_from([3.0, 10.0, 25.0, 60.0])
)
@settings(max_examples=15, deadline=None)
def test_any_timestamps(tmp_path_factory: pytest.TempPathFactory, gaps: list[int], fps: float) -> None:
    stamps = [0.0, *(total / 1000 for total in itertools.accumulate(gaps))]
    frames = grey_frames(range(5, 5 + 5 * len(stamps), 5))
    path = write_clip(tmp_path_factory.mktemp("clip") / "a.mkv", frames, stamps=stamps)
    for k, level in enumerate(levels(path, fps=fps)):
        moment = (k + 0.5) / fps
        expected = 5 * sum(stamp < moment - 1e-6 for stamp in stamps)
        assert level in (expected, expected + 5 * any(abs(s - moment) < 2e-3 for s in stamps)), moment


def test_jumps_in_the_timestamps_are_skipped(tmp_path: Path) -> None:
    stamps = [0.0, 0.1, 0.2, 50_000.3, 50_000.4]
    path = write_clip(tmp_path / "a.mkv", grey_frames(range(10, 60, 10)), stamps=stamps)
    assert len(levels(path, fps=10)) < 20


def test_frames_are_scaled_and_centre_cropped(tmp_path: Path) -> None:
    frame = np.zeros((60, 120, 3), np.uint8)
    frame[:, :30, 0] = frame[:, 90:, 1] = 255  # red and green quarters on the sides
    frame[:, 30:90] = 100
    path = write_clip(tmp_path / "a.mkv", [frame] * 2)
    (square, *_) = VideoReader(path, size=(30, 30))
    assert square.shape == (30, 30, 3)
    assert abs(square[:, 3:-3].astype(int) - 100).max() < 6, "the sides are cut off"
    (tall, *_) = VideoReader(path, size=(120, 40))
    assert tall.shape == (120, 40, 3)
    (wide, *_) = VideoReader(path, size=(32, 128))
    assert wide.shape == (32, 128, 3)
    assert wide[16, 2, 0] > 200 > wide[16, 2, 1]
    assert wide[16, -3, 1] > 200 > wide[16, -3, 0]


@pytest.mark.parametrize("angle", [-90, 90, 180])
def test_rotation_in_the_metadata_is_applied(tmp_path: Path, angle: int) -> None:
    frame = np.zeros((32, 64, 3), np.uint8)
    frame[:16, :32, 0] = 250  # red at the top left
    path = write_clip(tmp_path / "a.mp4", [frame] * 3, codec="libx264", rotation=angle)
    matrix = path.read_bytes().partition(b"tkhd")[2][40:76]
    first = [int.from_bytes(matrix[k : k + 4], "big", signed=True) >> 16 for k in (0, 4, 12, 16)]
    shown = {  # x' = a x + c y, y' = b x + d y with y downwards: where the top left corner comes to lie
        (0, 1, -1, 0): "top right",
        (0, -1, 1, 0): "bottom left",
        (-1, 0, 0, -1): "bottom right",
    }[(first[0], first[1], first[2], first[3])]
    upright = next(iter(VideoReader(path)))
    height, width = upright.shape[:2]
    assert (height, width) == ((32, 64) if angle == 180 else (64, 32))
    y, x = height // 4 + height // 2 * ("bottom" in shown), width // 4 + width // 2 * ("right" in shown)
    assert upright[y, x, 0] > 180
    assert upright[height - 1 - y, width - 1 - x, 0] < 80
    scaled = next(iter(VideoReader(path, size=(48, 16))))
    assert scaled.shape == (48, 16, 3)


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "ffv1"), (".avi", "mpeg4")])
def test_truncated_files_are_decoded_to_their_end(tmp_path: Path, suffix: str, codec: str) -> None:
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(90)]
    whole = write_clip(tmp_path / f"whole{suffix}", frames, codec=codec)
    part = tmp_path / f"part{suffix}"
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    reader = VideoReader(part)
    count = len(list(reader))
    assert 20 < count < 60
    assert reader.truncated
    assert "earlier than its header declares" in reader.warning


def test_thumbnails_are_spread_evenly(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", grey_frames(range(0, 120, 4)))
    pictures = thumbnails(path, 1.0, 3, (16, 24))
    assert [p.shape for p in pictures] == [(16, 24, 3)] * 3
    assert [int(p[0, 0, 0]) // 20 for p in pictures] in ([0, 3, 5], [1, 3, 5])


def test_metadata_may_be_invalid_text(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", noise_frames(3))
    content = path.read_bytes()
    assert b"Lavf" in content
    path.write_bytes(content.replace(b"Lavf", b"La\xdcf"))
    assert len(list(VideoReader(path))) == 3


def test_files_that_are_not_videos_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video at all\n" * 40)
    (tmp_path / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(4000))
    write_sound(tmp_path / "sound.mp4")
    for name, message in (
        ("empty.mp4", "empty file, 0 bytes"),
        ("text.mp4", "not a readable video"),
        ("noise.mkv", "not a readable video"),
        ("sound.mp4", "no video stream, only audio"),
        ("nowhere.mp4", "no such file"),
        (".", "not a file"),
    ):
        with pytest.raises(DataError, match=message):
            VideoReader(tmp_path / name)
