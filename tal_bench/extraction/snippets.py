"""Snippets: the network input at one feature step, cut from frames and flow.

There are two kinds. For image networks, the window of step i is the frames i · stride to
i · stride + window - 1, which all lie in the video. For the small networks that ship with the package, it is
the 2h + 1 frames around frame c = i · stride, and the first or last frame is repeated beyond the ends.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tal_bench.extraction.flow import flow_function

FLOW_BOUND = 20.0
"""Pixels per frame at which two-stream networks clip flow (Wang et al., ECCV 2016; Carreira and Zisserman,
CVPR 2017)."""

HALF_WINDOW = 3
"""Number of frames on each side of the centre: 7 frames, 6 differences, 3 flow fields of 2 frames each."""

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
    """Convert RGB frames [N, H, W, 3] to grey [N, H, W] (ITU-R BT.601)."""
    n, height, width, _ = frames.shape
    grey: NDArray[np.uint8] = cv2.cvtColor(frames.reshape(n * height, width, 3), cv2.COLOR_RGB2GRAY)
    return grey.reshape(n, height, width)


def windows(rows: int, stride: int, half: int, length: int) -> NDArray[np.intp]:
    """Return the row numbers of every step's window, [length, 2 · half + 1], clamped to 0 … rows - 1."""
    centres = np.arange(length)[:, None] * stride
    window: NDArray[np.intp] = np.clip(centres + np.arange(-half, half + 1), 0, rows - 1)
    return window


def difference_snippets(
    grey: NDArray[np.uint8], colour: NDArray[np.uint8], steps: NDArray[np.intp], stride: int
) -> NDArray[np.float32]:
    """Cut RGB snippets: 6 successive grey-level differences / 16 and the centre frame in colour.

    Args:
        grey: All grey frames [N, H, W].
        colour: RGB frames at the steps' centres [T, H, W, 3].
        steps: Requested step numbers [M].
        stride: Number of frames between two steps.

    Returns:
        Snippets [M, 9, H, W].
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
    """Compute the flow at each step's centre c, from frame c − 1 to frame c + 1.

    Args:
        grey: Grey frames [N, H, W].
        stride: Number of frames between two steps.
        algorithm: Flow algorithm, see ``compute_flow``.
        size: Side to which the fields are averaged down; values stay in pixels of the input.

    Returns:
        Flow [T, 2, size, size], u and v.
    """
    flow_of_pair = flow_function(algorithm)
    last = len(grey) - 1
    height, width = (size, size) if size else grey.shape[1:]
    out = np.empty((last // stride + 1, 2, height, width), np.float32)
    for i, c in enumerate(range(0, last + 1, stride)):
        field = flow_of_pair(grey[max(c - 1, 0)], grey[min(c + 1, last)])
        if size:
            field = cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA)
        out[i] = field.transpose(2, 0, 1)
    return out


def flow_snippets(flow: NDArray[np.float32], steps: NDArray[np.intp]) -> NDArray[np.float32]:
    """Cut flow snippets: u and v of the steps i − 1, i, i + 1.

    Args:
        flow: One field per step [T, 2, H, W].
        steps: Requested step numbers [M].

    Returns:
        Snippets [M, 6, H, W], channels u₋ v₋ u v u₊ v₊.
    """
    stack = flow[windows(len(flow), 1, 1, len(flow))[steps]]
    return stack.reshape(len(steps), 6, *flow.shape[2:])


def image_snippets(
    frames: NDArray[np.uint8], steps: NDArray[np.intp], stride: int, window: int
) -> NDArray[np.float32]:
    """Return the frame in the middle of every step's window.

    Args:
        frames: RGB frames [N, H, W, 3].
        steps: Requested step numbers [M].
        stride: Number of frames between two steps.
        window: Number of frames of a step.

    Returns:
        Snippets [M, 3, H, W] in 0 to 1.
    """
    centred = frames[steps * stride + window // 2].astype(np.float32)
    centred *= np.float32(1.0 / 255.0)
    return np.ascontiguousarray(centred.transpose(0, 3, 1, 2))


def scale_flow(
    flow: NDArray[np.float32], bound: float = FLOW_BOUND, *, levels: bool = False
) -> NDArray[np.float32]:
    """Clip flow at ± bound pixels and scale it as two-stream networks expect.

    Args:
        flow: Flow of any shape, in pixels.
        bound: Value at which flow is clipped.
        levels: Whether to scale to the integers 0 to 255 of flow stored as images (no motion is 127.5 and
            rounds to 128) instead of -1 to 1.
    """
    scaled = np.clip(flow, -bound, bound) * np.float32(1.0 / bound)
    if levels:
        scaled = np.floor((scaled + np.float32(1.0)) * np.float32(127.5) + np.float32(0.5))
    return np.asarray(scaled, np.float32)


def window_flow(
    frames: NDArray[np.uint8], stride: int, window: int, algorithm: str
) -> dict[int, NDArray[np.float32]]:
    """Compute the flow from frame k to k + 1 for every pair of frames within a step's window.

    Args:
        frames: RGB frames [N, H, W, 3].
        stride: Number of frames between two steps.
        window: Number of frames of a step, at least 2.
        algorithm: Flow algorithm, see `compute_flow`.

    Returns:
        (u, v) [2, H, W] by k, clipped and scaled to -1 to 1.
    """
    flow_of_pair = flow_function(algorithm)
    grey = to_grey(frames)
    steps = max(0, (len(frames) - window) // stride + 1)
    firsts = sorted({i * stride + k for i in range(steps) for k in range(window - 1)})
    return {k: scale_flow(flow_of_pair(grey[k], grey[k + 1])).transpose(2, 0, 1) for k in firsts}


def flow_stacks(
    fields: dict[int, NDArray[np.float32]], steps: NDArray[np.intp], stride: int, window: int
) -> NDArray[np.float32]:
    """Stack the flow fields of every step's window.

    Args:
        fields: Flow fields, see `window_flow`.
        steps: Requested step numbers [M].
        stride: Number of frames between two steps.
        window: Number of frames of a step.

    Returns:
        Snippets [M, 2 (window - 1), H, W], channels u v u v …, in -1 to 1.
    """
    stacks = [np.concatenate([fields[i * stride + k] for k in range(window - 1)]) for i in steps.tolist()]
    return np.stack(stacks)
