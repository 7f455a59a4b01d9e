"""Tests of the descriptions and defaults of settings."""

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
def test_every_field_has_a_description(kind: type[Spec]) -> None:
    fields = describe(kind) if kind.model_fields else []
    assert [name for name, _, _ in fields] == list(kind.model_fields)
    assert not [name for name, _, text in fields if len(text) < 4 or text[-1] != "."]


@pytest.mark.parametrize("kind", [DetectorSpec, TrainSpec, DecodeSpec])
def test_defaults_are_those_of_the_spec(kind: type[Spec]) -> None:
    defaults = {name: json.loads(text) for name, text, _ in describe(kind) if text != "-"}
    required = {"structure": "conv", "inputs": "primary", "primary": {"rgb": 8}, "classes": 3}
    required = {name: value for name, value in required.items() if name in kind.model_fields}
    assert kind.model_validate(required | defaults) == kind.model_validate(required)


def test_misspelt_key_is_reported_before_the_missing_key() -> None:
    value = {"role": "primary", "folder": "rgb", "chanels": 3}
    with pytest.raises(InputError, match="unknown key 'chanels'"):
        parse_spec(ModalitySpec, value, where="mine.yaml")
