"""Early stopping of hopeless trials: Optuna's rules over completed generations alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tal_bench.config import Pruner

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

Curve = Mapping[int, float]
"""Epoch to validation mAP."""

WARMUP_SHARE = 0.3
"""Trials are safe for this share of their epochs from the median rule."""
NEEDED = 3
"""Completed trials before the median rule ends any."""
HALVING = 2
"""Of the trials that reach a rung, one in so many goes on; the next rung is so many times as far."""


def judge(
    history: Sequence[Curve], total_epochs: int, pruner: Pruner = "median", every: int = 1, place: int = 0
) -> Callable[[int, float], bool]:
    """Return a function (epoch, validation mAP) -> whether to stop the trial.

    Args:
        history: curves of trials of earlier generations, whatever runs beside: for the median rule of those
            that completed, for the others of all in the order of their numbers, empty where one failed.
        total_epochs: of a full trial.
        pruner: the rule.
        every: epochs between two scores.
        place: of the trial in its generation; Hyperband deals trials to its brackets by their numbers.
    """
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="trials", direction="maximize", pruner=_rule(pruner, total_epochs, every)
    )
    for curve in history:
        past = study.ask()
        for epoch, value in sorted(curve.items()):
            past.report(value, epoch)
            past.should_prune()  # so it learns which rungs the trial reached
        if curve and max(curve) == total_epochs:
            study.tell(past, curve[max(curve)])
        else:
            study.tell(past, state=TrialState.PRUNED if curve else TrialState.FAIL)
    for _ in range(place):
        study.tell(study.ask(), state=TrialState.FAIL)
    trial = study.ask()

    def stop(epoch: int, value: float) -> bool:
        trial.report(value, epoch)
        return epoch < total_epochs and trial.should_prune()

    return stop


def _rule(pruner: Pruner, total_epochs: int, every: int) -> BasePruner:
    from optuna import pruners

    if pruner == "none":
        return pruners.NopPruner()
    if pruner == "sha":
        return pruners.SuccessiveHalvingPruner(min_resource=every, reduction_factor=HALVING)
    if pruner == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=every, max_resource=total_epochs, reduction_factor=HALVING
        )
    return pruners.MedianPruner(n_startup_trials=NEEDED, n_warmup_steps=int(WARMUP_SHARE * total_epochs))
