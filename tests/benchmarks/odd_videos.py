"""Reads video files in every odd state, made with `ffmpeg`; prints how many were read or refused in one line.

python tests/benchmarks/odd_videos.py [FOLDER]
"""

from __future__ import annotations

import collections
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffmpeg_clips import X264, encode, ffmpeg, joined

FORMATS = {
    "mp4": (*X264, "-movflags", "+faststart"),
    "mkv": X264,
    "ts": X264,
    "avi": ("-c:v", "mpeg4", "-bf", "2"),
    "webm": ("-c:v", "libvpx", "-b:v", "200k"),
    "mpg": ("-c:v", "mpeg2video", "-bf", "2", "-r", "25"),
    "flv": ("-c:v", "flv1"),
    "wmv": ("-c:v", "wmv2"),
    "mov": ("-c:v", "mjpeg"),
}
NOISE = "testsrc2=size=160x120:rate={rate}:duration={seconds}"
PICTURES = """
one.mp4 64x48 -frames:v 1 X264
one.mkv 64x48 -frames:v 1 X264
one.png 64x48 -frames:v 1
one.jpg 64x48 -frames:v 1
two.gif 64x48
pixel.mkv 1x1 -c:v ffv1
pixel.avi 1x1 -c:v rawvideo -pix_fmt bgr24
pixel.mov 1x1 -c:v png
line.mkv 1x200 -c:v ffv1
row.mkv 3000x1 -c:v ffv1
odd.mp4 33x17 -c:v libx264 -pix_fmt yuv444p
odd.webm 33x17 -c:v libvpx-vp9
odd.mov 33x17 -c:v mjpeg -pix_fmt yuvj420p
odd.mkv 101x7 -c:v ffv1
deep.mp4 64x48 -c:v libx264 -pix_fmt yuv420p10le
deep.mkv 64x48 -c:v libx265 -x265-params log-level=0 -pix_fmt yuv420p10le
deep.webm 64x48 -c:v libvpx-vp9 -pix_fmt yuv420p10le
deep16.mkv 64x48 -c:v ffv1 -pix_fmt gray16le
alpha.webm 64x48 -c:v libvpx -pix_fmt yuva420p
alpha.mov 64x48 -c:v qtrle -pix_fmt argb
alpha.mkv 64x48 -c:v ffv1 -pix_fmt bgra
prores.mov 64x48 -c:v prores_ks -pix_fmt yuva444p10le
grey.mkv 64x48 -c:v ffv1 -pix_fmt gray
grey.mp4 64x48 -c:v libx264 -pix_fmt gray
bits.avi 64x48 -c:v rawvideo -pix_fmt monob
palette.avi 64x48 -c:v rawvideo -pix_fmt pal8
huge.mkv 64x48 X264 -output_ts_offset 1000000
huge.mp4 64x48 X264 -output_ts_offset 100000
huge.ts 64x48 X264 -output_ts_offset 90000
huge.avi 64x48 -c:v mpeg4 -output_ts_offset 100
negative.mp4 64x48 X264 -avoid_negative_ts disabled -output_ts_offset -1
negative.ts 64x48 X264 -avoid_negative_ts disabled -muxdelay 0 -output_ts_offset -1
negative.mov 64x48 X264 -bf 3 -movflags negative_cts_offsets
fragments.mp4 64x48 X264 -movflags frag_keyframe+empty_moov
fragments2.mp4 64x48 X264 -movflags dash
raw.h264 64x48 X264 -bf 2
raw.m4v 64x48 -c:v mpeg4
raw.mjpeg 64x48 -c:v mjpeg
raw.m2v 64x48 -c:v mpeg2video -r 25
raw.ivf 64x48 -c:v libvpx
raw.y4m 64x48 -pix_fmt yuv420p
raw.ogv 64x48 -c:v libtheora
raw.apng 64x48 -plays 0
raw.nut 64x48 X264
raw.dv 720x576 -r 25 -pix_fmt yuv420p
slow.mp4 64x48 X264 -vf setpts=N*60/TB -fps_mode passthrough -frames:v 5
fast.mkv 64x48 X264 -r 1000
wide.mkv 4096x64 X264
"""
"""Size, then options, of clips of odd pictures, timestamps and containers."""

TEXTS = {
    "text.mp4": b"not a video at all\n" * 40,
    "page.mkv": b"<html><body>404</body></html>",
    "one-byte.mp4": b"a",
    "list.mp4": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:5,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n",
    "concat.mp4": b"ffconcat version 1.0\nfile nowhere.mp4\n",
    "sub.avi": b"1\n00:00:01,000 --> 00:00:02,000\nhello\n",
    "sdp.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "zeros.mp4": bytes(5000),
    "zeros.ts": bytes(188 * 40),
    "nothing.mkv": b"",
    "ones.avi": b"\xff" * 5000,
    "ftyp.mp4": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom",
}

