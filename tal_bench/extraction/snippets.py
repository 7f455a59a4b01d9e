"""Snippets: what a network sees at one feature step, cut from frames and flow.

Two kinds. Those of image networks show the frames i · stride to i · stride + window - 1 of step i, which all
lie in the video. Those of the small networks that come with the package are centred on frame c = i · stride:
their window is the 2h + 1 frames around c, and frames beyond the ends repeat the first or last one.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tal_bench.extraction.flow import flow_function

FLOW_BOUND = 20.0
"""Pixels a frame at which two-stream networks clip flow (Wang et al., ECCV 2016; Carreira and Zisserman,
CVPR 2017)."""

HALF_WINDOW = 3
"""Frames on each side of the centre: 7 frames, 6 differences, 3 flow fields of 2 frames each."""

DIFFERENCE_SCALE = 16.0
COLOUR_SCALE = 64.0


def resize_frames(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize [N, H, W] or [N, H, W, 3] to ``size`` × ``size``."""
    if frames.shape[1:3] == (size, size):
        return frames
    out = np.empty((len(frames), size, size, *frames.shape[3:]), np.uint8)
    for k, frame in enumerate(frames):
        cv2.resize(frame, (size, size), dst=out[k], interpolation=cv2.INTER_LINEAR)
    return out


def to_grey(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB frames [N, H, W, 3] to grey [N, H, W] (ITU-R BT.601)."""
    n, height, width, _ = frames.shape
    grey: NDArray[np.uint8] = cv2.cvtColor(frames.reshape(n * height, width, 3), cv2.COLOR_RGB2GRAY)
    return grey.reshape(n, height, width)


def windows(rows: int, stride: int, half: int, length: int) -> NDArray[np.intp]:
    """Row numbers, of ``rows``, in every step's window, [length, 2 · half + 1], clamped to the ends."""
    centres = np.arange(length)[:, None] * stride
    window: NDArray[np.intp] = np.clip(centres + np.arange(-half, half + 1), 0, rows - 1)
    return window


def difference_snippets(
    grey: NDArray[np.uint8], colour: NDArray[np.uint8], steps: NDArray[np.intp], stride: int
) -> NDArray[np.float32]:
    """RGB snippets: 6 successive grey differences / 16 and the centre frame in colour.

    Args:
        grey: all grey frames [N, H, W].
        colour: RGB frames at the steps' centres [T, H, W, 3].
        steps: step numbers wanted, [M].
        stride: frames between two steps.

    Returns:
        [M, 9, H, W].
    """
    frames = windows(len(grey), stride, HALF_WINDOW, len(colour))[steps]
    out = np.empty((len(steps), 2 * HALF_WINDOW + 3, *grey.shape[1:]), np.float32)
    for j in range(2 * HALF_WINDOW):
        np.subtract(grey[frames[:, j + 1]], grey[frames[:, j]], out=out[:, j], dtype=np.float32)
    out[:, :-3] *= np.float32(1.0 / DIFFERENCE_SCALE)
    centred = colour[steps].astype(np.float32)
    centred -= np.float32(127.5)
    centred *= np.float32(1.0 / COLOUR_SCALE)
    out[:, -3:] = centred.transpose(0, 3, 1, 2)
    return out


def step_flow(
    grey: NDArray[np.uint8], stride: int, algorithm: str = "dis", size: int | None = None
) -> NDArray[np.float32]:
    """Flow across each step's centre, from frame c − 1 to frame c + 1.

    Args:
        grey: [N, H, W].
        stride: frames between two steps.
        algorithm: see ``compute_flow``.
        size: average the fields down to size × size; values stay in pixels of the input.

    Returns:
        [T, 2, size, size], u and v.
    """
    pair = flow_function(algorithm)
    last = len(grey) - 1
    height, width = (size, size) if size else grey.shape[1:]
    out = np.empty((last // stride + 1, 2, height, width), np.float32)
    for i, c in enumerate(range(0, last + 1, stride)):
        field = pair(grey[max(c - 1, 0)], grey[min(c + 1, last)])
        if size:
            field = cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA)
        out[i] = field.transpose(2, 0, 1)
    return out


def flow_snippets(flow: NDArray[np.float32], steps: NDArray[np.intp]) -> NDArray[np.float32]:
    """Flow snippets: u, v of steps i − 1, i, i + 1, the RGB snippet's window.

    Args:
        flow: one field a step [T, 2, H, W].
        steps: step numbers wanted, [M].

    Returns:
        [M, 6, H, W], channels u₋ v₋ u v u₊ v₊.
    """
    stack = flow[windows(len(flow), 1, 1, len(flow))[steps]]
    return stack.reshape(len(steps), 6, *flow.shape[2:])


def image_snippets(
    frames: NDArray[np.uint8], steps: NDArray[np.intp], stride: int, window: int
) -> NDArray[np.float32]:
    """The frame in the middle of every step's window.

    Args:
        frames: RGB [N, H, W, 3].
        steps: step numbers wanted, [M].
        stride: frames between two steps.
        window: frames of a step.

    Returns:
        [M, 3, H, W] in 0 to 1.
    """
    centred = frames[steps * stride + window // 2].astype(np.float32)
    centred *= np.float32(1.0 / 255.0)
    return np.ascontiguousarray(centred.transpose(0, 3, 1, 2))


def scale_flow(
    flow: NDArray[np.float32], bound: float = FLOW_BOUND, *, levels: bool = False
) -> NDArray[np.float32]:
    """Clip flow at ± bound pixels and scale it as two-stream networks expect.

    Args:
        flow: any shape, pixels.
        bound: where it is clipped.
        levels: scale to the whole numbers 0 to 255 of flow stored as images (no motion is 127.5 and rounds to
            128); otherwise to -1 to 1.
    """
    scaled = np.clip(flow, -bound, bound) * np.float32(1.0 / bound)
    if levels:
        scaled = np.floor((scaled + np.float32(1.0)) * np.float32(127.5) + np.float32(0.5))
    return np.asarray(scaled, np.float32)


def window_flow(
    frames: NDArray[np.uint8], stride: int, window: int, algorithm: str
) -> dict[int, NDArray[np.float32]]:
    """Flow from frame k to k + 1, for every pair that lies in some step's window.

    Args:
        frames: RGB [N, H, W, 3].
        stride: frames between two steps.
        window: frames of a step, 2 or more.
        algorithm: see `compute_flow`.

    Returns:
        k to (u, v) [2, H, W], clipped and scaled to -1 to 1.
    """
    pair = flow_function(algorithm)
    grey = to_grey(frames)
    steps = max(0, (len(frames) - window) // stride + 1)
    wanted = sorted({i * stride + k for i in range(steps) for k in range(window - 1)})
    return {k: scale_flow(pair(grey[k], grey[k + 1])).transpose(2, 0, 1) for k in wanted}


def flow_stacks(
    fields: dict[int, NDArray[np.float32]], steps: NDArray[np.intp], stride: int, window: int
) -> NDArray[np.float32]:
    """Every step's flow fields, one after the other.

    Args:
        fields: see `window_flow`.
        steps: step numbers wanted, [M].
        stride: frames between two steps.
        window: frames of a step.

    Returns:
        [M, 2 (window - 1), H, W], channels u v u v …, in -1 to 1.
    """
    stacks = [np.concatenate([fields[i * stride + k] for k in range(window - 1)]) for i in steps.tolist()]
    return np.stack(stacks)
