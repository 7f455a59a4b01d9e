"""How many weights inference needs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.autograd.graph import Node

from tal_bench.types import Batch, DetectorOutput


def count_parameters(module: nn.Module) -> int:
    """All weights of a module, a shared one once."""
    return sum(p.numel() for p in module.parameters())


def inference_parameters(module: nn.Module, batch: Batch) -> int:
    """Weights that logits or offsets depend on; what serves training alone is left out.

    Found by following the graph of one forward pass back from the detections. Buffers are not weights.

    Args:
        module: in evaluation mode, all its weights requiring a gradient; the meta device will do.
        batch: what to run it on.
    """
    output: DetectorOutput = module(batch)
    used = _leaves([*output.logits, *output.offsets])
    return sum(p.numel() for p in module.parameters() if id(p) in used)


def _leaves(outputs: Sequence[Tensor]) -> set[int]:
    """Identities of the leaf tensors that the outputs were computed from."""
    found: set[int] = set()
    seen: set[Node] = set()
    waiting: list[Node] = [x.grad_fn for x in outputs if x.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.add(id(leaf))
        waiting += [before for before, _ in node.next_functions if before is not None]
    return found
