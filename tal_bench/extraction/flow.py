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

FlowFunction = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]


def compute_flow(
    grey_frames: NDArray[np.uint8], algorithm: str = "dis", *, step: int = 1, finest_scale: int = 1
) -> NDArray[np.float32]:
    """Compute the flow from frame k to frame k + ``step`` for k = 0, step, 2 · step, ….

    Args:
        grey_frames: Grey frames [N, H, W].
        algorithm: ``dis`` (Kroeger et al., ECCV 2016; the fastest), ``farneback`` (SCIA 2003) or ``tvl1``
            (Zach et al., DAGM 2007; used for the published I3D features, hundreds of times slower).
        step: Number of frames between the two frames of a pair.
        finest_scale: Finest scale of DIS: 0 is full resolution, 1 is half resolution, resized.

    Returns:
        Flow [(N − 1) // step, H, W, 2] in pixels per pair.

    Raises:
        InputError: The algorithm is unknown, or the frames are not [N, H, W] uint8 with N > step.
    """
    if grey_frames.ndim != 3 or grey_frames.dtype != np.uint8 or step < 1 or len(grey_frames) <= step:
        raise InputError(
            f"got grey frames of shape {grey_frames.shape} and type {grey_frames.dtype}, step {step}",
            where="compute_flow",
            hint="give [N, H, W] uint8 with N > step >= 1",
        )
    flow_of_pair = flow_function(algorithm, finest_scale=finest_scale)
    pairs = (len(grey_frames) - 1) // step
    flow = np.empty((pairs, *grey_frames.shape[1:], 2), np.float32)
    for k in range(pairs):
        flow[k] = flow_of_pair(grey_frames[k * step], grey_frames[(k + 1) * step])
    return flow


def flow_function(algorithm: str, *, finest_scale: int = 1) -> FlowFunction:
    """Return the function that maps two grey frames [H, W] to their flow [H, W, 2].

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
