"""Training recipes of the sizes and structures."""

from __future__ import annotations

from tiny import tiny_spec

from tal_bench.config import Size
from tal_bench.models.registry import get_model, training_recipe


def crops(size: Size) -> dict[str, tuple[float, float]]:
    names = ("actionformer", "conv", "conv-dw")
    return {name: training_recipe(get_model(name), tiny_spec(size=size)).crop for name in names}


def test_small_structures_that_overfit_train_on_shorter_crops() -> None:
    assert crops("small") == {"actionformer": (0.5, 1.0), "conv": (0.5, 1.0), "conv-dw": (0.9, 1.0)}
    assert set(crops("full").values()) == {(0.9, 1.0)}, "as published"
