"""Times of clips of odd timelines, compared with those of `ffmpeg`; prints the table of docs/video.md.

python tests/benchmarks/video_times.py
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clips import grey_frames, set_matrix, write_clip
from ffmpeg_clips import BY_TIMESTAMP, CLIPS, STREAMS, Reference, numbers, probe, reference

from tal_bench.extraction.decoding import VideoReader


@dataclass(frozen=True)
class Comparison:
    """Times of a clip beside those of ffmpeg.

    Attributes:
        frames: Numbers of frames: ours, ffmpeg's.
        times: Largest difference between the times of frames with the same number, in seconds.
        ends: Ends of the video: ours, ffmpeg's.
        warning: Remark on the file.
    """

    frames: tuple[int, int]
    times: float
    ends: tuple[float, float]
    warning: str


def compare(path: Path, expected: Reference) -> Comparison:
    """Compare the times of a clip of numbered frames, in order, with the reference."""
    reader, times, shown = VideoReader(path), [], []
    for time, frame in reader.pictures():
        times.append(time)
        if frame is not None:
            shown.append(frame.to_ndarray(format="gray"))
    found = list(zip(numbers(np.stack(shown)).tolist(), times, strict=False))
    wanted = list(zip(expected.numbers.tolist(), expected.times.tolist(), strict=True))
    if [n for n, _ in found] == [n for n, _ in wanted]:
        worst = max(abs(a - b) for (_, a), (_, b) in zip(found, wanted, strict=True))
    else:
        worst = float("inf")
    list(VideoReader(path, fps=10, size=(8, 8)))
    return Comparison((len(found), len(wanted)), worst, (times[-1], expected.end), reader.warning)


def sizes(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield a description, our size, and that of ffprobe, of clips that are turned or have oblong pixels."""
    for matrix, turned in (((1, 0, 0, 1), "upright"), ((0, 1, -1, 0), "turned by 90°"),
                           ((-1, 0, 0, -1), "turned by 180°"), ((0, -1, 1, 0), "turned by 270°"),
                           ((-1, 0, 0, 1), "flipped"), ((0, 1, 1, 0), "turned and flipped")):  # fmt: skip
        for aspect in (Fraction(1), Fraction(16, 11)):
            path = write_clip(folder / "a.mp4", grey_frames([90] * 3, 48, 64), codec="libx264", aspect=aspect)
            height, width = next(iter(VideoReader(set_matrix(path, matrix)))).shape[:2]
            entries = "stream=width,height,sample_aspect_ratio:stream_side_data=rotation"
            stream = probe(path, entries)["streams"][0]
            pixel = Fraction(stream["sample_aspect_ratio"].replace(":", "/"))
            wanted = [round(stream["width"] * pixel), stream["height"]]
            turns = round(abs(int(stream.get("side_data_list", [{}])[0].get("rotation", 0))) / 90)
            wanted = wanted[::-1] if turns % 2 else wanted
            pixels = f", pixels {aspect.numerator}:{aspect.denominator}" * (aspect != 1)
            yield turned + pixels, f"{width} × {height}", " × ".join(map(str, wanted))


def main() -> None:
    """Print one row per clip."""
    print("| clip | frames | duration, s | ffmpeg | largest difference of a frame's time, s |")
    print("|---|---:|---:|---:|---:|")
    for name, make in CLIPS.items():
        if len(sys.argv) > 1 and sys.argv[1] not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = make(Path(folder))
            expected = reference(path, STREAMS.get(name, 0), by_timestamp=name in BY_TIMESTAMP)
            result = compare(path, expected)
        ours, theirs = result.frames
        count = f"{ours}" if ours == theirs else f"{ours} ({theirs})"
        ends = " | ".join(f"{end:.2f}" for end in result.ends)
        print(f"| {name} | {count} | {ends} | {result.times:.4f} |")


def print_sizes() -> None:
    """Print the sizes of clips that are turned or have oblong pixels."""
    print("\n| clip of 64 × 48 | size | ffprobe |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for row in sizes(Path(folder)):
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
    print_sizes()
