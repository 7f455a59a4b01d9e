"""Write small video files for tests."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TICK = Fraction(1, 1000)


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    fps: int = 30,
    stamps: Sequence[float] | None = None,
    codec: str = "ffv1",
    rotation: int = 0,
) -> Path:
    """Encode RGB frames [H, W, 3], lossless by default; ``stamps`` are timestamps in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        if stamps is not None:
            stream.codec_context.time_base = TICK
        if rotation:
            stream.set_display_rotation(rotation)
        for k, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt)
            if stamps is not None:
                frame.pts, frame.time_base = round(stamps[k] * 1000), TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def grey_frames(levels: Sequence[int], height: int = 32, width: int = 32) -> list[np.ndarray]:
    """Return uniform grey frames."""
    return [np.full((height, width, 3), level, np.uint8) for level in levels]


def noise_frames(count: int, size: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Return frames that all differ, and are smooth enough for optical flow."""
    random = np.random.default_rng(seed)
    big = np.repeat(np.repeat(random.integers(0, 256, (24, 24 + count, 3), dtype=np.uint8), 4, 0), 4, 1)
    return [big[:size, k : k + size] for k in range(count)]


def write_sound(path: Path) -> Path:
    """Write a file with an audio stream only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for k in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 16000, 1024 * k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
