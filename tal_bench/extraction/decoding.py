"""Video files to frames at a constant rate and of one size; whatever state the file is in."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.errors import DataError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Frame = NDArray[np.uint8]
SUFFIXES = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp")
"""Taken for videos when a folder is given."""

USUAL_RATE = 25.0
LONGEST_GAP = 120.0
"""Seconds between two frames from which on a timestamp counts as broken."""
SLACK_FRAMES = 3
SLACK_SHARE = {"stream": 0.01, "file": 0.05}
"""A video is truncated when it ends so many frames, and this share of its length, before it should; the
length of a file may be that of its sound."""


class VideoReader:
    """The frames of a video file; iterate once.

    Frame k is what the video shows at (k + 1/2) / fps seconds after its first frame: variable frame rates,
    gaps and other rates come out right by the timestamps. Rotation in the metadata is applied; pixels count
    as square, as most programs that extract features have it. Packets that do not decode are left out.

    Args:
        path: the file.
        fps: frames per second; none = the file's own average.
        size: (height, width): frames are scaled to cover it and cut from the middle; none = as they are.

    Attributes:
        fps: frames per second.
        frames: given so far.
        decoded: frames that the file gave so far.
        truncated: the file ended before its header says; known when iteration has ended.
        broken: packets that did not decode.

    Raises:
        DataError: empty, not a video, or without a video stream.
    """

    def __init__(self, path: Path, *, fps: float | None = None, size: tuple[int, int] | None = None) -> None:
        self.path, self._size = path, size
        self._container = _open(path)
        self._stream = _video_stream(self._container, path)
        self._stream.thread_type = "NONE"  # processes are what runs at once; a cost is that of one thread
        self._rate = float(self._stream.average_rate or self._stream.guessed_rate or USUAL_RATE)
        self.fps = fps or self._rate
        self.frames = self.decoded = self.broken = 0
        self.truncated = False

    @property
    def duration(self) -> float:
        """Seconds given so far."""
        return self.frames / self.fps

    @property
    def remark(self) -> str:
        """What was wrong with the file, empty when nothing was; known when iteration has ended."""
        parts = [f"ends after {self.duration:.1f} s, before its header says"] if self.truncated else []
        if self.broken:
            parts.append(f"{self.broken} packet{'s' * (self.broken > 1)} could not be decoded")
        return "; ".join(parts)

    def __iter__(self) -> Iterator[Frame]:
        """Frames [H, W, 3], RGB.

        Raises:
            DataError: nothing could be decoded.
        """
        with self._container:
            for frame in self._resampled():
                self.frames += 1
                yield frame
            if not self.decoded:
                raise DataError("no frame could be decoded", where=self.path, hint="is the file whole?")
            self.truncated = self._ends_early()

    def _resampled(self) -> Iterator[Frame]:
        """What is shown at each moment; frames that are never shown are not converted."""
        shown: VideoFrame | None = None
        pixels: Frame | None = None
        count, end = 0, 0.0
        for begin, length, frame in self._timed():
            while shown is not None and (count + 0.5) / self.fps < begin:
                pixels = self._pixels(shown) if pixels is None else pixels
                yield pixels
                count += 1
            shown, pixels, end = frame, None, begin + length
        while shown is not None and (count + 0.5) / self.fps < end:
            pixels = self._pixels(shown) if pixels is None else pixels
            yield pixels
            count += 1
        self._end = end

    def _timed(self) -> Iterator[tuple[float, float, VideoFrame]]:
        """(seconds after the first frame, seconds shown, frame), in rising order."""
        usual = 1.0 / self._rate
        offset: float | None = None
        time = -usual
        for frame in self._decoded():
            self.decoded += 1
            stamp = time + usual + (offset or 0.0) if frame.time is None else float(frame.time)
            offset = stamp if offset is None else offset
            if stamp - offset - time > LONGEST_GAP:  # a jump that nobody filmed
                offset = stamp - time - usual
            time = max(stamp - offset, time)
            length = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else usual
            yield time, min(length, LONGEST_GAP), frame

    def _decoded(self) -> Iterator[VideoFrame]:
        from av.error import FFmpegError

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, FFmpegError):
                return
            try:
                yield from packet.decode()
            except FFmpegError:
                self.broken += 1

    def _pixels(self, frame: VideoFrame) -> Frame:
        turns = round(getattr(frame, "rotation", 0) / 90) % 4  # counter-clockwise, as np.rot90 turns
        height, width = frame.height, frame.width
        if self._size is None:
            return _turned(frame.to_ndarray(format="rgb24"), turns)
        high, wide = self._size if turns % 2 == 0 else self._size[::-1]
        scale = max(high / height, wide / width)
        height, width = max(high, round(height * scale)), max(wide, round(width * scale))
        scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR")
        top, left = (height - high) // 2, (width - wide) // 2
        return _turned(scaled.to_ndarray()[top : top + high, left : left + wide], turns)

    def _ends_early(self) -> bool:
        """Fewer frames, or less time, than the file's header declares."""
        stream, missing, share = self._stream, 0.0, SLACK_SHARE["stream"]
        if stream.frames:
            missing = (stream.frames - self.decoded) / self._rate
        elif stream.duration and stream.time_base:
            missing = float(stream.duration * stream.time_base) - self._end
        elif self._container.duration:
            missing, share = self._container.duration / 1e6 - self._end, SLACK_SHARE["file"]
        return missing > max(SLACK_FRAMES / self._rate, share * (self._end + missing))


def thumbnails(path: Path, duration: float, count: int, size: tuple[int, int]) -> list[Frame]:
    """Frames in the middle of ``count`` equal parts of a video.

    Raises:
        DataError: see `VideoReader`.
    """
    return list(islice(VideoReader(path, fps=count / duration, size=size), count))


def _turned(pixels: Any, turns: int) -> Frame:
    frame: Frame = np.ascontiguousarray(np.rot90(pixels, turns))
    return frame


def _open(path: Path) -> InputContainer:
    import av
    from av.error import FFmpegError

    try:
        if not path.is_file():
            raise DataError("no such file" if not path.exists() else "not a file", where=path)
        if path.stat().st_size == 0:
            raise DataError("empty file, 0 bytes", where=path, hint="copy it again")
        container: InputContainer = av.open(str(path.absolute()), metadata_errors="replace")
        return container
    except FFmpegError as error:
        raise DataError(
            f"not a video that can be read: {error.strerror}",
            where=path,
            hint="truncated, or no video at all?",
        ) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # the cover of a song
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    container.close()
    raise DataError(f"no video stream, only {kinds}", where=path)
