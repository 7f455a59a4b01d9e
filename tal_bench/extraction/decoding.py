"""Decode video files, including damaged ones, to frames of constant rate and size."""

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
"""Suffixes of the files that count as videos in a folder."""

DEFAULT_RATE = 25.0
"""Frames per second of a file that does not declare a rate."""
MAX_GAP = 120.0
"""Seconds between two frames above which a timestamp counts as broken."""
SLACK_FRAMES = 3
SLACK_SHARE = {"stream": 0.01, "file": 0.05}
"""A video counts as truncated if it ends more than `SLACK_FRAMES` frames and more than this share of its
length too early. The share is larger for the duration of the file, which may be that of the audio."""


class VideoReader:
    """Iterate once over the frames of a video file.

    Frame k is the picture shown (k + 1/2) / fps seconds after the first frame, according to the timestamps,
    so variable frame rates and gaps are handled. Rotation in the metadata is applied. Pixels are assumed to
    be square, as in most feature extractors. Packets that cannot be decoded are skipped.

    Args:
        path: Video file.
        fps: Frames per second of the output; None keeps the average rate of the file.
        size: (height, width) of the output; frames are scaled to cover it and cropped at the centre. None
            keeps the size of the file.

    Attributes:
        fps: Frames per second of the output.
        frames: Number of frames yielded so far.
        decoded: Number of frames decoded from the file so far.
        truncated: Whether the file ends earlier than its header declares; set at the end of the iteration.
        broken: Number of packets that could not be decoded.

    Raises:
        DataError: The file is empty, is not a video, or has no video stream.
    """

    def __init__(self, path: Path, *, fps: float | None = None, size: tuple[int, int] | None = None) -> None:
        self.path, self._size = path, size
        self._container = _open(path)
        self._stream = _video_stream(self._container, path)
        # parallelism is across processes, and costs are reported for one thread
        self._stream.thread_type = "NONE"
        self._rate = float(self._stream.average_rate or self._stream.guessed_rate or DEFAULT_RATE)
        self.fps = fps or self._rate
        self.frames = self.decoded = self.broken = 0
        self.truncated = False

    @property
    def duration(self) -> float:
        """Duration in seconds of the frames yielded so far."""
        return self.frames / self.fps

    @property
    def warning(self) -> str:
        """Description of defects of the file, empty if there are none; set at the end of the iteration."""
        parts = []
        if self.truncated:
            parts.append(f"ends after {self.duration:.1f} s, earlier than its header declares")
        if self.broken:
            parts.append(f"{self.broken} packet{'s' * (self.broken > 1)} could not be decoded")
        return "; ".join(parts)

    def __iter__(self) -> Iterator[Frame]:
        """Yield RGB frames [H, W, 3].

        Raises:
            DataError: No frame could be decoded.
        """
        with self._container:
            for frame in self._resampled():
                self.frames += 1
                yield frame
            if not self.decoded:
                raise DataError(
                    "no frame could be decoded", where=self.path, hint="check that the file is complete"
                )
            self.truncated = self._ends_early()

    def _resampled(self) -> Iterator[Frame]:
        """Yield the picture shown at each output time, without converting frames that are never shown."""
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
        """Yield (seconds after the first frame, seconds shown, frame) in order of time."""
        default_length = 1.0 / self._rate
        offset: float | None = None
        time = -default_length
        for frame in self._decoded():
            self.decoded += 1
            stamp = time + default_length + (offset or 0.0) if frame.time is None else float(frame.time)
            offset = stamp if offset is None else offset
            if stamp - offset - time > MAX_GAP:  # a jump in the timestamps, not a pause in the video
                offset = stamp - time - default_length
            time = max(stamp - offset, time)
            length = default_length
            if frame.duration and frame.time_base:
                length = float(frame.duration * frame.time_base)
            yield time, min(length, MAX_GAP), frame

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
        turns = round(getattr(frame, "rotation", 0) / 90) % 4  # counter-clockwise, as in np.rot90
        height, width = frame.height, frame.width
        if self._size is None:
            return _rotated(frame.to_ndarray(format="rgb24"), turns)
        high, wide = self._size if turns % 2 == 0 else self._size[::-1]
        scale = max(high / height, wide / width)
        height, width = max(high, round(height * scale)), max(wide, round(width * scale))
        scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR")
        top, left = (height - high) // 2, (width - wide) // 2
        return _rotated(scaled.to_ndarray()[top : top + high, left : left + wide], turns)

    def _ends_early(self) -> bool:
        """Whether the file has fewer frames, or is shorter, than its header declares."""
        stream, missing, share = self._stream, 0.0, SLACK_SHARE["stream"]
        if stream.frames:
            missing = (stream.frames - self.decoded) / self._rate
        elif stream.duration and stream.time_base:
            missing = float(stream.duration * stream.time_base) - self._end
        elif self._container.duration:
            missing, share = self._container.duration / 1e6 - self._end, SLACK_SHARE["file"]
        return missing > max(SLACK_FRAMES / self._rate, share * (self._end + missing))


def thumbnails(path: Path, duration: float, count: int, size: tuple[int, int]) -> list[Frame]:
    """Return the middle frame of each of ``count`` equal parts of a video.

    Raises:
        DataError: see `VideoReader`.
    """
    return list(islice(VideoReader(path, fps=count / duration, size=size), count))


def _rotated(pixels: Any, turns: int) -> Frame:
    frame: Frame = np.ascontiguousarray(np.rot90(pixels, turns))
    return frame


def _open(path: Path) -> InputContainer:
    import av
    from av.error import FFmpegError

    try:
        if not path.is_file():
            raise DataError("no such file" if not path.exists() else "not a file", where=path)
        if path.stat().st_size == 0:
            raise DataError("empty file, 0 bytes", where=path, hint="copy the file again")
        container: InputContainer = av.open(str(path.absolute()), metadata_errors="replace")
        return container
    except FFmpegError as error:
        raise DataError(
            f"not a readable video: {error.strerror}",
            where=path,
            hint="the file may be truncated or have another format",
        ) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # cover art of an audio file
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    container.close()
    raise DataError(f"no video stream, only {kinds}", where=path)
