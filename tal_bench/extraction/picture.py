"""Decoded frames to pictures as a player shows them: upright, of square pixels, scaled and cropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Frame = NDArray[np.uint8]

MAX_ASPECT = 16.0
"""Aspect ratio of a pixel above which, or below whose inverse, pixels count as square."""


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is turned to be upright: transposed first, then flipped."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, pixels: Any) -> Frame:
        """Return pixels [H, W, 3] or [W, H, 3], contiguous."""
        pixels = pixels.transpose(1, 0, 2) if self.transpose else pixels
        pixels = pixels[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return np.ascontiguousarray(pixels)


def orientation(frame: VideoFrame) -> Orientation:
    """Return the orientation in the metadata of a frame; other angles are rounded to a right angle.

    The display matrix maps a stored pixel to a shown one: x' = a x + c y, y' = b x + d y, with y downwards.
    """
    side_data: Any = frame.side_data
    try:
        matrix = np.frombuffer(bytes(side_data["DISPLAYMATRIX"]), np.int32)
        a, b, c, d = (int(matrix[k]) for k in (0, 1, 3, 4))
    except (KeyError, ValueError, IndexError):  # none, of a kind that PyAV does not know, or too short
        return Orientation()
    if abs(a) >= abs(b):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def pixel_aspect(stream: VideoStream) -> float:
    """Return width / height of a stored pixel; 1 if it is not declared, or impossible."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT else 1.0


def to_pixels(frame: VideoFrame, size: tuple[int, int] | None, aspect: float, upright: Orientation) -> Frame:
    """Convert a frame to RGB [H, W, 3].

    Args:
        frame: Decoded frame.
        size: (height, width) of the result; the picture is scaled to cover it and cropped at the centre. None
            keeps the height of the frame, and its width if pixels are square.
        aspect: Width / height of a stored pixel.
        upright: Orientation of the frame.
    """
    height, width = frame.height, frame.width * aspect  # as shown, before it is turned
    if size is None and aspect == 1:
        return upright.apply(frame.to_ndarray(format="rgb24"))
    high, wide = (height, max(1, round(width))) if size is None else size[:: -1 if upright.transpose else 1]
    scale = max(high / height, wide / width)
    height, width = max(high, round(height * scale)), max(wide, round(width * scale))
    scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR")
    top, left = (height - high) // 2, (width - wide) // 2
    return upright.apply(scaled.to_ndarray()[top : top + high, left : left + wide])
