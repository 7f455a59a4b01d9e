"""Write small video files for tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer

TICK = Fraction(1, 1000)


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    fps: int = 30,
    stamps: Sequence[float] | None = None,
    codec: str = "ffv1",
    rotation: int = 0,
    aspect: Fraction | None = None,
    sound: float = 0,
) -> Path:
    """Encode RGB frames [H, W, 3], lossless by default.

    Args:
        path: File to be written.
        frames: Frames of one size.
        fps: Frames per second.
        stamps: Timestamps in seconds.
        codec: Name of an encoder.
        rotation: Degrees in the metadata, counter-clockwise.
        aspect: Width / height of a pixel.
        sound: Seconds of silence, which begins at 0; 0 for no second stream.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        if stamps is not None:
            stream.codec_context.time_base = TICK
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if sound:
            _add_sound(container, sound)
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
        _add_sound(container, 0.6)
    return path


def _add_sound(container: OutputContainer, seconds: float) -> None:
    """Write silence; uncompressed in MKV, where the encoder of AAC would delay the picture as well."""
    plain = container.format.name == "matroska"
    kind, dtype = ("s16", np.int16) if plain else ("fltp", np.float32)
    stream = container.add_stream("pcm_s16le" if plain else "aac", rate=16000, layout="mono")
    for k in range(round(seconds * 16000 / 1024)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype), format=kind, layout="mono")
        frame.rate, frame.pts = 16000, 1024 * k
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def set_edits(path: Path, edits: Sequence[tuple[float, float]]) -> Path:
    """Replace the edit list of an MP4 file of one stream whose metadata follow the pictures.

    Args:
        path: File to be changed.
        edits: (seconds shown, seconds of the stored video at which the part begins, -1 for nothing shown).
    """
    content = path.read_bytes()
    movie, media = (_time_scale(content, box) for box in (b"mvhd", b"mdhd"))
    old = content.index(b"elst") - 4
    end = old + int.from_bytes(content[old : old + 4], "big")
    first = int.from_bytes(content[old + 20 : old + 24], "big")  # the time of the first picture
    entries = b"".join(
        struct.pack(">IiI", round(length * movie), round(at * media) + first if at >= 0 else -1, 1 << 16)
        for length, at in edits
    )
    box = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    content = content[:old] + box + content[end:]
    for name in (b"moov", b"trak", b"edts"):
        at = content.index(name) - 4
        size = int.from_bytes(content[at : at + 4], "big") + len(box) - (end - old)
        content = content[:at] + size.to_bytes(4, "big") + content[at + 4 :]
    total = round(sum(length for length, _ in edits) * movie).to_bytes(4, "big")
    for name, skip in ((b"mvhd", 20), (b"tkhd", 24)):
        at = content.index(name) + skip
        content = content[:at] + total + content[at + 4 :]
    path.write_bytes(content)
    return path


def _time_scale(content: bytes, box: bytes) -> int:
    at = content.index(box) + 16
    return int.from_bytes(content[at : at + 4], "big")


def set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Set a, b, c, d of the display matrix of an MP4 file of one stream: x' = a x + c y, y' = b x + d y."""
    content, (a, b, c, d) = path.read_bytes(), matrix
    at = content.index(b"tkhd") + 44
    fixed = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:at] + fixed + content[at + 36 :])
    return path
