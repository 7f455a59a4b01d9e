"""AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019), one call per group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw


class AdamW:
    """AdamW with the library's fused kernel, and with what training reads of `torch.optim.AdamW`.

    `torch.optim.AdamW` gives the same weights bit by bit, but its first call imports the compiler of torch,
    which takes a process as long as the import of torch itself.

    Args:
        groups: Groups of parameters; each has `params` and `weight_decay`, and may have `lr`.
        lr: Learning rate of groups that have none.

    Attributes:
        param_groups: The groups; `lr` is a number, or a tensor that is read at every step.
        state: `step`, `exp_avg` and `exp_avg_sq` of every parameter after its first step.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        defaults = {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8, "capturable": False}
        self.param_groups: list[dict[str, Any]] = [defaults | group for group in groups]
        self.state: defaultdict[nn.Parameter, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            changed = [p for p in group["params"] if p.grad is not None]
            states = [self._state_of(p) for p in changed]
            adamw(
                changed,
                [p.grad for p in changed],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                capturable=group["capturable"],
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def _state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return the state of a parameter, whose moments have its memory layout."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state
