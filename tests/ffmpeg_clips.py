"""Clips of odd timelines made with `ffmpeg`, and what `ffmpeg` and `ffprobe` say of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="ffmpeg and ffprobe are not installed"
)

BLOCK, COLUMNS, ROWS = 16, 4, 3
WIDTH, HEIGHT = BLOCK * COLUMNS, BLOCK * ROWS
GOP = 50
X264 = (
    "-c:v",
    "libx264",
    "-pix_fmt",
    "yuv420p",
    "-g",
    str(GOP),
    "-keyint_min",
    str(GOP),
    "-sc_threshold",
    "0",
)
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "3", "-g", "12", "-bf", "2")
SOUND = ("-c:a", "aac", "-b:a", "64k")
GAP = "setpts=PTS+gte(N\\,40)*150/TB"
EXACT = ("-fps_mode", "passthrough", "-enc_time_base", "1:1000")


def numbered(count: int) -> bytes:
    """Return raw grey frames that show their number in binary, as black and white blocks."""
    bits = np.arange(count)[:, None] >> np.arange(ROWS * COLUMNS) & 1
    blocks = (16 + 220 * bits).astype(np.uint8).reshape(count, ROWS, COLUMNS)
    return blocks.repeat(BLOCK, 1).repeat(BLOCK, 2).tobytes()


def numbers(frames: Any) -> Any:
    """Return the numbers [N] that grey frames [N, H, W] show."""
    blocks = frames.reshape(len(frames), ROWS, BLOCK, COLUMNS, BLOCK).mean((2, 4)).reshape(len(frames), -1)
    return (blocks > 128) @ (1 << np.arange(ROWS * COLUMNS))


def ffmpeg(*words: str | Path, stdin: bytes | None = None) -> bytes:
    """Run ffmpeg, overwriting files; return its standard output."""
    command = ["ffmpeg", "-v", "error", "-y", *map(str, words)]
    return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=True, timeout=60).stdout


def encode(
    path: Path,
    *options: str,
    count: int = 80,
    fps: int = 10,
    sound: float = 0,
    delay: float = 0,
    late_sound: float = 0,
) -> Path:
    """Encode numbered frames.

    Args:
        path: File to be written.
        options: Options of ffmpeg for the output.
        count: Number of frames.
        fps: Frames per second.
        sound: Seconds of sound, 0 for none.
        delay: Seconds by which the picture begins late.
        late_sound: Seconds by which the sound begins late.
    """
    raw = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(fps), "-i", "-")
    if not sound:
        ffmpeg(*raw, *options, path, stdin=numbered(count))
        return path
    picture, tone = path.with_name("picture.mkv"), path.with_name("tone.mkv")
    muxing = [k for k, word in enumerate(options) if word in ("-output_ts_offset", "-movflags")]
    codec = options[: min(muxing, default=len(options))]
    ffmpeg(*raw, *codec, picture, stdin=numbered(count))
    ffmpeg("-f", "lavfi", "-i", f"sine=440:r=16000:d={sound}", *SOUND, tone)
    inputs = ("-itsoffset", str(delay), "-i", picture, "-itsoffset", str(late_sound), "-i", tone)
    ffmpeg(*inputs, "-c", "copy", *options[len(codec) :], path)
    return path


def copied(path: Path, source: Path, *before: str, after: Sequence[str] = ()) -> Path:
    """Write a lossless copy of a part, or of other streams, of a file."""
    ffmpeg(*before, "-i", source, "-c", "copy", *after, path)
    return path


def joined(path: Path, *parts: Path) -> Path:
    """Write the bytes of files one after the other."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@dataclass(frozen=True)
class Reference:
    """What ffmpeg and ffprobe say of a file.

    Attributes:
        times: Seconds at which the frames are shown, counted as ffmpeg does from the start of the file.
        numbers: The numbers that the frames show.
        end: Seconds at which the last frame ends.
    """

    times: Any
    numbers: Any
    end: float


