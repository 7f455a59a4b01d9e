"""The two small networks that the package ships, one a stream."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import torch

from tal_bench.data.video.backbone import SnippetNet, load_weights
from tal_bench.errors import DataError

STREAMS = ("rgb", "flow")
WEIGHTS = Path(__file__).parent / "weights"


def build_network(stream: str) -> SnippetNet:
    """Return the untrained network of ``rgb`` (9 channels, 48 × 48) or ``flow`` (6 channels, 32 × 32).

    Flow fields come at half resolution already, so that network halves one time less.
    """
    return SnippetNet(9) if stream == "rgb" else SnippetNet(6)


@lru_cache(maxsize=1)
def load_networks() -> dict[str, SnippetNet]:
    """Return the shipped networks, ready to embed."""
    nets = {}
    for stream in STREAMS:
        net = build_network(stream)
        load_weights(net, WEIGHTS / f"{stream}.safetensors")
        nets[stream] = net.fused().to(memory_format=torch.channels_last)
    return nets


def weights_hash() -> str:
    """Return a short hash of both networks' weights files.

    Raises:
        DataError: a file is missing.
    """
    digest = hashlib.sha256()
    for stream in STREAMS:
        path = WEIGHTS / f"{stream}.safetensors"
        if not path.exists():
            raise DataError(
                "the pretrained network is missing",
                where=path,
                hint="reinstall tal-bench, or run python -m tal_bench.data.sprites.pretrain --out "
                + str(WEIGHTS),
            )
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
