"""Times of video packets and frames on the timeline of their container, as a player shows them.

Time 0 is the earliest start of all streams, as in `ffmpeg` and `mpv`; a picture that begins after the sound
therefore begins after 0. Edit lists are applied by the demuxer. Two faults of timestamps are mended: jumps in
formats that allow them (MPEG-TS, MPEG-PS, Ogg), as `ffmpeg` does, and, in the other formats, times that run
backwards, or forwards beyond what the file declares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

DEFAULT_RATE = 25.0
"""Frames per second of a file that does not declare a rate, or an impossible one."""
MAX_RATE = 1000.0
"""Frames per second above which a declared rate counts as impossible."""

LONG_GAP = 120.0
"""Seconds between two frames above which the file has to confirm the second timestamp."""
MAX_GAP = {"confirmed": 36_000.0, "unconfirmed": 600.0}
"""Longest gap in seconds that is believed, if the duration of the file allows for it, or is not known."""
MAX_BACKWARD = 1.0
"""Seconds by which a frame may precede the one before it; it then replaces it, and time does not jump."""

JUMP_BACKWARD, JUMP_FORWARD = 0.1, 10.0
"""Seconds of a jump in a format that allows jumps: the limits of `ffmpeg`."""
LOSS_SECONDS = 1.0
"""Seconds after a loss of packets within which a jump forwards is one between two recordings."""

SLACK_FRAMES, SLACK_SECONDS, SLACK_SHARE = 3, 0.1, 0.01
"""A video counts as truncated if its packets end earlier than declared by more than each of these: a number
of frames, of seconds, and a share of its length."""


@dataclass
class Timeline:
    """Places the packets of a file, then the decoded frames of one of its streams, on one timeline.

    Attributes:
        container: Open file.
        stream: Video stream.
        rate: Average number of frames per second, or `DEFAULT_RATE`.
        jumps: (seconds on the timeline, seconds skipped) of every jump in the timestamps that was removed.
        counted: Number of frames without a timestamp, placed by the frame rate.
        misplaced: Number of frames with a time more than `MAX_BACKWARD` before that of the frame before.
    """

    container: InputContainer
    stream: VideoStream
    jumps: list[tuple[float, float]] = field(default_factory=list)
    counted: int = 0
    misplaced: int = 0
    rate: float = field(default=DEFAULT_RATE, init=False)

    def __post_init__(self) -> None:
        from av.format import Flags

        flags = Flags(self.container.format.flags)
        self._jumping = bool(flags & Flags.ts_discont) and not flags & Flags.no_timestamps
        self._start = (self.container.start_time or 0) / 1e6
        self._raw = raw = bool(flags & Flags.no_timestamps)  # the average rate of such a file is made up
        average, usual = (float(rate or 0) for rate in (self.stream.average_rate, self.stream.guessed_rate))
        self.rate = _first_possible(usual if raw else average, usual, DEFAULT_RATE)
        self._frame_length = 1.0 / _first_possible(usual, self.rate)
        self._length = None if raw else self._file_length()
        self._declared = self._declared_end()
        # of a time base in seconds, by stream
        self._units = {stream.index: float(stream.time_base or 0) for stream in self.container.streams}
        self._offset = 0.0  # of packets
        self._packets: dict[int, tuple[float, float]] = {}  # begin and end of the last packet by stream
        self._lossy = -math.inf  # time of the last packet after which some are missing
        self._reached = 0.0  # end of the packets that count for `ends_early`
        self._shift = 0.0  # of frames
        self._leap = (math.inf, math.inf)  # times around the last step of more than `MAX_BACKWARD`
        self._time = self._end = 0.0  # begin and end of the last frame

    def place(self, packet: Packet[Any]) -> None:
        """Note how far the file reaches, and remove jumps from the timestamps in formats that allow them.

        `ffmpeg` compares every packet with the end of the packet before it in the same stream, and a jump
        moves all streams that follow, so that sound and picture stay together.
        """
        stamp = packet.pts if packet.dts is None else packet.dts
        unit = self._units[packet.stream_index]
        if stamp is None or not unit:
            return
        length = (packet.duration or 0) * unit
        if self._jumping:
            self._remove_jump(packet, stamp * unit, length or self._frame_length)
        elif packet.stream is self.stream or not self.stream.duration:
            latest = stamp if packet.pts is None else max(stamp, packet.pts)
            self._reached = max(self._reached, latest * unit + length)

    def _remove_jump(self, packet: Packet[Any], stamp: float, length: float) -> None:
        if packet.stream.type not in ("video", "audio"):
            return
        time = stamp + self._offset
        last, expected = self._packets.get(packet.stream_index, (time, time))
        # without a loss just before it, a jump forwards is a picture that rests
        lossy = expected - self._lossy < LOSS_SECONDS
        if time + JUMP_BACKWARD < last or (time - expected > JUMP_FORWARD and lossy):
            self.jumps.append((expected - self._start, time - expected))
            self._offset += expected - time
            time = expected
        if packet.is_corrupt:
            self._lossy = time
        self._packets[packet.stream_index] = (time, time + length)
        ticks = round(self._offset / self._units[packet.stream_index])
        if ticks and packet.dts is not None:
            packet.dts += ticks
        if ticks and packet.pts is not None:
            packet.pts += ticks

    def show(self, frame: VideoFrame) -> float:
        """Return the time in seconds at which a frame is shown; frames are given in order."""
        unit, stamp = self._units[self.stream.index], frame.pts
        stamp = frame.dts if stamp is None else stamp
        self.counted += stamp is None or self._raw
        begin = self._end if stamp is None else stamp * unit - self._start + self._shift
        step = begin - self._time
        before, after = self._leap
        if step < -MAX_BACKWARD and begin >= before and self._time - after < MAX_BACKWARD:
            self.misplaced += 1  # the last step forwards was wrong, not this one backwards
        elif step < -MAX_BACKWARD or (step > LONG_GAP and not self._believed(step, begin)):
            self.jumps.append((self._end, begin - self._end))
            self._shift -= begin - self._end
            begin = self._end
        elif step > MAX_BACKWARD:
            self._leap = (self._time, begin)
        elif step <= 0 and self._offset:
            begin = self._end  # decoded before a jump of the packets, shown after it
        self._time = begin = max(begin, self._time)
        length = frame.duration * unit or self._frame_length
        if length > LONG_GAP and not self._believed(length, begin + length):
            length = self._frame_length
        self._end = begin + length
        return begin

    def ends_early(self) -> bool:
        """Whether the packets of the file end earlier than it declares."""
        if self._declared is None:
            return False
        missing = self._declared - max(self._reached, self._end)
        slack = max(SLACK_FRAMES / self.rate, SLACK_SECONDS, SLACK_SHARE * self._declared)
        return missing > slack

    def end(self) -> float:
        """Return the time at which the last frame ends: where the stream does, unless packets are missing."""
        if self._declared is None or not self.stream.duration or self.ends_early():
            return self._end
        declared = self._declared - self._start
        rests = self._frame_length / 2 < declared - self._time <= MAX_GAP["confirmed"]
        return declared if rests and not self._shift else self._end

    def remarks(self) -> list[str]:
        """Return what cannot be known about the times, for the record of the video."""
        parts = []
        if self.jumps:
            time, seconds = self.jumps[0]
            more = f", and {len(self.jumps) - 1} more times" * (len(self.jumps) > 1)
            parts.append(f"timestamps jump by {seconds:+.1f} s at {time:.1f} s{more}; read as continuous")
        if self.counted:
            rate = 1 / self._frame_length
            parts.append(f"{self.counted} frames have no timestamp; read at {rate:g} frames per second")
        if self.misplaced:
            parts.append(f"{self.misplaced} frames have a time before that of the frame before; left out")
        return parts

    def _declared_end(self) -> float | None:
        """Return the time, as in the file, at which the stream, or else the file, ends by its own account."""
        if self._jumping or self._length is None:
            return None
        ticks = self.stream.duration or 0
        if self.container.format.name == "avi":  # libavformat reduces the duration to what is there
            ticks = max(ticks, self.stream.frames)
        if ticks and self.stream.time_base:
            return float((ticks + (self.stream.start_time or 0)) * self.stream.time_base)
        return self._length

    def _file_length(self) -> float | None:
        """Return the duration of the file in seconds, unless it is a guess from the bit rate."""
        container = self.container
        if container.format.name == "avi" and _riff_size(Path(container.name)) in (0, 2**32 - 1):
            return None  # written to a pipe, with a number of frames that is made up
        rates = [stream.codec_context.bit_rate or 0 for stream in container.streams if stream.codec_context]
        if not container.duration or (container.bit_rate and container.bit_rate == sum(rates)):
            return None
        return float(container.duration / 1e6)

    def _believed(self, gap: float, end: float) -> bool:
        """Whether a gap can be a picture at rest; the file would then last until ``end`` at least."""
        if self._length is None or self.jumps:
            return gap <= MAX_GAP["unconfirmed"]
        length = self._length + max(SLACK_SECONDS, SLACK_SHARE * self._length)
        return gap <= MAX_GAP["confirmed"] and min(end, end + self._start) <= length


def _first_possible(*rates: float) -> float:
    return next(rate for rate in rates if 1 / LONG_GAP <= rate <= MAX_RATE)


def _riff_size(file: Path) -> int:
    with file.open("rb") as content:
        return int.from_bytes(content.read(8)[4:], "little")
