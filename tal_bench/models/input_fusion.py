"""From the modalities of a batch to the detector's input: selection, hallucination, gated fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.config import DetectorSpec
from tal_bench.models.input_whitening import Whitening
from tal_bench.models.layers import Conv, masked


class Hallucination(nn.Module):
    """Prediction of privileged features from primary ones by two convolutions of kernel 3 (C2MS-Net).

    Args:
        c_in: Channels of the primary modalities.
        c_out: Channels of the privileged modalities.
        nonnegative: Whether to end in ReLU; features after PCA or z-scoring are signed and need a linear
            output.
        width: Channels between the convolutions; None means c_out.
    """

    def __init__(self, c_in: int, c_out: int, nonnegative: bool, width: int | None = None) -> None:
        super().__init__()
        self.conv1 = Conv(c_in, width or c_out)
        self.conv2 = Conv(width or c_out, c_out)
        self.nonnegative = nonnegative

    def forward(self, primary: Tensor) -> Tensor:
        """[B, T, C_primary] -> [B, T, C_privileged]."""
        x: Tensor = self.conv2(self.conv1(primary))
        return F.relu(x) if self.nonnegative else x


class GatedFusion(nn.Module):
    """Gate per step that weighs primary against privileged features of the same width.

    h1 = tanh(W x1), h2 = tanh(W x2), z = sigmoid(w [h1; h2]), output [z x h1; (1 - z) x h2], no biases.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels, bias=False)
        self.gate = nn.Linear(2 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, 2C] -> [B, T, 2C]."""
        h1, h2 = (torch.tanh(self.hidden(half)) for half in x.chunk(2, dim=2))
        z = self.gate(torch.cat([h1, h2], dim=2)).sigmoid()
        return torch.cat([z * h1, (1 - z) * h2], dim=2)


class Standardisation(nn.Module):
    """Subtraction of the mean of every channel and division by its standard deviation.

    Both are buffers, stored with the weights. Before `fit_standardisation` they change nothing.

    Args:
        channels: Number of channels of all modalities that are read.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Features [B, T, C] and mask [B, T, 1] -> standardised features [B, T, C], 0 where padded."""
        return (x - self.mean.to(x.dtype)) / self.deviation.to(x.dtype) * mask

    def transformed(self, statistics: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Return mean and covariance of each modality after standardisation, from those before."""
        widths = [len(mean) for mean, _ in statistics]
        parts = zip(self.mean.double().split(widths), self.deviation.double().split(widths), strict=True)
        return [
            ((mean - own) / deviation, covariance / torch.outer(deviation, deviation))
            for (mean, covariance), (own, deviation) in zip(statistics, parts, strict=True)
        ]


class InputFusion(nn.Module):
    """Concatenation of the modalities that the detector reads, primary modalities first.

    Hallucinated features are masked like real ones unless ``masked`` is false, as in the code of C2MS-Net.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.reads = spec.reads
        self.masked = spec.masked_hallucination
        channels = spec.primary | spec.privileged
        read = [channels[name] for name in spec.reads]
        self.standardisation = Standardisation(sum(read)) if spec.standardise else None
        self.whitening = Whitening(read, spec.whiten) if spec.whiten else None
        nonnegative = spec.hallucination_activation == "relu"
        self.hallucination = (
            Hallucination(
                spec.primary_channels, spec.privileged_channels, nonnegative, spec.hallucination_width
            )
            if spec.inputs == "hallucinated"
            else None
        )
        self.fusion = GatedFusion(spec.primary_channels) if spec.gated_fusion else None

    def forward(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Features [B, C_m, T] by modality and mask [B, T, 1] -> inputs [B, T, C] before gated fusion."""
        x = self.read(features, mask)
        if self.hallucination is None:
            return x
        h = self.hallucination(x)
        return torch.cat([x, masked(h, mask) if self.masked else h], dim=2)

    def read(self, features: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Features [B, C_m, T] by modality and mask [B, T, 1] -> all of them, scaled, [B, T, C_read]."""
        x = torch.cat([features[name].transpose(1, 2).to(mask.dtype) for name in self.reads], dim=2)
        if self.standardisation is not None:
            x = self.standardisation(x, mask)
        return x if self.whitening is None else self.whitening(x, mask)


MIN_DEVIATION = 0.01
"""Smallest standard deviation of a channel, as a share of the root mean square over the channels."""


def fit_standardisation(model: nn.Module, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Set mean and deviation of a model that standardises its features; others are left unchanged.

    Channels that (almost) do not vary, such as dead channels after a ReLU, are not amplified: their deviation
    is raised to `MIN_DEVIATION` times the root mean square deviation of the modality.

    Args:
        model: Network, changed in place.
        statistics: Mean [C_m] and standard deviation [C_m] of the channels of each modality.
    """
    for module in model.modules():
        if isinstance(module, InputFusion) and module.standardisation is not None:
            means, deviations = zip(*(statistics[name] for name in module.reads), strict=True)
            floors = [d.square().mean().sqrt() * MIN_DEVIATION for d in deviations]
            raised = [torch.maximum(d, f) for d, f in zip(deviations, floors, strict=True)]
            deviation = torch.cat(raised)
            module.standardisation.mean.copy_(torch.cat(means))
            module.standardisation.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))


def fit_whitening(model: nn.Module, covariances: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Set the components of a model that whitens its features; others are left unchanged.

    Where the model also standardises, `fit_standardisation` has to be called before.

    Args:
        model: Network, changed in place.
        covariances: Mean [C_m] and covariance [C_m, C_m] of the channels of each modality, float64.
    """
    for module in model.modules():
        if isinstance(module, InputFusion) and module.whitening is not None:
            statistics = [covariances[name] for name in module.reads]
            if module.standardisation is not None:
                statistics = module.standardisation.transformed(statistics)
            module.whitening.fit(statistics)
