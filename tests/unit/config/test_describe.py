"""Every setting says what it means, and its default is the one that holds."""

from __future__ import annotations

import json

import pytest

from tal_bench import config
from tal_bench.config import DecodeSpec, DetectorSpec, ModalitySpec, TrainSpec
from tal_bench.config.base import Spec, parse_spec
from tal_bench.config.describe import describe
from tal_bench.errors import InputError

SPECS = [
    kind
    for name in config.__all__
    if isinstance(kind := getattr(config, name), type) and issubclass(kind, Spec)
]


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: kind.__name__)
def test_every_field_has_a_meaning(kind: type[Spec]) -> None:
    found = describe(kind) if kind.model_fields else []
    assert [name for name, _, _ in found] == list(kind.model_fields)
    assert not [name for name, _, meaning in found if len(meaning) < 4 or meaning[-1] != "."]


@pytest.mark.parametrize("kind", [DetectorSpec, TrainSpec, DecodeSpec])
def test_defaults_are_those_of_the_spec(kind: type[Spec]) -> None:
    given = {name: json.loads(text) for name, text, _ in describe(kind) if text != "-"}
    needed = {"structure": "conv", "inputs": "primary", "primary": {"rgb": 8}, "classes": 3}
    needed = {name: value for name, value in needed.items() if name in kind.model_fields}
    assert kind.model_validate(needed | given) == kind.model_validate(needed)


def test_a_misspelt_key_is_named_before_the_key_it_leaves_missing() -> None:
    whole = {"role": "primary", "folder": "rgb", "chanels": 3}
    with pytest.raises(InputError, match="unknown key 'chanels'"):
        parse_spec(ModalitySpec, whole, where="mine.yaml")
