"""Decode video files, including damaged ones, to frames of constant rate and size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tal_bench.errors import DataError
from tal_bench.extraction.picture import Frame, Orientation, orientation, pixel_aspect, to_pixels
from tal_bench.extraction.timeline import Timeline

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SUFFIXES = (".mp4", ".mkv", ".avi", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp")
"""Suffixes of the files that count as videos in a folder."""


class VideoReader:
    """Iterate once over the frames of a video file.

    Frame k is the picture that a player shows (k + 1/2) / fps seconds after the beginning of the file, see
    `timeline`; before the first picture it is that picture. Rotations, flips and the aspect ratio of pixels
    in the metadata are applied. Of several video streams, the default one is read. Packets that cannot be
    decoded are skipped.

    Args:
        path: Video file.
        fps: Frames per second of the output; None keeps the average rate of the file.
        size: (height, width) of the output; frames are scaled to cover it and cropped at the centre. None
            keeps the size of the first frame.

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
        self._timeline = Timeline(self._container, self._stream)
        self._aspect = pixel_aspect(self._stream)
        self._upright: Orientation | None = None
        self._rotation = 0
        self.fps = fps or self._timeline.rate
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
        return "; ".join([*parts, *self._timeline.remarks()])

    def __iter__(self) -> Iterator[Frame]:
        """Yield RGB frames [H, W, 3].

        Raises:
            DataError: No frame could be decoded.
        """
        shown: VideoFrame | None = None
        pixels: Frame | None = None
        for begin, frame in self.pictures():
            while shown is not None and (self.frames + 0.5) / self.fps < begin:
                pixels = self._pixels(shown) if pixels is None else pixels
                self.frames += 1
                yield pixels
            shown, pixels = frame, None
        self.truncated = self._timeline.ends_early()

    def pictures(self) -> Iterator[tuple[float, VideoFrame | None]]:
        """Yield the time in seconds at which every decoded frame is shown, in order, and the frame.

        The last pair is the end of the video, without a frame.

        Raises:
            DataError: No frame could be decoded.
        """
        with self._container:
            for frame in self._decoded():
                self.decoded += 1
                yield self._timeline.show(frame), frame
            if not self.decoded:
                raise DataError(
                    "no frame could be decoded", where=self.path, hint="check that the file is complete"
                )
            yield self._timeline.end(), None

    def _decoded(self) -> Iterator[VideoFrame]:
        from av.error import EOFError as Flushed
        from av.error import FFmpegError

        packets = self._container.demux()  # the other streams tell jumps, and how far the file reaches
        packet: Packet[Any] | None = None
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:  # the file cannot be read any further
                packet = None
            if packet is not None:
                self._timeline.place(packet)
                if packet.stream is not self._stream or not packet.size:
                    continue  # an empty packet would end the decoder
            try:
                yield from self._stream.decode(packet)
            except Flushed:
                return
            except FFmpegError:
                self.broken += 1
            if packet is None:  # these were the frames that the decoder still held
                return

    def _pixels(self, frame: VideoFrame) -> Frame:
        if self._upright is None or frame.rotation != self._rotation:  # the matrix is slow to look up
            self._upright, self._rotation = orientation(frame), frame.rotation
        pixels = to_pixels(frame, self._size, self._aspect, self._upright)
        self._size = self._size or (pixels.shape[0], pixels.shape[1])  # the resolution may change
        return pixels


def thumbnails(path: Path, duration: float, count: int, size: tuple[int, int]) -> list[Frame]:
    """Return the middle frame of each of ``count`` equal parts of a video.

    Raises:
        DataError: see `VideoReader`.
    """
    return list(islice(VideoReader(path, fps=count / duration, size=size), count))


def _open(path: Path) -> InputContainer:
    import av
    from av.error import FFmpegError

    try:
        if not path.is_file():
            raise DataError("no such file" if not path.exists() else "not a file", where=path)
        if path.stat().st_size == 0:
            raise DataError("empty file, 0 bytes", where=path, hint="copy the file again")
        container: InputContainer = av.open(
            str(path.absolute()), options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
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

    ignored = Disposition.attached_pic | Disposition.timed_thumbnails  # of the file, or of its chapters
    covers = [stream for stream in container.streams.video if stream.disposition & ignored]
    streams = [stream for stream in container.streams.video if stream not in covers]
    for stream in sorted(streams, key=lambda stream: not stream.disposition & Disposition.default):
        return stream
    kinds = {"cover art" if stream in covers else stream.type for stream in container.streams}
    container.close()
    raise DataError(f"no video stream, only {', '.join(sorted(kinds)) or 'a header'}", where=path)