READ = """
import sys
from pathlib import Path
from tal_bench.errors import DataError
from tal_bench.extraction.decoding import VideoReader
for name in sys.argv[1:]:
    try:
        reader = VideoReader(Path(name), fps=10, size=(32, 32))
        shapes = {frame.shape for frame in reader}
        assert shapes <= {(32, 32, 3)}, shapes
        native = VideoReader(Path(name))
        shapes = {frame.shape for _, frame in zip(range(500), native)}
        assert len(shapes) < 2, shapes
        print(f"read: {reader.duration:.1f} s, {reader.decoded} frames: {reader.warning}", flush=True)
    except DataError as error:
        print("refused:", " ".join(str(error).split()), flush=True)
    except Exception as error:
        print(f"failed: {type(error).__name__}: {error}", flush=True)
"""
LIMIT = 30
"""Seconds after which a file counts as a hang."""


def write(path: Path, content: bytes) -> Path:
    """Write a file."""
    path.write_bytes(content)
    return path


def damaged(folder: Path) -> Iterator[Path]:
    """Write whole files, and files that are cut, changed at random, or begin in the middle."""
    random = np.random.default_rng(0)
    for suffix, options in FORMATS.items():
        sound = 0 if suffix in ("webm", "mpg") else 6
        path = encode(folder / f"whole.{suffix}", *options, count=60, sound=sound)
        yield path
        content = path.read_bytes()
        for k, size in enumerate(random.integers(1, len(content), 5)):
            yield write(folder / f"cut{k}.{suffix}", content[:size])
        for k in range(5):
            changed = np.frombuffer(content, np.uint8).copy()
            places = random.integers(len(changed) * (k % 2) // 4, len(changed), 10**k // 10 + 1)
            changed[places] = random.integers(0, 256, len(places))
            if k == 4:
                begin = int(random.integers(0, len(changed)))
                changed[begin : begin + len(changed) // 4] = 0
            yield write(folder / f"changed{k}.{suffix}", changed.tobytes())
        yield write(folder / f"headless.{suffix}", content[len(content) // 3 :])
    forms = {"mkv": "matroska", "webm": "webm", "flv": "flv", "avi": "avi", "ts": "mpegts"}
    for suffix, form in forms.items():
        piped = ffmpeg("-i", folder / f"whole.{suffix}", "-c", "copy", "-f", form, "-")
        yield write(folder / f"piped.{suffix}", piped)


def odd(folder: Path) -> Iterator[Path]:
    """Write files of `PICTURES`, and pictures whose size changes."""
    for line in PICTURES.replace("X264", " ".join(X264)).strip().splitlines():
        name, size, *options = line.split()
        source = NOISE.format(rate=25 if name.endswith((".m2v", ".dv")) else 10, seconds=4)
        if "-vf" not in options:
            options += ["-vf", f"scale={size.replace('x', ':')}"]
        try:
            ffmpeg("-f", "lavfi", "-i", source, *options, folder / name)
        except subprocess.CalledProcessError:
            print(f"{name}: this ffmpeg cannot make it")
            continue
        yield folder / name
    for suffix in ("ts", "mpg", "mkv", "h264"):
        parts = [folder / f"part{k}.{suffix}" for k in range(2)]
        for part, size in zip(parts, ("64x48", "96x32"), strict=True):
            source = NOISE.format(rate=25, seconds=2)
            ffmpeg("-f", "lavfi", "-i", source, "-s", size, *FORMATS.get(suffix, X264), part)
        yield joined(folder / f"sizes.{suffix}", *parts)


def others(folder: Path) -> Iterator[Path]:
    """Write texts, sound, and headers without a frame rate or a time scale."""
    for name, content in TEXTS.items():
        yield write(folder / name, content)
    for suffix in ("mp3", "wav", "m4a", "mka", "ogg"):
        ffmpeg("-f", "lavfi", "-i", "sine=440:d=2", folder / f"sound.{suffix}")
        yield folder / f"sound.{suffix}"
    ffmpeg("-i", folder / "sound.mp3", "-i", folder / "one.png", "-map", "0", "-map", "1", "-c", "copy",
           "-disposition:v", "attached_pic", folder / "cover.mp3")  # fmt: skip
    yield folder / "cover.mp3"
    content = (folder / "whole.avi").read_bytes()
    at = content.index(b"vids") + 20  # dwScale and dwRate of the picture
    yield write(folder / "still.avi", content[:at] + bytes(8) + content[at + 8 :])
    yield write(folder / "scale.avi", content[:at] + bytes(4) + content[at + 4 :])
    content = (folder / "whole.mp4").read_bytes()
    for box in (b"mdhd", b"mvhd"):
        at = content.index(box) + 16  # the time scale
        yield write(folder / f"{box.decode()}.mp4", content[:at] + bytes(4) + content[at + 4 :])


def main(folder: Path) -> None:
    """Print the result of every file, and the counts."""
    counts: collections.Counter[str] = collections.Counter()
    for path in [*damaged(folder), *odd(folder), *others(folder)]:
        try:
            command = [sys.executable, "-c", READ, str(path)]
            result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT)
            line = result.stdout.strip() or f"died: {result.returncode} {result.stderr[-200:]}"
        except subprocess.TimeoutExpired:
            line = f"hangs: more than {LIMIT} s"
        counts[line.partition(":")[0]] += 1
        print(f"{path.name}: {line}")
    print(", ".join(f"{number} {kind}" for kind, number in counts.items()), "of", sum(counts.values()))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
