"""Optical flow of grey frames with OpenCV: DIS, Farneback and TV-L1.

Flow [y, x] = (u, v) in pixels: the point (x, y) of the first frame is at (x + u, y + v) in the second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from tal_bench.config.extraction import FlowAlgorithm
from tal_bench.errors import InputError
from tal_bench.registry import did_you_mean

FLOW_ALGORITHMS: tuple[str, ...] = get_args(FlowAlgorithm)

FLOW_BOUND = 20.0
"""Pixels per frame at which two-stream networks clip flow (Wang et al., ECCV 2016; Carreira and Zisserman,
CVPR 2017)."""
FlowFunction = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]


def flow_function(algorithm: str, *, finest_scale: int = 1) -> FlowFunction:
    """Return the function that maps two grey frames [H, W] uint8 to their flow [H, W, 2] float32.

    Args:
        algorithm: ``dis`` (Kroeger et al., ECCV 2016; the fastest), ``farneback`` (SCIA 2003) or ``tvl1``
            (Zach et al., DAGM 2007; used for the published I3D features, hundreds of times slower).
        finest_scale: Finest scale of DIS: 0 is full resolution, 1 is half resolution, resized.

    Raises:
        InputError: The algorithm is unknown.
    """
    if algorithm == "dis":
        return _dis(finest_scale)
    if algorithm == "farneback":
        return lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    if algorithm == "tvl1":
        return _tvl1()
    raise InputError(
        f"unknown flow algorithm '{algorithm}'",
        where="--flow",
        hint=did_you_mean(algorithm, list(FLOW_ALGORITHMS)),
    )


def _dis(finest_scale: int) -> FlowFunction:
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dis.setFinestScale(finest_scale)
    dis.setPatchSize(8)
    dis.setPatchStride(4)
    return lambda a, b: dis.calc(a, b, None)


def _tvl1() -> FlowFunction:
    if not hasattr(cv2, "optflow"):
        raise InputError(
            "the installed OpenCV lacks TV-L1 flow",
            where="--flow tvl1",
            hint="install opencv-contrib-python-headless instead of opencv-python",
        )
    solver = cv2.optflow.DualTVL1OpticalFlow.create()
    return lambda a, b: solver.calc(a, b, None)


def to_grey(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert RGB frames [N, H, W, 3] to grey [N, H, W] (ITU-R BT.601)."""
    n, height, width, _ = frames.shape
    grey: NDArray[np.uint8] = cv2.cvtColor(frames.reshape(n * height, width, 3), cv2.COLOR_RGB2GRAY)
    return grey.reshape(n, height, width)


def step_flow(
    grey: NDArray[np.uint8], stride: int, algorithm: str = "dis", size: int | None = None
) -> NDArray[np.float32]:
    """Compute the flow at each step's centre c, from frame c − 1 to frame c + 1.

    Args:
        grey: Grey frames [N, H, W].
        stride: Number of frames between two steps.
        algorithm: Flow algorithm, see `flow_function`.
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


def window_flow(
    frames: NDArray[np.uint8], stride: int, window: int, algorithm: str
) -> dict[int, NDArray[np.float32]]:
    """Compute the flow from frame k to k + 1 for every pair of frames within a step's window.

    Args:
        frames: RGB frames [N, H, W, 3].
        stride: Number of frames between two steps.
        window: Number of frames of a step, at least 2.
        algorithm: Flow algorithm, see `flow_function`.

    Returns:
        (u, v) [2, H, W] by k, clipped and scaled to -1 to 1.
    """
    flow_of_pair = flow_function(algorithm)
    grey = to_grey(frames)
    steps = max(0, (len(frames) - window) // stride + 1)
    firsts = sorted({i * stride + k for i in range(steps) for k in range(window - 1)})
    return {k: scale_flow(flow_of_pair(grey[k], grey[k + 1])).transpose(2, 0, 1) for k in firsts}


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
