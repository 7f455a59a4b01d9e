"""Optical flow and snippets: known motions are recovered, and windows are centred."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_bench.errors import InputError
from tal_bench.extraction.flow import FLOW_ALGORITHMS, compute_flow
from tal_bench.extraction.snippets import (
    difference_snippets,
    flow_snippets,
    resize_frames,
    step_flow,
    to_grey,
)


def drifting(u: float, v: float, frames: int = 3, size: int = 64) -> np.ndarray:
    """A smooth random texture that moves by (u, v) pixels per frame."""
    rng = np.random.default_rng(3)
    texture = cv2.GaussianBlur(rng.standard_normal((size * 3, size * 3)).astype(np.float32), (0, 0), 2.5)
    texture = np.clip(128 + 45 * texture / texture.std(), 0, 255).astype(np.float32)
    middle = 1.5 * size
    images = [
        cv2.getRectSubPix(texture, (size, size), (middle - k * u, middle - k * v)) for k in range(frames)
    ]
    return np.stack(images).astype(np.uint8)


@pytest.mark.parametrize("algorithm", FLOW_ALGORITHMS)
@pytest.mark.parametrize("vector", [(1.5, -0.75), (-2.0, 1.25), (0.0, 0.0)])
def test_translation_is_recovered(algorithm: str, vector: tuple[float, float]) -> None:
    flow = compute_flow(drifting(*vector), algorithm)
    assert flow.shape == (2, 64, 64, 2)
    assert flow.dtype == np.float32
    inner = flow[:, 10:-10, 10:-10].reshape(-1, 2)
    np.testing.assert_allclose(np.median(inner, axis=0), vector, atol=0.2)


def test_step_skips_frames() -> None:
    flow = compute_flow(drifting(1.0, 0.5, frames=5), "dis", step=2)
    assert len(flow) == 2
    np.testing.assert_allclose(np.median(flow[:, 10:-10, 10:-10], axis=(0, 1, 2)), (2.0, 1.0), atol=0.2)


def test_invalid_input_is_rejected() -> None:
    frames = drifting(0, 0)
    with pytest.raises(InputError, match=r"farnebak.*did you mean 'farneback'"):
        compute_flow(frames, "farnebak")
    with pytest.raises(InputError, match=r"N, H, W"):
        compute_flow(frames[:1])
    with pytest.raises(InputError, match="uint8"):
        compute_flow(frames.astype(np.float32))


@given(frames=st.integers(2, 30), stride=st.integers(1, 4), data=st.data())
@settings(max_examples=40, deadline=None)
def test_difference_snippets_are_centred_and_clamped(frames: int, stride: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(frames * 10 + stride)
    grey = rng.integers(0, 256, (frames, 4, 4), dtype=np.uint8)
    colour = rng.integers(0, 256, (len(range(0, frames, stride)), 4, 4, 3), dtype=np.uint8)
    i = data.draw(st.integers(0, len(colour) - 1))
    snippet = difference_snippets(grey, colour, np.array([i]), stride)[0]
    assert snippet.shape == (9, 4, 4)
    for j in range(6):
        a, b = (min(max(i * stride - 3 + j + d, 0), frames - 1) for d in (0, 1))
        np.testing.assert_allclose(snippet[j] * 16, grey[b].astype(float) - grey[a].astype(float))
    np.testing.assert_allclose(snippet[6:] * 64 + 127.5, colour[i].transpose(2, 0, 1), atol=1e-4)


def test_step_flow_spans_the_centre_and_snippets_hold_three() -> None:
    grey = drifting(1.0, -0.5, frames=9)
    flow = step_flow(grey, stride=2, size=32)
    assert flow.shape == (5, 2, 32, 32)
    inside = flow[1:-1, :, 6:-6, 6:-6]
    np.testing.assert_allclose(np.median(inside, axis=(0, 2, 3)), (2.0, -1.0), atol=0.2)
    snippets = flow_snippets(flow, np.arange(5))
    np.testing.assert_array_equal(snippets[2], np.concatenate([flow[1], flow[2], flow[3]]))
    np.testing.assert_array_equal(snippets[0], np.concatenate([flow[0], flow[0], flow[1]]))


def test_resizing_keeps_shape_and_brightness() -> None:
    frames = np.full((2, 64, 64, 3), 77, np.uint8)
    assert resize_frames(frames, 48).shape == (2, 48, 48, 3)
    assert (resize_frames(frames, 48) == 77).all()
    assert (to_grey(frames) == 77).all()
    assert resize_frames(frames, 64) is frames
