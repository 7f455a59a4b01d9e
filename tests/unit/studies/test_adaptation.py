"""Studies on datasets without privileged modalities."""

from __future__ import annotations

from tiny import tiny_spec

from tal_bench.config import StudySpec
from tal_bench.studies.rows import without_privileged

RGB = tiny_spec({"rgb": ("primary", 8)})


def test_a_study_with_privileged_modalities_stays_as_it_is() -> None:
    spec = StudySpec(name="x", variants=("all",), references=("actionformer-privileged",))
    assert without_privileged(spec, tiny_spec()) == (spec, "")


def test_what_needs_a_privileged_modality_is_left_out() -> None:
    references = ("actionformer", "actionformer-privileged", "actionformer-primary", "conv-ta")
    spec = StudySpec(name="x", variants=("all", "c2ms-structure"), references=references)
    fitting, said = without_privileged(spec, RGB)
    assert fitting.student == "conv-dw-primary"
    assert fitting.variants == ("none", "none-matched", "self", "cross-structure", "c2ms-structure")
    assert fitting.references == ("actionformer-primary", "conv-primary-ta")
    assert said == (
        "no privileged modality in 'tiny': student conv-dw-primary, "
        "rows none, none-matched, self, cross-structure, c2ms-structure"
    )
    assert without_privileged(fitting, RGB) == (fitting, "")
