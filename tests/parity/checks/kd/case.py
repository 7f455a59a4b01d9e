"""A case of a fixture of distillation losses: settings, inputs and parameters in one precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...fixtures import Fixture
from ..arrays import on_default_device


class Named(dict[str, Any]):
    """Settings or tensors of a case by name; an error for a name that it lacks says which case."""

    def __init__(self, what: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.what = what

    def __missing__(self, name: str) -> Any:
        raise LookupError(f"{self.what} {name!r} is missing; there are {', '.join(self) or 'none'}")


@dataclass
class Case:
    """Settings, inputs and parameters of a case; floating-point tensors are leaves that take gradients.

    Attributes:
        settings: Settings by name.
        inputs: Tensors below `in/`.
        params: Tensors below `param/`.
    """

    settings: Named
    inputs: Named
    params: Named
    _loaded: dict[str, nn.Parameter] = field(default_factory=dict)

    @classmethod
    def read(cls, fixture: Fixture, name: str, precision: torch.dtype) -> Case:
        """Read a case of a fixture in a precision."""

        def tensor(array: Any) -> Tensor:
            x = on_default_device(array)
            return x.to(precision).requires_grad_() if x.is_floating_point() else x

        where = f"{fixture.id}/{name}:"
        inputs, params = (
            Named(
                f"{where} the array {group}/",
                {key: tensor(array) for key, array in fixture.tree(f"{name}/{group}").items()},
            )
            for group in ("in", "param")
        )
        settings = Named(f"{where} the setting", fixture.meta["cases"][name]["settings"])
        return cls(settings, inputs, params)

    def __getitem__(self, name: str) -> Tensor:
        x: Tensor = self.inputs[name]
        return x

    def mask(self, like: str, time: int) -> Tensor:
        """Return the valid positions [B, T] of an input; all of them where the case has no mask.

        A level of a pyramid, such as `student_1`, may have a mask of its own, `mask_1`.
        """
        x, (_, underscore, level) = self.inputs[like], like.rpartition("_")
        for name in (f"mask_{level}" if underscore and level.isdigit() else "mask", "mask"):
            if name in self.inputs:
                return self.inputs[name].bool()
        return torch.ones(x.shape[0], x.shape[time], dtype=torch.bool)

    def cut(self, x: Tensor, time: int) -> Tensor:
        """Return only the valid steps of an output, as the fixtures do where there is a mask."""
        if "mask" not in self.inputs:
            return x
        steps = self.inputs["mask"].bool().any(dim=0)
        return x.index_select(time, steps.nonzero()[:, 0])

    def levels(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return student, teacher and mask of each level of a pyramid."""
        names = ["student"] if "student" in self.inputs else []
        while f"student_{len(names)}" in self.inputs:
            names.append(f"student_{len(names)}")
        assert len(names) == self.settings.get("levels", 1), f"levels {names} for {self.settings}"
        return [(self[n], self[n.replace("student", "teacher")], self.mask(n, 2)) for n in names]

    def load(self, module: nn.Module, names: dict[str, str]) -> None:
        """Give a module the parameters of the case, from its own names for them to those of the fixture."""
        own = dict(module.named_parameters())
        assert own.keys() == names.keys(), f"{sorted(own)} for {sorted(names)}"
        for ours, theirs in names.items():
            own[ours].data = self.params[theirs].detach().reshape(own[ours].shape).clone()
            self._loaded[theirs] = own[ours]

    def gradient(self, name: str) -> Tensor:
        """Return the gradient of an input or a parameter; zeros where nothing flowed."""
        leaf: Tensor = self._loaded[name] if name in self._loaded else self.inputs[name]
        return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
