"""Declared variants are consistent and have the constants of the method."""

from __future__ import annotations

import pytest

from tal_bench.distill.objective import MIX
from tal_bench.distill.terms.registry import terms
from tal_bench.distill.variants import Variant, variants
from tal_bench.models.structures import structures
from tal_bench.studies.rows import FACTORIAL

CLEAN = [name for name in FACTORIAL if name != "none"]
INPUTS = {"all", "primary", "privileged", "hallucinated", "student"}


@pytest.fixture(params=list(variants))
def variant(request: pytest.FixtureRequest) -> Variant:
    return variants.get(request.param)


def test_terms_and_roles_fit_together(variant: Variant) -> None:
    assert variant.name in variants
    assert variant.summary
    roles = {use.teacher for use in variant.terms}
    assert roles - {MIX} <= variant.teachers.keys()
    if MIX in roles:
        assert len(variant.teachers) > 1
    elif variant.terms:
        assert roles == variant.teachers.keys(), "a teacher is not used by any term"
    assert all(use.name in terms for use in variant.terms)
    assert len({use.name for use in variant.terms}) == len(variant.terms)
    assert variant.student_init in {"random", *variant.teachers}
    for ref in variant.teachers.values():
        assert ref.structure in {"student", "teacher", *structures}
        assert ref.inputs in INPUTS
        assert ref.weight > 0


def test_defaults_lie_in_the_search_space(variant: Variant) -> None:
    space, defaults = variant.search_space(), variant.defaults()
    assert space.keys() == defaults.keys()
    for name, value in defaults.items():
        assert space[name].low <= value <= space[name].high, name
        assert not space[name].log or space[name].low > 0


def test_every_row_searches_the_same_learning_rates(variant: Variant) -> None:
    assert variant.search_space()["lr"] == variants.get("none").search_space()["lr"]


def test_published_constants_are_not_tuned(variant: Variant) -> None:
    assert variant.fixed == variant.name.startswith("c2ms-")
    if variant.fixed:
        assert list(variant.search_space()) == ["lr"]
        assert variant.reference


@pytest.mark.parametrize("name", CLEAN)
def test_clean_rows_share_constants_so_that_only_teacher_and_terms_differ(name: str) -> None:
    variant, first = variants.get(name), variants.get("self")
    assert (variant.soft_weight, variant.temperature) == (first.soft_weight, first.temperature)
    assert variant.student_init == "random"
    known: dict[str, tuple[float, int]] = {}
    for other in CLEAN:
        for use in variants.get(other).terms:
            constants = (use.weight, use.temperature_power)
            assert known.setdefault(use.name, constants) == constants


@pytest.mark.parametrize(
    ("name", "structure", "inputs", "used"),
    [
        ("self", "student", "student", {"logits-binary", "offsets"}),
        ("cross-modal", "student", "all", {"logits-binary", "offsets", "hallucination"}),
        ("cross-structure", "teacher", "primary", {"logits-binary", "offsets", "stem"}),
        ("both-single", "teacher", "all", {"logits-binary", "offsets", "hallucination", "stem"}),
    ],
)
def test_the_two_by_two(name: str, structure: str, inputs: str, used: set[str]) -> None:
    (ref,) = variants.get(name).teachers.values()
    assert (ref.structure, ref.inputs) == (structure, inputs)
    assert {use.name for use in variants.get(name).terms} == used


@pytest.mark.parametrize("name", ["both", "c2ms-both"])
def test_two_teachers_are_mixed_in_logits_and_offsets(name: str) -> None:
    variant = variants.get(name)
    assert {role: ref.weight for role, ref in variant.teachers.items()} == {"modal": 0.8, "structure": 0.2}
    seen = {use.name: use.teacher for use in variant.terms}
    assert seen.pop("hallucination") == "modal"
    assert seen.pop("stem") == "structure"
    assert set(seen.values()) == {MIX}


def coefficient(name: str, term: str) -> float:
    """Return the coefficient of a term of a preset, relative to lambda."""
    variant = variants.get(name)
    (use,) = (use for use in variant.terms if use.name == term)
    return float(use.weight * variant.temperature**use.temperature_power)


@pytest.mark.parametrize(
    ("name", "constants"),
    [  # the method's formulas; `logits` is a mean over the levels, KL / L
        ("c2ms-modal", {"hallucination": 1 / 0.2, "offsets": 1, "logits": 4 / 10}),
        ("c2ms-structure", {"offsets": 1, "logits": 4 / 100, "stem": 1}),
        ("c2ms-both", {"hallucination": 4 / 0.2, "offsets": 4, "logits": 4 / 10, "stem": 4}),
    ],
)
def test_presets_keep_the_published_constants(name: str, constants: dict[str, float]) -> None:
    variant = variants.get(name)
    assert (variant.soft_weight, variant.temperature) == (0.6, 2.0)
    assert {use.name for use in variant.terms} == constants.keys()
    for term, value in constants.items():
        assert coefficient(name, term) == pytest.approx(value), term


METHODS = [name for name in variants if name.startswith("kd-")]


@pytest.mark.parametrize("name", METHODS)
def test_methods_differ_from_both_single_in_their_terms_only(name: str) -> None:
    variant, model = variants.get(name), variants.get("both-single")
    (teacher,) = variant.teachers.values()
    if name not in ("kd-ld", "kd-decomposed"):  # trident heads; a branch for privileged modalities
        assert variant.teachers == model.teachers
    assert (teacher.inputs, teacher.weight) == ("privileged" if name == "kd-decomposed" else "all", 1.0)
    constants = (variant.soft_weight, variant.temperature, variant.student_init, variant.fixed)
    assert constants == (model.soft_weight, model.temperature, model.student_init, model.fixed)
    assert variant.reference


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_the_weights_of_their_terms(name: str) -> None:
    predictions = {use for use in variants.get("both-single").terms if use.name == "logits-binary"}
    others = [use for use in variants.get(name).terms if use not in predictions]
    assert all(use.weight == terms.get(use.name).weight and use.temperature_power == 0 for use in others)
    assert (name == "kd-logits") == (not others)


def test_every_published_term_is_in_a_method() -> None:
    used = {use.name for name in METHODS for use in variants.get(name).terms}
    assert used == set(terms) - {"hallucination", "stem", "offsets", "logits"}
