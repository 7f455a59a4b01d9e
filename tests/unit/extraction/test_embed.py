"""Networks over the snippets of a video: batches, order, and when the host waits for the device."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from fake_gpu import GpuRules, fake_gpu
from numpy.typing import NDArray
from torch import Tensor, nn

from tal_bench.config import Precision
from tal_bench.extraction import features
from tal_bench.extraction.backbone import SnippetNet, embed
from tal_bench.extraction.snippet_sampler import CentreFrame


class Mean(nn.Module):
    """Mean and largest value of a snippet."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.sizes: list[int] = []

    def forward(self, snippets: Tensor) -> Tensor:
        self.sizes.append(len(snippets))
        flat = snippets.flatten(1)
        return self.scale * torch.stack([flat.mean(dim=1), flat.amax(dim=1)], dim=1)


def snippets(steps: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.broadcast_to(steps[:, None, None, None], (len(steps), 3, 4, 4)).astype(np.float32)


def test_vectors_are_in_the_order_of_the_steps() -> None:
    net = Mean()
    vectors = embed(net, snippets, steps=10, batch=4)
    np.testing.assert_array_equal(vectors.numpy(), np.repeat(2.0 * np.arange(10)[:, None], 2, axis=1))
    assert vectors.dtype == torch.float32 and net.sizes == [4, 4, 2]


class Checked(nn.Module):
    """Network of a GPU whose operations follow the rules, and the precision of its convolutions."""

    def __init__(self, net: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.net, self.precision = net, precision
        self.sizes: list[int] = []

    def forward(self, snippets: Tensor) -> Tensor:
        self.sizes.append(len(snippets))
        with GpuRules(self.precision) as rules:
            found: Tensor = self.net(snippets)
        assert sum(number for operation, number in rules.operations.items() if "conv" in operation) > 3
        assert torch.backends.cudnn.allow_tf32 == (self.precision == "tf32")
        assert found.dtype == (torch.bfloat16 if self.precision == "bf16" else torch.float32)
        return found


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("name", ["shipped", "tf_efficientnet_lite0"])
def test_the_host_never_waits_for_a_gpu(
    name: str, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: pinned.append(x) or x)
    with fake_gpu():
        net = SnippetNet(3).fused() if name == "shipped" else timm.create_model(name, num_classes=0)
        checked = Checked(net.eval().to(device="cuda"), precision)
        found = embed(
            checked, lambda at: np.zeros((len(at), 3, 32, 32), np.float32), 10, 4, precision=precision
        )
    assert checked.sizes == [4, 4, 2] and len(pinned) == 3
    assert (found.device.type, found.dtype, len(found)) == ("cuda", torch.float32, 10), "not copied yet"


def test_the_vectors_of_a_video_are_copied_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A video of several excerpts, whose vectors have no content to copy."""
    monkeypatch.setattr(features, "EXCERPT_BYTES", 1)
    copies: list[int] = []
    monkeypatch.setattr(Tensor, "cpu", lambda x: copies.append(len(x)) or torch.zeros(x.shape))
    net = Mean().to("meta")
    stream = features.Stream(CentreFrame(1, 1, (0.5,) * 3, (0.2,) * 3), net)
    frames = [np.zeros((8, 8, 3), np.uint8)] * 10
    found = features.extract(frames, {"rgb": stream}, stride=1, window=1, batch=4)
    assert net.sizes == [4, 4, 2] and copies == [10] and found["rgb"].shape == (10, 2)


def test_bf16_is_close_to_fp32_and_not_the_same() -> None:
    torch.manual_seed(0)
    net = SnippetNet(3).fused()
    x = np.random.default_rng(0).normal(size=(5, 3, 32, 32)).astype(np.float32)
    full, half, other = (embed(net, lambda at: x[at], 5, precision=p) for p in ("fp32", "bf16", "tf32"))
    assert half.dtype == torch.float32
    assert 0 < (full - half).norm() < 0.05 * full.norm()
    assert torch.equal(full, other), "the CPU has no TF32"
