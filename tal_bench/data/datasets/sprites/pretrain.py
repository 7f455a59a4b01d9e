"""Pretraining of the two small networks that are shipped with the package.

``python -m tal_bench.data.datasets.sprites.pretrain --out DIR`` takes some minutes on one core.

As features of real videos come from networks pretrained on other videos (I3D on Kinetics), these networks
are pretrained on generated clips with other seeds, in which all motions of all sprites are about equally
frequent. Their targets determine the information in each stream:

- the flow network learns to classify the visible sprites and their motions;
- the RGB network learns to classify the visible sprites, and to regress the coarse flow (u, v and magnitude,
  in 4 × 4 cells) from frame differences. It gets no motion labels: with them, RGB alone nearly reaches the
  accuracy of both streams, and nothing is left to distil.

The same seed, machine and library versions give the same weights; the number of steps is fixed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tal_bench.data.datasets.sprites.observe import Observed, observe
from tal_bench.data.datasets.sprites.scene import plan_clip, scene_rng, step_labels
from tal_bench.data.datasets.sprites.settings import APPEARANCES, GENERATOR_VERSION, MOTIONS, SpritesSettings
from tal_bench.extraction.backbone import SnippetNet
from tal_bench.extraction.shipped_networks import STREAMS, build_network
from tal_bench.extraction.snippets import windows
from tal_bench.extraction.workers import one_thread

CELLS = 4


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of the pretraining; ``clip_seconds`` is in seconds."""

    seed: int = 7919
    clips: int = 220
    clip_seconds: float = 30.0
    steps: int = 1500
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    category_weight: float = 0.5
    flow_weight: float = 2.0


@dataclass(frozen=True)
class Clips:
    """Inputs of the clips and targets per step: sprites [T, 4], motions [T, 7] and pooled flow [T, 144]."""

    videos: list[Observed]
    seen: list[NDArray[np.float32]]
    moving: list[NDArray[np.float32]]
    pooled: list[NDArray[np.float32]]


def pooled_flow(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute mean u, v and magnitude of the flow in 4 × 4 cells at the steps i − 1, i, i + 1 of a snippet.

    Args:
        flow: Flow in pixels, [T, 2, H, W].

    Returns:
        Pooled flow in pixels, [T, 144].
    """
    size = np.hypot(flow[:, 0], flow[:, 1])[:, None]
    maps = torch.from_numpy(np.concatenate([flow, size], 1))
    pooled: NDArray[np.float32] = nn.functional.adaptive_avg_pool2d(maps, CELLS).flatten(1).numpy()
    return pooled[windows(len(pooled), 1, 1, len(pooled))].reshape(len(pooled), -1)


def make_clips(settings: PretrainSettings, world: SpritesSettings) -> Clips:
    """Generate the pretraining clips and compute their inputs and targets."""
    clips = Clips([], [], [], [])
    for index in range(settings.clips):
        scene = plan_clip(scene_rng(settings.seed, "pretrain", index), world, settings.clip_seconds)
        video = observe(scene, world)
        seen, moving, _ = step_labels(scene, world)
        clips.videos.append(video)
        clips.seen.append(seen)
        clips.moving.append(moving)
        clips.pooled.append(pooled_flow(video.flow))
    return clips


def _batch(
    rng: np.random.Generator, clips: Clips, stream: str, size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw a batch of snippets with their targets: 8 steps from each of ``size`` / 8 clips."""
    xs, rows = [], []
    for clip in rng.integers(len(clips.videos), size=size // 8):
        video = clips.videos[clip]
        steps = rng.choice(video.steps, 8, replace=False)
        xs.append(video.rgb(steps) if stream == "rgb" else video.motion(steps))
        rows.append((clips.seen[clip][steps], clips.moving[clip][steps], clips.pooled[clip][steps]))
    x = torch.from_numpy(np.concatenate(xs)).contiguous(memory_format=torch.channels_last)
    seen, moving, pooled = (torch.from_numpy(np.concatenate(part)) for part in zip(*rows, strict=True))
    return x, seen, moving, pooled


def pretrain(stream: str, clips: Clips, settings: PretrainSettings) -> tuple[SnippetNet, list[float]]:
    """Pretrain the network of one stream.

    Args:
        stream: ``rgb`` or ``flow``.
        clips: Clips from ``make_clips``.
        settings: Settings of the pretraining.

    Returns:
        Network, and mean loss over every 100 steps.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng([settings.seed, STREAMS.index(stream)])
    net = build_network(stream)
    outputs = len(APPEARANCES) + (9 * CELLS * CELLS if stream == "rgb" else len(MOTIONS))
    head = nn.Linear(net.num_features, outputs)
    model = nn.Sequential(net, head).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=0.1
    )
    losses: list[float] = []
    for step in range(settings.steps):
        x, seen, moving, pooled = _batch(rng, clips, stream, settings.batch)
        out = model(x)
        split = len(APPEARANCES)
        category = nn.functional.binary_cross_entropy_with_logits(out[:, :split], seen)
        if stream == "rgb":
            coarse = nn.functional.smooth_l1_loss(out[:, split:], pooled)
            loss = settings.category_weight * category + settings.flow_weight * coarse
        else:
            loss = category + nn.functional.binary_cross_entropy_with_logits(out[:, split:], moving)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 100 == 0:
            print(f"{stream} step {step + 1}: loss {np.mean(losses[-100:]):.4f}", flush=True)
    return net, [float(np.mean(losses[k : k + 100])) for k in range(0, len(losses), 100)]


def save(net: SnippetNet, path: Path, settings: PretrainSettings) -> None:
    """Write a network's weights as safetensors, with the settings of the pretraining in the header."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    made = f"generator {GENERATOR_VERSION}, {settings}"  # one entry: several have random order
    save_file(state, partial, metadata={"made": made})
    partial.chmod(0o644)  # safetensors writes files that only their owner may read
    partial.replace(path)


def main() -> None:
    """Pretrain both networks and write ``rgb.safetensors`` and ``flow.safetensors``."""
    parser = argparse.ArgumentParser(description="Pretrain the networks of the sprites dataset.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=PretrainSettings.steps)
    parser.add_argument("--clips", type=int, default=PretrainSettings.clips)
    parser.add_argument("--seed", type=int, default=PretrainSettings.seed)
    parser.add_argument("--stream", choices=STREAMS, action="append")
    options = parser.parse_args()
    settings = PretrainSettings(seed=options.seed, clips=options.clips, steps=options.steps)
    world = SpritesSettings()
    with one_thread():
        clips = make_clips(settings, world)
        for stream in options.stream or STREAMS:
            net, _ = pretrain(stream, clips, settings)
            save(net, options.out / f"{stream}.safetensors", settings)


if __name__ == "__main__":
    main()
