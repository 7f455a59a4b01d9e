"""What a minute of this dataset's video costs before any detector runs."""

from __future__ import annotations

from dataclasses import replace

from tal_bench.data.sprites.settings import SpritesSettings
from tal_bench.data.sprites.sight import BATCH, WINDOW, StepFlow, network_streams
from tal_bench.data.video.cost import extraction_cost, made_up_video


def minute_cost(flow: str | None = "dis", *, seconds: float = 20.0) -> dict[str, float]:
    """Measure CPU seconds, on one thread, for a minute of sprites video (see `extraction_cost`).

    At 64 × 64 all are small: what carries over is their ratio.

    Args:
        flow: ``dis``, ``farneback``, ``tvl1``, or None for what an RGB-only model pays.
        seconds: length of the clip.

    Returns:
        ``decode`` and ``rgb_backbone``, and unless ``flow`` is None ``flow`` and ``flow_backbone``;
        ``total`` is their sum.
    """
    settings = SpritesSettings()
    streams = network_streams(settings)
    if flow is None:
        del streams["flow"]
    else:
        streams["flow"] = replace(streams["flow"], sight=StepFlow(settings.stride, flow))
    with made_up_video(settings.size, settings.fps, seconds) as clip:
        cost = extraction_cost(
            clip,
            streams,
            {} if flow is None else {"flow": flow},
            fps=settings.fps,
            size=(settings.size, settings.size),
            stride=settings.stride,
            window=WINDOW,
            batch=BATCH,
            seconds=seconds,
        )
    named = {f"{step.removeprefix('backbone/')}_backbone": s for step, s in cost.items() if "/" in step}
    cost = {step: s for step, s in cost.items() if "/" not in step} | named
    return cost | {"total": sum(cost.values())}
