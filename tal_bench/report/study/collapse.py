"""Detection of trainings that learned nothing, so that they do not pass for bad methods."""

from __future__ import annotations

from statistics import fmean

from tal_bench.results.records import RunResult

LABEL_LOSS = "labels"
FLAT = 0.9
"""Share of the loss in the second quarter of a training above which the loss in the last quarter is flat.
Trainings on `sprites` end at 0.4 to 0.7 of it, collapsed ones at 0.94 and above."""
FLAT_MAP = 15.0
"""Average mAP in percent above which a training with a flat loss has learned something all the same, for
instance before the second quarter, or from the initial weights."""
MIN_EPOCHS = 8
"""Number of epochs below which no training is judged."""
MIN_MAP = 0.5
"""Average mAP in percent below which no detection is better than chance."""


def is_collapsed(run: RunResult) -> bool:
    """Return whether a finished training learned nothing.

    That is, its loss stayed flat and its mAP is low, or its mAP is about 0.
    """
    losses = [epoch.losses[LABEL_LOSS] for epoch in run.history if LABEL_LOSS in epoch.losses]
    if len(losses) < MIN_EPOCHS:
        return False
    quarter = len(losses) // 4
    flat = fmean(losses[-quarter:]) > FLAT * fmean(losses[quarter : 2 * quarter])
    return run.metrics.get("map_avg", 100.0) < (FLAT_MAP if flat else MIN_MAP)
