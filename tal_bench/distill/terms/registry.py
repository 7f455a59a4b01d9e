"""Distillation terms by name.

A term is a pure function of the outputs of student and teacher for the same batch. It returns a scalar, and
positions where the mask is false do not count. Every module of this package declares one term, so adding a
term to the package is adding a file.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tal_bench.config import Range
from tal_bench.registry import Registry
from tal_bench.types import Outputs

TermFunction = Callable[[Outputs, Outputs, float], Tensor]


@dataclass(frozen=True, slots=True)
class Term:
    """A registered distillation term.

    Attributes:
        name: Name by which variants refer to the term.
        fn: Function (student, teacher, temperature) -> scalar.
        search: Range in which studies search the weight of the term.
        summary: One line for `tal-bench list terms`.
        formula: The term in one line of plain text.
        paper: Short citation.
    """

    name: str
    fn: TermFunction
    search: Range
    summary: str
    formula: str = ""
    paper: str = ""


LISTED_FIRST = ("hallucination", "stem", "offsets", "logits_binary", "logits")
"""Modules whose terms are listed first, in this order; those of further modules follow by name."""
_modules = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
_modules -= {"registry", "reductions", *LISTED_FIRST}
terms: Registry[Term] = Registry(
    "term", *(f"tal_bench.distill.terms.{name}" for name in (*LISTED_FIRST, *sorted(_modules)))
)