def reference(path: Path, stream: int = 0, *, by_timestamp: bool = False) -> Reference:
    """Decode a file with ffmpeg.

    Args:
        path: File of numbered frames.
        stream: Which of the video streams.
        by_timestamp: Whether times are the timestamps that ffprobe shows, less the start of the file.
    """
    command = [
        "ffmpeg",
        "-v",
        "info",
        "-nostdin",
        "-i",
        str(path),
        "-map",
        f"0:v:{stream}",
        "-vf",
        "showinfo",
    ]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    command += [
        "-map",
        "0:v",
        "-map",
        "0:a?",
        "-c",
        "copy",
        "-f",
        "null",
        "-",
    ]  # the timeline is that of all streams
    result = subprocess.run(command, capture_output=True, check=True, timeout=60)
    times = [float(t) for t in re.findall(rb"n: *\d+ pts: *\S+ pts_time:(\S+)", result.stderr)]
    frames = np.frombuffer(result.stdout, np.uint8).reshape(-1, HEIGHT, WIDTH)
    probed = probe(path, "format=start_time:frame=pts_time,duration_time,pkt_duration_time", f"v:{stream}")
    if by_timestamp:
        start = float(probed["format"]["start_time"])
        times = [float(frame["pts_time"]) - start for frame in probed["frames"]]
    last = probed["frames"][-1]
    length = float(last.get("duration_time") or last.get("pkt_duration_time") or 0)
    return Reference(np.array(times), numbers(frames), times[-1] + length)


def probe(path: Path, entries: str, stream: str = "v:0") -> dict[str, Any]:
    """Return entries of a file as ffprobe shows them."""
    command = ["ffprobe", "-v", "error", "-select_streams", stream, "-show_entries", entries, "-of", "json"]
    output = subprocess.run([*command, str(path)], capture_output=True, check=True, timeout=60).stdout
    content: dict[str, Any] = json.loads(output)
    return content


def _cut(folder: Path, name: str, *options: str, sound: float = 0) -> Path:
    whole = encode(folder / "whole.mp4", *X264, "-bf", "2", count=200, fps=25, sound=sound)
    return copied(folder / name, whole, "-ss", "3", after=options)


def _two(folder: Path) -> Path:
    first = encode(folder / "first.mkv", *X264, count=30)
    second = encode(folder / "second.mkv", *X264, delay=0, count=80)
    path = folder / "two.mkv"
    ffmpeg("-i", first, "-i", second, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "0",
           "-disposition:v:1", "default", path)  # fmt: skip
    return path


def _without_start(path: Path, packets: int, **given: Any) -> Path:
    """Write an MPEG transport stream that begins in the middle of a group of pictures."""
    whole = encode(path.with_name("whole.ts"), *X264, **given)
    path.write_bytes(whole.read_bytes()[188 * packets :])
    return path


def _cover(folder: Path, name: str) -> Path:
    film = encode(folder / "film.mp4", *X264, sound=8)
    cover = encode(folder / "cover.png", "-frames:v", "1", count=1)
    path = folder / name
    ffmpeg("-i", cover, "-i", film, "-map", "0", "-map", "1", "-c", "copy",
           "-disposition:v:0", "attached_pic", path)  # fmt: skip
    return path


def _live(path: Path, *options: str, **given: Any) -> Path:
    """Write through a pipe, so that nothing is declared in the header afterwards."""
    whole = encode(path.with_name("whole.mkv"), *options, **given)
    path.write_bytes(ffmpeg("-i", whole, "-c", "copy", "-f", "matroska", "-"))
    return path


def _joined(folder: Path, *, sound: float = 0, offsets: Sequence[float] = (0, 0)) -> Path:
    parts = []
    for k, offset in enumerate(offsets):
        part = encode(folder / f"part{k}.ts", *X264, "-output_ts_offset", str(offset), sound=sound)
        parts.append(part)
    return joined(folder / "a.ts", *parts)


