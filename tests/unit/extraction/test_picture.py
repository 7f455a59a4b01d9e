"""Pictures as a player shows them: upright, of square pixels, of the stream that is shown."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import grey_frames, set_matrix, write_clip
from ffmpeg_clips import ffmpeg, needs_ffmpeg, probe

from tal_bench.extraction.decoding import VideoReader

MATRICES = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0),
            (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]  # fmt: skip
"""The four rotations, then the same with a flip: a, b, c, d of x' = a x + c y, y' = b x + d y."""


def coloured(height: int = 32, width: int = 64) -> np.ndarray:
    """Return a picture whose corners differ."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2] = 240
    frame[: height // 2, width // 2 :] = 160
    frame[height // 2 :, : width // 2] = 80
    return frame


def corners(pixels: np.ndarray) -> list[int]:
    """Return the brightness at the four corners, row by row."""
    height, width = pixels.shape[:2]
    rows, columns = (height // 8, height - 1 - height // 8), (width // 8, width - 1 - width // 8)
    return [round(float(pixels[y, x].mean()) / 80) for y in rows for x in columns]


@pytest.mark.parametrize("matrix", MATRICES)
def test_rotations_and_flips_are_applied(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    path = set_matrix(write_clip(tmp_path / "a.mp4", [coloured()] * 3, codec="libx264"), matrix)
    a, b, c, d = matrix
    places = {}
    for brightness, (x, y) in zip((3, 2, 1, 0), ((-1, -1), (1, -1), (-1, 1), (1, 1)), strict=True):
        places[(b * x + d * y, a * x + c * y)] = brightness
    expected = [places[place] for place in ((-1, -1), (-1, 1), (1, -1), (1, 1))]
    upright = next(iter(VideoReader(path)))
    assert upright.shape == ((32, 64, 3) if a else (64, 32, 3))
    assert corners(upright) == expected
    scaled = next(iter(VideoReader(path, size=(48, 24))))
    assert scaled.shape == (48, 24, 3)
    if not a:
        assert corners(scaled) == expected


@needs_ffmpeg
@pytest.mark.parametrize("matrix", MATRICES)
def test_rotations_and_flips_are_those_of_ffmpeg(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    path = set_matrix(write_clip(tmp_path / "a.mp4", [coloured()] * 3, codec="libx264"), matrix)
    ours = next(iter(VideoReader(path)))
    raw = ffmpeg("-i", path, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    assert abs(np.frombuffer(raw, np.uint8).reshape(ours.shape).astype(int) - ours).max() < 12


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [
        (Fraction(4, 3), (48, 85)),
        (Fraction(1, 2), (48, 32)),
        (Fraction(1), (48, 64)),
        (Fraction(4000), (48, 64)),
    ],
)
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_pixels_are_made_square(
    aspect: Fraction, shape: tuple[int, int], suffix: str, tmp_path: Path
) -> None:
    frame = coloured(48, 64)
    path = write_clip(tmp_path / f"a{suffix}", [frame] * 3, codec="libx264", aspect=aspect)
    (first, *_) = VideoReader(path)
    assert first.shape[:2] == shape
    assert corners(first) == [3, 2, 1, 0]
    (covered, *_) = VideoReader(path, size=(48, shape[1]))
    np.testing.assert_array_equal(covered, first) if aspect not in (1, 4000) else None


@needs_ffmpeg
@pytest.mark.parametrize("aspect", ["16/11", "12/11", "8/9", "1/3"])
def test_the_aspect_ratio_is_that_of_ffprobe(aspect: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    source = "testsrc=size=72x58:rate=10:duration=1"
    ffmpeg("-f", "lavfi", "-i", source, "-vf", f"setsar={aspect}", "-c:v", "ffv1", path)
    stream = probe(path, "stream=display_aspect_ratio")["streams"][0]
    wide, high = map(int, stream["display_aspect_ratio"].split(":"))
    height, width = next(iter(VideoReader(path))).shape[:2]
    assert width / height == pytest.approx(wide / high, abs=0.5 / height)


def test_a_turned_picture_of_oblong_pixels(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [coloured()] * 3, codec="libx264", aspect=Fraction(2))
    first = next(iter(VideoReader(set_matrix(path, (0, 1, -1, 0)))))
    assert first.shape == (128, 32, 3)
    assert corners(first) == [1, 3, 0, 2]


def test_the_default_stream_is_read(tmp_path: Path) -> None:
    from av.stream import Disposition

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        kinds = (Disposition.attached_pic, Disposition(0), Disposition.default)
        streams = [container.add_stream("ffv1", rate=10) for _ in kinds]
        for stream, kind in zip(streams, kinds, strict=True):
            stream.height, stream.width, stream.pix_fmt = 32, 32, "bgr0"
            stream.disposition = kind
        for _ in range(5):
            for k, stream in enumerate(streams):
                (pixels,) = grey_frames([60 * (k + 1)])
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    with av.open(str(path)) as container:
        flags = [bool(stream.disposition & Disposition.default) for stream in container.streams.video]
    assert flags == [False, False, True], "the clip is what it is meant to be"
    assert {int(frame[0, 0, 0]) for frame in VideoReader(path)} == {180}


def test_the_size_of_the_first_frame_is_kept(tmp_path: Path) -> None:
    parts = []
    for k, size in enumerate(((32, 32), (48, 64))):
        path = write_clip(tmp_path / f"{k}.ts", grey_frames([90 + 90 * k] * 20, *size), codec="libx264")
        parts.append(path.read_bytes())
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    frames = list(VideoReader(tmp_path / "a.ts"))
    assert {frame.shape for frame in frames} == {(32, 32, 3)}
    assert abs(int(frames[-1][16, 16, 0]) - 180) < 5
