"""From the modalities of a batch to the detector's input: selection, hallucination, gated fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.config import DetectorSpec
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


class InputFusion(nn.Module):
    """Concatenation of the modalities that the detector reads, primary modalities first.

    Hallucinated features are masked like real ones unless ``masked`` is false, as in the code of C2MS-Net.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.reads = spec.reads
        self.masked = spec.masked_hallucination
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
        x = torch.cat([features[name].transpose(1, 2).to(mask.dtype) for name in self.reads], dim=2)
        if self.hallucination is None:
            return x
        h = self.hallucination(x)
        return torch.cat([x, masked(h, mask) if self.masked else h], dim=2)