Maker = Callable[[Path], Path]
CLIPS: dict[str, Maker] = {
    "constant rate, MP4": lambda d: encode(d / "a.mp4", *X264, "-bf", "3", count=60, fps=25),
    "B-frames, AVI": lambda d: encode(d / "a.avi", "-c:v", "mpeg4", "-bf", "2", fps=25),
    "rest of 150 s, MP4": lambda d: encode(d / "a.mp4", *X264, "-bf", "0", "-vf", GAP, *EXACT),
    "rest of 150 s, B-frames, MP4": lambda d: encode(d / "a.mp4", *X264, "-bf", "2", "-vf", GAP, *EXACT),
    "rest of 150 s, MKV": lambda d: encode(d / "a.mkv", *X264, "-vf", GAP, *EXACT),
    "rest of 150 s, MKV without duration": lambda d: _live(d / "a.mkv", *X264, "-vf", GAP, *EXACT),
    "rest of 150 s, MPEG-TS": lambda d: encode(d / "a.ts", *X264, "-vf", GAP, *EXACT),
    "rest of 150 s, fragmented MP4": lambda d: encode(
        d / "a.mp4", *X264, "-vf", GAP, *EXACT, "-movflags", "frag_keyframe+empty_moov"
    ),
    "rest of 150 s with sound, MPEG-TS": lambda d: encode(
        d / "a.ts", *X264, "-vf", GAP, *EXACT, sound=158
    ),
    "rest of 4000 s, MP4": lambda d: encode(
        d / "a.mp4", *X264, "-vf", GAP.replace("150", "4000"), *EXACT, count=60
    ),
    "irregular rate, MKV": lambda d: encode(
        d / "a.mkv", *X264, "-vf", "setpts=(N*0.1+0.07*sin(N))/TB", *EXACT
    ),
    "irregular rate, hidden frames (VP9), WebM": lambda d: encode(
        d / "a.webm", "-c:v", "libvpx-vp9", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "100k",
        "-vf", "setpts=(N*0.1+0.07*sin(N))/TB", *EXACT,
    ),
    "picture 2 s after the sound, MKV": lambda d: encode(d / "a.mkv", *X264, sound=8, delay=2, fps=25),
    "picture 2 s after the sound, MP4": lambda d: encode(d / "a.mp4", *X264, sound=8, delay=2, fps=25),
    "picture 2 s after the sound, MPEG-TS": lambda d: encode(d / "a.ts", *X264, sound=8, delay=2, fps=25),
    "picture 2 s after the sound, FLV": lambda d: encode(
        d / "a.flv", "-c:v", "flv1", sound=8, delay=2, fps=25
    ),
    "picture 2 s after 0, no sound, MP4": lambda d: copied(
        d / "a.mp4", encode(d / "whole.mp4", *X264), "-itsoffset", "2"
    ),
    "sound 2 s after the picture, MP4": lambda d: encode(d / "a.mp4", *X264, sound=4, late_sound=2),
    "sound longer than the picture, MKV": lambda d: encode(d / "a.mkv", *X264, sound=20),
    "cut losslessly, MP4": lambda d: _cut(d, "a.mp4"),
    "cut losslessly with sound, MP4": lambda d: _cut(d, "a.mp4", "-t", "3.3", sound=8),
    "cut losslessly, MKV": lambda d: _cut(d, "a.mkv", sound=8),
    "cut losslessly, MPEG-TS": lambda d: _cut(d, "a.ts", sound=8),
    "no keyframe at the start, MPEG-TS": lambda d: _without_start(d / "a.ts", 40, count=160, sound=16),
    "starts at 1000 s, MKV": lambda d: encode(d / "a.mkv", *X264, "-output_ts_offset", "1000"),
    "33 bit wrap near the start, MPEG-TS": lambda d: encode(
        d / "a.ts", *X264, "-output_ts_offset", "95437", sound=8
    ),
    "33 bit wrap after 80 s, MPEG-TS": lambda d: encode(
        d / "a.ts", *X264, "-output_ts_offset", "95360", count=1000
    ),
    "concatenated, MPEG-TS": _joined,
    "concatenated with sound, MPEG-TS": lambda d: _joined(d, sound=8.2, offsets=(0, 0, 0)),
    "concatenated, 500 s and 20 s, MPEG-TS": lambda d: _joined(d, offsets=(500, 20)),
    "concatenated, 20 s and 500 s, MPEG-TS": lambda d: _joined(d, sound=8, offsets=(20, 500)),
    "second of two streams is the default, MKV": _two,
    "cover art, MP4": lambda d: _cover(d, "a.mp4"),
    "fragmented, MP4": lambda d: encode(d / "a.mp4", *X264, "-movflags", "frag_keyframe+empty_moov"),
    "interlaced (MPEG-2), MPEG-PS": lambda d: encode(
        d / "a.mpg", *MPEG2, "-flags", "+ilme+ildct", "-top", "1", fps=25
    ),
    "interlaced (H.264), MKV": lambda d: encode(d / "a.mkv", *X264, "-flags", "+ilme+ildct", fps=25),
    "WMV": lambda d: encode(d / "a.wmv", "-c:v", "wmv2", sound=8, fps=25),
    "MOV, 29.97": lambda d: encode(d / "a.mov", *X264, "-r", "30000/1001", fps=30),
}  # fmt: skip
"""How each kind of clip is made in an empty folder."""

STREAMS = {"second of two streams is the default, MKV": 1}
"""Number, among the video streams, of the one that is shown, where it is not the first."""
BY_TIMESTAMP = ("rest of 150 s, MPEG-TS", "rest of 150 s with sound, MPEG-TS")
"""Clips of which `ffprobe` is the reference: `ffmpeg` leaves out a rest of more than 10 s in MPEG-TS."""
