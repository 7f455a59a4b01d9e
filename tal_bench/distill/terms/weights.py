"""Default weights and search ranges of terms."""

from __future__ import annotations

from tal_bench.config import Range

BALANCED: dict[str, float] = {
    "at": 0.75,
    "crosskd-localization": 10.0,
    "decomposed-branches": 2.2,
    "decomposed-features": 0.46,
    "dist-binary": 0.17,
    "dkd-binary": 0.19,
    "fgd": 0.018,
    "hallucination": 46.0,
    "hallucination-sigmoid": 980.0,
    "ld": 340.0,
    "mgd": 6.8,
    "offsets": 0.56,
    "ofa-binary": 1.8,
    "pkt": 10.0,
    "sp": 0.42,
    "stem": 12.0,
}
"""Weights of the terms of the factorial, and of terms whose published weight does not carry over because the
original divides by something else.

Rule: with its weight, the gradient of a term in the parameters of an untrained student is as long as that of
`logits-binary` with its weight in the variants, 8 tau^2. Measured on `sprites`, to two digits, by

    python tests/benchmarks/term_weights.py
"""


def around(weight: float) -> Range:
    """Return the range in which studies search a weight: a factor of 8 to both sides, to two digits."""
    return Range(low=float(f"{weight / 8:.2g}"), high=float(f"{8 * weight:.2g}"))
