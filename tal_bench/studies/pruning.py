"""Early stopping of hopeless trials: Optuna's median rule over completed generations alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

Curve = Mapping[int, float]
"""Epoch to validation mAP."""

WARMUP_SHARE = 0.3
"""Trials are safe for this share of their epochs."""
NEEDED = 3
"""Completed trials before anything is pruned."""


def judge(history: Sequence[Curve], total_epochs: int) -> Callable[[int, float], bool]:
    """Return a function (epoch, validation mAP) -> whether to stop the trial.

    Args:
        history: curves of the trials that completed in earlier generations, whatever runs beside.
        total_epochs: of a full trial.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=NEEDED, n_warmup_steps=int(WARMUP_SHARE * total_epochs)
    )
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for curve in history:
        study.add_trial(optuna.trial.create_trial(value=curve[max(curve)], intermediate_values=dict(curve)))
    trial = study.ask()

    def stop(epoch: int, value: float) -> bool:
        trial.report(value, epoch)
        return epoch < total_epochs and trial.should_prune()

    return stop
