"""Number of weights of a module that inference needs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.autograd.graph import Node

from tal_bench.models.ops.op_shortcuts import without_shortcuts
from tal_bench.types import Batch, DetectorOutput


def count_parameters(module: nn.Module) -> int:
    """Count all weights of a module, shared weights once."""
    return sum(p.numel() for p in module.parameters())


def inference_parameters(module: nn.Module, batch: Batch) -> int:
    """Count the weights on which logits or offsets depend, without those used only in training.

    They are found by following the autograd graph of one forward pass. Buffers are not counted.

    Args:
        module: Module in evaluation mode whose weights all require a gradient.
        batch: Input of the module.
    """
    with without_shortcuts():  # so that no loop has to be compiled first
        output: DetectorOutput = module(batch)
    used = _leaves([*output.logits, *output.offsets])
    return sum(p.numel() for p in module.parameters() if id(p) in used)


def _leaves(outputs: Sequence[Tensor]) -> set[int]:
    """Return the ids of the leaf tensors on which the outputs depend."""
    leaves: set[int] = set()
    seen: set[Node] = set()
    waiting: list[Node] = [x.grad_fn for x in outputs if x.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves.add(id(leaf))
        waiting += [parent for parent, _ in node.next_functions if parent is not None]
    return leaves
