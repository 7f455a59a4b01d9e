"""Soft whitening of input features: fitted on training videos, stored with the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import LABELS, tiny_spec, write_dataset
from torch import Tensor

from tal_bench.config import DetectorSpec
from tal_bench.data.channel_statistics import STEPS, channel_covariances, channel_statistics
from tal_bench.data.dataset import open_dataset
from tal_bench.data.registry import load_spec
from tal_bench.models.checkpoint import ModelCard, load_weights, save_model
from tal_bench.models.detector import Detector
from tal_bench.models.input_fusion import fit_standardisation, fit_whitening
from tal_bench.models.input_whitening import SHRINKAGE, Whitening, components
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.profiling.inputs import random_batch
from tal_bench.profiling.macs import count_macs
from tal_bench.profiling.model_detail import cost_by_part
from tal_bench.types import Batch


def architecture(name: str, whiten: int = 4, **changes: object) -> DetectorSpec:
    spec = detector_spec(get_model(name), tiny_spec(), len(LABELS))
    return spec.model_copy(update={"whiten": whiten, **changes})


def samples(channels: int, rank: int, count: int = 4000, seed: int = 0) -> Tensor:
    """Return correlated samples [count, channels] of a rank, with mean 0."""
    random = torch.Generator().manual_seed(seed)
    latent = torch.randn(count, rank, generator=random, dtype=torch.float64)
    latent *= torch.logspace(0, -2, rank, dtype=torch.float64)
    x = latent @ torch.randn(rank, channels, generator=random, dtype=torch.float64)
    return x - x.mean(dim=0)


def test_components_are_uncorrelated_and_shrunk_by_the_mean_variance() -> None:
    x = samples(12, 12)
    covariance = x.T @ x / len(x)
    z = x @ components(covariance, 5)
    result = z.T @ z / len(z)
    variances = torch.linalg.eigvalsh(covariance).flip(0)[:5]
    expected = variances / (variances + SHRINKAGE * variances.mean())
    torch.testing.assert_close(result, torch.diag(expected / expected.mean()), rtol=1e-6, atol=1e-8)


@given(st.floats(-6, 6), st.integers(0, 5))
def test_scale_and_rotation_of_the_features_do_not_matter(exponent: float, seed: int) -> None:
    x = samples(6, 6)
    rotation, _ = torch.linalg.qr(samples(6, 6, 6, seed) + torch.eye(6, dtype=torch.float64))
    mapped = 10.0**exponent * x @ rotation
    z, other = (y @ components(y.T @ y / len(y), 6) for y in (x, mapped))
    correlations = (z * other).mean(dim=0).abs() / z.square().mean(dim=0)
    torch.testing.assert_close(correlations, torch.ones(6, dtype=torch.float64), rtol=1e-3, atol=0.0)


def test_an_invertible_map_to_more_channels_loses_nothing() -> None:
    x = samples(6, 6)
    wide = x @ torch.randn(6, 40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    z = wide @ components(wide.T @ wide / len(wide), 40)
    assert z[:, 6:].abs().max() == 0, "components without variance are zero"
    found = torch.linalg.lstsq(z[:, :6], x).solution
    assert (z[:, :6] @ found - x).abs().max() < 1e-6


@pytest.mark.parametrize(("count", "channels"), [(5, 12), (1, 4)])
def test_fewer_steps_than_channels(count: int, channels: int) -> None:
    x = samples(channels, channels, count)
    matrix = components(x.T @ x / count, channels)
    assert matrix.isfinite().all()
    assert torch.count_nonzero(matrix.abs().sum(dim=0)) == count - 1


def test_constant_channels_are_ignored() -> None:
    x = samples(5, 5)
    x[:, 2] = 0.0
    matrix = components(x.T @ x / len(x), 5)
    assert matrix.isfinite().all()
    assert matrix[2].abs().max() < 1e-6
    assert components(torch.zeros(5, 5, dtype=torch.float64), 3).tolist() == [[0.0] * 3] * 5


def test_padding_stays_zero_and_modalities_are_apart() -> None:
    whitening = Whitening([3, 2], 2)
    whitening.load_state_dict({**whitening.state_dict(), "modalities.0.mean": torch.tensor([1.0, 2.0, 3.0])})
    mask = torch.tensor([[[1.0], [0.0]]])
    x = torch.tensor([[[2.0, 4.0, 6.0, 8.0, 9.0], [0.0] * 5]])
    assert whitening(x, mask).tolist() == [[[1.0, 2.0, 8.0, 9.0], [0.0] * 4]]


def test_covariances_are_those_of_the_training_features(tmp_path: Path) -> None:
    videos = open_dataset(load_spec(str(write_dataset(tmp_path / "tiny"))), ("rgb", "flow")).videos("train")
    assert max(video.steps for video in videos) < STEPS  # so that every step is read
    for name, (mean, covariance) in channel_covariances(videos, ("rgb", "flow")).items():
        values = np.concatenate([video.features[name] for video in videos]).astype(np.float64)
        np.testing.assert_allclose(mean.numpy(), values.mean(axis=0), rtol=1e-9, atol=1e-12)
        expected = np.cov(values.T, bias=True)
        np.testing.assert_allclose(covariance.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("name", ["conv-dw-hallucinated", "actionformer", "actionformer-privileged"])
def test_inputs_of_a_fitted_model(tmp_path: Path, name: str, standardise: bool) -> None:
    videos = open_dataset(load_spec(str(write_dataset(tmp_path / "tiny"))), ("rgb", "flow")).videos("train")
    spec = architecture(name, standardise=standardise)
    model = Detector(spec)
    fit_standardisation(model, channel_statistics(videos))
    fit_whitening(model, channel_covariances(videos, spec.reads))
    steps = min(video.steps for video in videos)
    features = {
        stream: torch.from_numpy(np.stack([video.features[stream][:steps].T for video in videos]))
        for stream in spec.reads
    }
    x = model.inputs.read(features, torch.ones(len(videos), steps, 1))
    assert x.shape[2] == 4 * len(spec.reads)
    assert x.mean(dim=(0, 1)).abs().max() < 0.3
    assert x.square().mean() == pytest.approx(1.0, abs=0.2)


def test_is_stored_with_the_weights(tmp_path: Path) -> None:
    spec = architecture("conv-dw-primary")
    fitted, loaded = Detector(spec), Detector(spec)
    x = samples(8, 8)
    fit_whitening(fitted, {"rgb": (torch.ones(8, dtype=torch.float64), x.T @ x / len(x))})
    save_model(fitted, tmp_path / "weights.safetensors", ModelCard(name="x", detector=spec))
    load_weights(loaded, tmp_path / "weights.safetensors")
    batch = random_batch(spec, 64)
    assert torch.equal(fitted(batch).logits[0], loaded(batch).logits[0])
    assert loaded.state_dict()["inputs.whitening.modalities.0.mean"].tolist() == [1.0] * 8


def test_published_sizes_do_not_whiten() -> None:
    spec = detector_spec(get_model("actionformer"), tiny_spec(size="full"), len(LABELS))
    assert (spec.whiten, Detector(spec).inputs.whitening) == (None, None)


@pytest.mark.parametrize("name", ["conv-dw-hallucinated", "actionformer"])
def test_its_operations_are_counted(name: str) -> None:
    plain, spec = architecture(name, whiten=100), architecture(name, whiten=4)
    batch = random_batch(spec, 64)
    parts = cost_by_part(get_model(name), spec, 64)
    assert sum(part.gmacs for part in parts.values()) == pytest.approx(
        count_macs(Detector(spec), batch) / 1e9
    )
    assert (parts["hallucination"].gmacs > 0) == (spec.inputs == "hallucinated")
    products = sum(
        plain.primary[n] * 4 if n in plain.primary else plain.privileged[n] * 4 for n in spec.reads
    )
    without = count_macs(Detector(spec.model_copy(update={"whiten": None, **narrow(spec)})), batch_of(spec))
    assert count_macs(Detector(spec), batch) - without == products * batch.mask.shape[1]


def narrow(spec: DetectorSpec) -> dict[str, object]:
    """Return the modalities at the width that whitening leaves."""
    return {role: dict.fromkeys(getattr(spec, role), 4) for role in ("primary", "privileged")}


def batch_of(spec: DetectorSpec) -> Batch:
    """Return features at the width that whitening leaves."""
    return random_batch(spec.model_copy(update={"whiten": None, **narrow(spec)}), 64)
