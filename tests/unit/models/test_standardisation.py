"""Standardisation of input features: fitted on training videos, stored with the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import LABELS, tiny_spec, write_dataset

from tal_bench.config import DetectorSpec, TrainSpec
from tal_bench.data.channel_statistics import STEPS, channel_statistics
from tal_bench.data.dataset import open_dataset
from tal_bench.data.registry import load_spec
from tal_bench.models.checkpoint import ModelCard, load_weights, save_model
from tal_bench.models.detector import Detector
from tal_bench.models.input_fusion import MIN_DEVIATION, Standardisation, fit_standardisation
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.profiling.inputs import random_batch
from tal_bench.training.device import Device
from tal_bench.training.train import train

STATISTICS = {
    "rgb": (torch.linspace(-3, 3, 8), torch.linspace(0.5, 4, 8)),
    "flow": (torch.ones(6), torch.full((6,), 100.0)),
}


def architecture(name: str) -> DetectorSpec:
    spec = detector_spec(get_model(name), tiny_spec(), len(LABELS))
    return spec.model_copy(update={"standardise": True, "whiten": None})


@pytest.mark.parametrize("name", ["conv-dw-hallucinated", "actionformer", "actionformer-privileged"])
def test_inputs_have_mean_0_and_deviation_1(name: str) -> None:
    spec = architecture(name)
    model = Detector(spec)
    fit_standardisation(model, STATISTICS)
    batch = random_batch(spec, 64)
    for stream, values in batch.features.items():
        mean, deviation = STATISTICS[stream]
        values.copy_(values * deviation[:, None] + mean[:, None])
    read = sum(batch.features[stream].shape[1] for stream in spec.reads)
    x, mask = model.read_inputs(batch.features, batch.mask)
    valid = x[mask[:, :, 0] > 0][:, :read]
    assert valid.mean().abs() < 0.2 and (valid.std() - 1).abs() < 0.2


def test_padding_stays_zero() -> None:
    standardisation = Standardisation(2)
    standardisation.mean.fill_(5.0)
    mask = torch.tensor([[[1.0], [0.0]]])
    assert standardisation(torch.zeros(1, 2, 2), mask).tolist() == [[[-5.0, -5.0], [0.0, 0.0]]]


def test_dead_channels_are_not_amplified() -> None:
    model = Detector(architecture("conv-dw-primary"))
    deviation = torch.tensor([0.0, 1e-9, *[2.0] * 6])
    fit_standardisation(model, {"rgb": (torch.zeros(8), deviation)})
    fitted = model.inputs.standardisation
    assert fitted is not None
    floor = float(MIN_DEVIATION * deviation.square().mean().sqrt())
    assert fitted.deviation.tolist() == pytest.approx([floor, floor, *[2.0] * 6])
    fit_standardisation(model, {"rgb": (torch.zeros(8), torch.zeros(8))})
    assert fitted.deviation.tolist() == [1.0] * 8


def test_is_stored_with_the_weights(tmp_path: Path) -> None:
    spec = architecture("conv-dw-primary")
    fitted, loaded = Detector(spec), Detector(spec)
    fit_standardisation(fitted, STATISTICS)
    save_model(fitted, tmp_path / "weights.safetensors", ModelCard(name="x", detector=spec))
    load_weights(loaded, tmp_path / "weights.safetensors")
    assert loaded.inputs.standardisation is not None
    assert torch.equal(loaded.inputs.standardisation.mean, STATISTICS["rgb"][0])


def test_published_sizes_do_not_standardise() -> None:
    spec = detector_spec(get_model("actionformer"), tiny_spec(size="full"), len(LABELS))
    assert Detector(spec).inputs.standardisation is None
    assert not [name for name in Detector(spec).state_dict() if "standardisation" in name]


def test_statistics_are_those_of_the_training_features(tmp_path: Path) -> None:
    dataset = load_spec(str(write_dataset(tmp_path / "tiny")))
    videos = open_dataset(dataset, ("rgb", "flow")).videos("train")
    assert max(video.steps for video in videos) < STEPS  # so that every step is read
    for name, (mean, deviation) in channel_statistics(videos).items():
        values = np.concatenate([video.features[name] for video in videos])
        np.testing.assert_allclose(mean.numpy(), values.mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(deviation.numpy(), values.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-2, 1e2])
def test_training_does_not_depend_on_scale_and_offset(tmp_path: Path, scale: float) -> None:
    """Losses after two epochs agree for features that are shifted and multiplied."""
    spec = TrainSpec(epochs=2, warmup_epochs=0, batch_size=2, lr=1e-3)
    losses = []
    for name, factor, offset in (("plain", 1.0, 0.0), ("scaled", scale, 3.0 * scale)):
        dataset = load_spec(str(write_dataset(tmp_path / name)))
        for file in (tmp_path / name).glob("*/*.npy"):
            np.save(file, (np.load(file).astype(np.float64) * factor + offset).astype(np.float32))
        videos = open_dataset(dataset, ("rgb",)).videos("train")
        torch.manual_seed(0)
        model = Detector(architecture("conv-dw-hallucinated"))
        fit_standardisation(model, channel_statistics(videos))
        seen: list[float] = []

        def after(_epoch: int, means: dict[str, float], _model: object, seen: list[float] = seen) -> bool:
            seen.append(means["total"])
            return False

        train(model, model.spec, videos, spec, seed=0, device=Device("cpu", "fp32"), after_epoch=after)
        losses.append(seen)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
