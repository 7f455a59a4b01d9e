"""Optical flow of grey frames: DIS, Farneback and TV-L1, as OpenCV has them.

Flow [y, x] = (u, v) in pixels: what is at (x, y) in the first frame is at (x + u, y + v) in the second.
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

Pair = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]


def compute_flow(
    grey_frames: NDArray[np.uint8], algorithm: str = "dis", *, step: int = 1, finest_scale: int = 1
) -> NDArray[np.float32]:
    """Optical flow from frame k to frame k + ``step``, for every k = 0, step, 2 · step and so on.

    Args:
        grey_frames: [N, H, W].
        algorithm: ``dis`` (Kroeger et al., ECCV 2016; the fastest), ``farneback`` (SCIA 2003) or ``tvl1``
            (Zach et al., DAGM 2007; what the published I3D features used, hundreds of times slower).
        step: frames between the two of a pair.
        finest_scale: DIS only; 0 is full resolution, 1 computes at half and resizes.

    Returns:
        [(N − 1) // step, H, W, 2] in pixels a pair.

    Raises:
        InputError: unknown algorithm, or frames that are not [N, H, W] uint8 with N > step.
    """
    if grey_frames.ndim != 3 or grey_frames.dtype != np.uint8 or step < 1 or len(grey_frames) <= step:
        raise InputError(
            f"grey frames of shape {grey_frames.shape} and type {grey_frames.dtype}, step {step}",
            where="compute_flow",
            hint="give [N, H, W] uint8 with N > step >= 1",
        )
    pair = flow_function(algorithm, finest_scale=finest_scale)
    pairs = (len(grey_frames) - 1) // step
    flow = np.empty((pairs, *grey_frames.shape[1:], 2), np.float32)
    for k in range(pairs):
        flow[k] = pair(grey_frames[k * step], grey_frames[(k + 1) * step])
    return flow


def flow_function(algorithm: str, *, finest_scale: int = 1) -> Pair:
    """Return the function that maps two grey frames [H, W] to their flow [H, W, 2].

    Raises:
        InputError: unknown algorithm.
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


def _dis(finest_scale: int) -> Pair:
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dis.setFinestScale(finest_scale)
    dis.setPatchSize(8)
    dis.setPatchStride(4)
    return lambda a, b: dis.calc(a, b, None)


def _tvl1() -> Pair:
    if not hasattr(cv2, "optflow"):
        raise InputError(
            "this OpenCV has no TV-L1 flow",
            where="--flow tvl1",
            hint="install opencv-contrib-python-headless instead of opencv-python",
        )
    solver = cv2.optflow.DualTVL1OpticalFlow.create()
    return lambda a, b: solver.calc(a, b, None)
