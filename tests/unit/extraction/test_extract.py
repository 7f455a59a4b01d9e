"""Feature extraction: excerpts do not change the result, and snippets have the right content."""

from __future__ import annotations

import numpy as np
import pytest
from clips import noise_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tal_bench.extraction import features as module
from tal_bench.extraction.features import Stream, excerpts, extract
from tal_bench.extraction.shipped_networks import Differences, StepFlow
from tal_bench.extraction.snippet_sampler import CentreFrame, FlowStack, SnippetSampler
from tal_bench.extraction.snippets import flow_stacks, image_snippets, scale_flow, window_flow
from tal_bench.system.step_timer import StepTimer


class Flat(nn.Module):
    """Returns its input, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(Tensor(1))

    def forward(self, snippets: Tensor) -> Tensor:
        return snippets.flatten(1)


@given(
    count=st.integers(0, 60),
    stride=st.integers(1, 9),
    window=st.integers(1, 7),
    context_frames=st.integers(0, 5),
    batch=st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_excerpts_contain_every_frame_that_their_steps_depend_on(
    count: int, stride: int, window: int, context_frames: int, batch: int
) -> None:
    frames = [np.full((2, 2, 3), k, np.uint8) for k in range(count)]
    seen = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "EXCERPT_BYTES", 5 * 12 * stride)
        for excerpt, first, steps in excerpts(
            frames, stride=stride, window=window, context_frames=context_frames, batch=batch
        ):
            begin = int(excerpt[0, 0, 0, 0])
            assert begin % stride == 0
            np.testing.assert_array_equal(excerpt[:, 0, 0, 0], np.arange(begin, begin + len(excerpt)))
            for local in range(first, first + steps):
                at = begin // stride + local
                assert begin <= max(0, at * stride - context_frames)
                assert begin + len(excerpt) >= min(count, at * stride + window + context_frames)
                seen.append(at)
    assert seen == list(range(max(0, (count - window) // stride + 1)))


@pytest.mark.parametrize(
    "sampler",
    [
        CentreFrame(2, 3, (0.5,) * 3, (0.2,) * 3),
        FlowStack(2, 3, "dis", 0.5),
        Differences(2, 16),
        StepFlow(2, size=16),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_features_do_not_depend_on_excerpts(sampler: SnippetSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = noise_frames(41)
    streams = {"one": Stream(sampler, Flat())}
    window = getattr(sampler, "window", 1)

    def run() -> np.ndarray:
        return extract(frames, streams, stride=2, window=window, batch=3)["one"]

    whole = run()
    assert len(whole) == (41 - window) // 2 + 1
    monkeypatch.setattr(module, "EXCERPT_BYTES", 12 * frames[0].nbytes)
    np.testing.assert_array_equal(run(), whole)


def test_laps_of_the_timer() -> None:
    clock = StepTimer()
    streams = {
        "rgb": Stream(CentreFrame(2, 3, (0.5,) * 3, (0.2,) * 3), Flat()),
        "flow": Stream(FlowStack(2, 3, "dis", 0.5), Flat()),
    }
    features = extract(noise_frames(9), streams, stride=2, window=3, batch=4, clock=clock)
    assert set(clock.seconds) == {"decode", "flow", "backbone/rgb", "backbone/flow"}
    assert {name: x.shape for name, x in features.items()} == {
        "rgb": (4, 3 * 32 * 32),
        "flow": (4, 4 * 32 * 32),
    }


def test_short_videos_have_no_features() -> None:
    streams = {"rgb": Stream(CentreFrame(2, 5, (0.5,) * 3, (0.2,) * 3), Flat())}
    assert extract(noise_frames(4), streams, stride=2, window=5, batch=4)["rgb"].shape == (0, 0)


def test_image_snippets_show_the_middle_of_the_window() -> None:
    frames = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    snippets = image_snippets(frames, np.arange(4), stride=4, window=5)
    np.testing.assert_allclose(255 * snippets[:, 0, 0, 0], [2, 6, 10, 14], atol=1e-4)
    assert snippets.shape == (4, 3, 4, 4)


def test_flow_is_clipped_and_scaled_as_two_stream_networks_expect() -> None:
    flow = np.array([-50, -20, -10, 0, 5, 20, 21], np.float32)
    np.testing.assert_allclose(scale_flow(flow), [-1, -1, -0.5, 0, 0.25, 1, 1])
    np.testing.assert_array_equal(scale_flow(flow, levels=True), [0, 0, 64, 128, 159, 255, 255])


def test_flow_stacks_run_through_the_window() -> None:
    frames = np.stack(noise_frames(11, size=48))  # everything moves left, a pixel a frame
    fields = window_flow(frames, stride=4, window=3, algorithm="dis")
    assert sorted(fields) == [0, 1, 4, 5, 8, 9], "pairs between windows are not computed"
    inner = np.stack([fields[k] for k in fields])[:, :, 10:-10, 10:-10]
    np.testing.assert_allclose(20 * np.median(inner, axis=(0, 2, 3)), [-1, 0], atol=0.2)
    stacks = flow_stacks(fields, np.array([1]), stride=4, window=3)
    np.testing.assert_array_equal(stacks[0], np.concatenate([fields[4], fields[5]]))


def test_no_motion_is_mid_grey_for_an_image_network() -> None:
    still = np.stack(noise_frames(1) * 5)
    cut = FlowStack(2, 3, "dis", 0.25).prepare(still)
    assert abs(cut(np.arange(2))).max() < 0.1 * 0.5 / 0.25
