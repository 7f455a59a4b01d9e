"""Times of clips of odd timelines, compared with those of `ffmpeg`; prints the table of docs/video.md.

python tests/benchmarks/video_times.py
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffmpeg_clips import BY_TIMESTAMP, CLIPS, STREAMS, Reference, numbers, reference

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


if __name__ == "__main__":
    main()
