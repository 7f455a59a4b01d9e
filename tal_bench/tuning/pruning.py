"""Pruning of trials by Optuna's pruners, based only on trials of completed generations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tal_bench.config import Pruner

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

Curve = Mapping[int, float]
"""Epoch to validation mAP."""

WARMUP_SHARE = 0.3
"""Share of a trial's epochs during which the median pruner does not prune it."""
STARTUP_TRIALS = 3
"""Number of completed trials before the median pruner prunes any."""
REDUCTION_FACTOR = 2
"""Reduction factor of successive halving and Hyperband."""


def judge(
    history: Sequence[Curve], total_epochs: int, pruner: Pruner = "median", every: int = 1, place: int = 0
) -> Callable[[int, float], bool]:
    """Return a function (epoch, validation mAP) -> whether to prune the trial.

    Args:
        history: Validation curves of the trials of earlier generations. For the median pruner, those of the
            completed trials; for other pruners, those of all trials in the order of their numbers, empty for
            failed trials.
        total_epochs: Number of epochs of a full trial.
        pruner: Name of the pruner.
        every: Number of epochs between two evaluations.
        place: Position of the trial within its generation. Hyperband assigns trials to brackets by number.
    """
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="trials", direction="maximize", pruner=_make_pruner(pruner, total_epochs, every)
    )
    for curve in history:
        past = study.ask()
        for epoch, value in sorted(curve.items()):
            past.report(value, epoch)
            past.should_prune()  # makes the pruner record which rungs the trial reached
        if curve and max(curve) == total_epochs:
            study.tell(past, curve[max(curve)])
        else:
            study.tell(past, state=TrialState.PRUNED if curve else TrialState.FAIL)
    for _ in range(place):
        study.tell(study.ask(), state=TrialState.FAIL)
    trial = study.ask()

    def should_prune(epoch: int, value: float) -> bool:
        trial.report(value, epoch)
        return epoch < total_epochs and trial.should_prune()

    return should_prune


def _make_pruner(pruner: Pruner, total_epochs: int, every: int) -> BasePruner:
    from optuna import pruners

    if pruner == "none":
        return pruners.NopPruner()
    if pruner == "sha":
        return pruners.SuccessiveHalvingPruner(min_resource=every, reduction_factor=REDUCTION_FACTOR)
    if pruner == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=every, max_resource=total_epochs, reduction_factor=REDUCTION_FACTOR
        )
    warmup = int(WARMUP_SHARE * total_epochs)
    return pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=warmup)
