"""The page docs/methods.md: all distillation terms, from their declarations."""

from __future__ import annotations

from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.variants import variants

HEAD = (
    "# Distillation terms",
    "What does each distillation term compute, where is it from, and how is it weighted?",
)
INTRODUCTION = """\
The training loss of a distilled student is (1 − λ) · labels + λ · Σ weight · τ^p · term. A term compares \
what student and teacher compute for the same batch. `tal-bench list terms` prints the formulas, `tal-bench \
ablate methods` compares the published methods, and [extend.md](extend.md#plugins) shows how to add one.

Notation: s student, t teacher, B batch, T_l steps and C channels of level l, K classes, τ temperature. \
"valid" are positions that are not padded; what lies beyond never matters, and teachers receive no \
gradient. *projected*: the student's feature passes a learned 1×1 projection where the widths differ. \
Projections and all other parameters of a term are trained with the student and dropped afterwards. Weights \
are searched in the given range, starting from the default; weights of publications do not carry over where \
they divide by other numbers."""
COLUMNS = """\
| Term | Compares | Reads | Default weight | Variants |
|---|---|---|---|---|
"""


def parts() -> list[str]:
    """Return the parts of docs/methods.md: title, question, introduction, table, a section per term."""
    declared = [terms.get(name) for name in sorted(terms)]
    table = COLUMNS + "\n".join(map(_line, declared))
    return [*HEAD, INTRODUCTION, table, *map(_section, declared)]


def _line(term: Term) -> str:
    users = [
        name for name in sorted(variants) if any(use.name == term.name for use in variants.get(name).terms)
    ]
    weight = f"{term.weight:g} ({term.search.low:g} … {term.search.high:g})"
    used = ", ".join(f"`{name}`" for name in users) or "–"
    return f"| [`{term.name}`](#{term.name}) | {term.summary} | {term.reads_text} | {weight} | {used} |"


def _section(term: Term) -> str:
    facts = {
        "Formula": f"`{term.formula}`" if term.formula else "",
        "Divided by": term.normalizer,
        "Parameters": "own, dropped after training" if term.module is not None else "",
        "Paper": term.paper,
        "Source": term.source,
        "Our differences": term.differences,
    }
    lines = "\n".join(f"- {title}: {text}" for title, text in facts.items() if text)
    return f"## {term.name}\n\n{term.summary[:1].upper()}{term.summary[1:]}.\n\n{lines}"
