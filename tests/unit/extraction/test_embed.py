"""Networks over the snippets of a video: batches, order, and when the host waits for the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tal_bench.extraction.backbone import embed


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
    np.testing.assert_array_equal(vectors, np.repeat(2.0 * np.arange(10)[:, None], 2, axis=1))
    assert vectors.dtype == np.float32 and net.sizes == [4, 4, 2]


def test_nothing_is_copied_to_the_host_before_the_last_batch() -> None:
    net = Mean().to("meta")
    with pytest.raises(NotImplementedError, match="meta tensor"):  # which has no content to copy
        embed(net, snippets, steps=10, batch=4)
    assert net.sizes == [4, 4, 2]
