"""Distillation terms by name: how a term is declared.

A term compares the outputs of student and teacher for the same batch and returns a scalar. It is declared
once, by `terms.add`; objective, planner, `tal-bench list terms` and docs/methods.md know it from this
declaration alone. Every module of this package and its folders is imported and may declare several terms.

**A term without parameters** is a function `(student, teacher, temperature) -> scalar`:

    terms.add(
        "pkd",
        Term(
            "pkd",
            pkd_term,
            search=Range(low=0.3, high=10.0),          # weights that studies search, around the published one
            summary="correlation of neck features",     # for tables
            formula="1/2 * mean of (z_student - z_teacher)^2, ...",
            paper="Cao et al., NeurIPS 2022",
            reads={"neck": "project"},
            normalizer="valid positions x channels, per level",
            weight=6.0,                                 # published weight; trial 0 of a variant that takes it
            source="open-mmlab/mmrazor 90c7af1, mmrazor/models/losses/pkd_loss.py, Apache-2.0",
            differences="statistics over valid positions",
        ),
    )

    def pkd_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
        levels = zip(student.features["neck"], teacher.features["neck"], student.mask, strict=True)
        return torch.stack([pkd(s, t, mask) for s, t, mask in levels]).mean()

**What it reads.** `student.logits`, `.offsets`, `.mask`, `.inputs` and `.stem` are always there; everything
in `features`, and `student.labels`, only if ``reads`` names it. `models.heads.features` lists the names with
their shapes: `neck`, `classifier/<layer>`, `regressor/<layer>`, `bins`, `starts`, `ends`, `motion`,
`appearance`. The value says what the widths of student and teacher must be:

    "equal"     refused before training unless they are equal
    "project"   where they differ, the term is given the student's feature in the teacher's width, through a
                learned 1x1 projection without bias, one per level, teacher and term (for [B, C, T] only)
    "any"       the term accepts any widths
    "teacher"   only the teacher's is read, so only the teacher must offer it
    "student"   only the student's is read, so only the student must offer it

A feature that a network does not offer (`bins` without trident heads, a head layer that does not exist) is
refused in one line when the study is planned. `labels` takes "any": `student.labels.positive`, `.classes`,
`.offsets` per level, `.count`, `.segments`, `.segment_labels` and `.strides` (`types.PointLabels`).

**Masks.** Features beyond `student.mask[level]` ([B, T_l] bool; `student.mask[0]` for `inputs` and `stem`
where the finest level has stride 1) are arbitrary and must not matter. Take means over valid positions of
the whole batch, so that a weight means the same on short and on long videos. Features are in full
precision; logits and offsets too.

**The teacher's head** (CrossKD): `teacher.continue_head("classifier/1", features)` runs the teacher's
frozen head from that layer on, on `features` [B, D, T_l] per level that stand in for
`teacher.features["classifier/1"]`: inputs of the layer *before* the activation of the previous one (layer
0: neck features, no activation). It returns logits per level, for `regressor/...` offsets, or bins where
the teacher has trident heads. The term must read the same name.

**A term with parameters** gives ``module`` in place of ``fn``: a function from the architectures of student
and teacher to an `nn.Module` whose `forward` has the arguments and the value of a term function. It may own
anything (generators, regressors, GcBlocks). `student.feature_widths["neck"]`, `student.levels` and so on
give its sizes.

    Term("mgd", None, search=..., summary=..., module=make_mgd, reads={"neck": "any"})

It is made once per teacher after the seed of the run, apart from the student's initial weights, trained by
the same optimizer, saved in training checkpoints and left out of the student's weights file. Parameters of
the teacher's side belong here too; teacher outputs carry no gradient. For random numbers use `StepRandom`
of `distill.randomness`, which does not disturb the random numbers of the training.

**A variant** that uses it: `TermUse(name="pkd", teacher="both", weight=...)`, or
`terms.get("pkd").use("both")` with the published weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from tal_bench.config import DetectorSpec, Range, TermUse
from tal_bench.errors import InputError
from tal_bench.registry import Registry
from tal_bench.types import Outputs, StudentOutputs

TermFunction = Callable[[StudentOutputs, Outputs, float], Tensor]
ModuleFactory = Callable[[DetectorSpec, DetectorSpec], nn.Module]
"""Function (architecture of the student, of the teacher) -> module that is called like a `TermFunction`."""
Width = Literal["equal", "project", "any", "teacher", "student"]
OUTPUTS = ("inputs", "stem", "logits", "offsets")
"""What a term can read of every network, as attributes of its outputs."""
LABELS = "labels"
"""What a term reads that needs the labels of the batch."""
TRIDENT_SCORES = ("bins", "starts", "ends")
BRANCHES = ("motion", "appearance")
OFFERED_BY = {
    **dict.fromkeys(TRIDENT_SCORES, "choose networks with trident heads, such as tridet"),
    **dict.fromkeys(BRANCHES, "choose a student with -decomposed in its name, such as conv-dw-decomposed"),
}
"""Which networks offer a feature that most do not, for error messages."""
NEVER_PROJECTED = ("inputs", "logits", "offsets", LABELS, *TRIDENT_SCORES)


@dataclass(frozen=True, slots=True)
class Term:
    """A registered distillation term.

    Attributes:
        name: Name by which variants refer to the term.
        fn: Function (student, teacher, temperature) -> scalar; None for a term with parameters.
        search: Range in which studies search the weight of the term.
        summary: One line for `tal-bench list terms`.
        formula: The term in one line of plain text.
        paper: Short citation.
        reads: What the term reads, with the widths that it accepts (see above).
        module: Function that makes the module of a term with parameters.
        normalizer: What the sum is divided by.
        weight: Published weight.
        least_classes: Smallest number of classes; 2 or more for a softmax over the classes.
        source: Program whose formula and constants were taken: repository, commit, file, licence.
        differences: How the term differs from the published one.

    Raises:
        InputError: Neither or both of ``fn`` and ``module`` are given, or what is not [B, C, T] is projected.
    """

    name: str
    fn: TermFunction | None
    search: Range
    summary: str
    formula: str = ""
    paper: str = ""
    reads: Mapping[str, Width] = field(default_factory=dict)
    module: ModuleFactory | None = None
    normalizer: str = ""
    weight: float = 1.0
    least_classes: int = 1
    source: str = ""
    differences: str = ""

    def __post_init__(self) -> None:
        if (self.fn is None) == (self.module is None):
            raise InputError(f"term '{self.name}' needs a function or a module, and not both")
        for name in self.projected:
            if name in NEVER_PROJECTED:
                raise InputError(f"term '{self.name}': '{name}' cannot be projected", hint="say equal or any")

    @property
    def projected(self) -> tuple[str, ...]:
        """Features of the student that are projected to the teacher's width where it differs."""
        return tuple(name for name, width in self.reads.items() if width == "project")

    @property
    def reads_text(self) -> str:
        """What the term reads, for tables: `neck (projected), labels`."""
        notes = {"project": " (projected)", "teacher": " (teacher only)", "student": " (student only)"}
        return ", ".join(f"{name}{notes.get(width, '')}" for name, width in self.reads.items())

    def build(self, student: DetectorSpec, teacher: DetectorSpec) -> TermFunction:
        """Return the term as a function for two architectures, with new parameters if it has any."""
        if self.module is not None:
            return self.module(student, teacher)
        assert self.fn is not None
        return self.fn

    def use(self, teacher: str, temperature_power: int = 0) -> TermUse:
        """Return the use of the term with its published weight in a variant."""
        return TermUse(
            name=self.name, teacher=teacher, weight=self.weight, temperature_power=temperature_power
        )


LISTED_FIRST = ("hallucination", "stem", "offsets", "logits_binary", "logits")
"""Modules whose terms are listed first, in this order; those of further modules follow by name."""
_folder = Path(__file__).parent
_modules = {".".join(p.relative_to(_folder).with_suffix("").parts) for p in _folder.rglob("[!_]*.py")}
_modules -= {"registry", "reductions", *LISTED_FIRST}
terms: Registry[Term] = Registry(
    "term", *(f"tal_bench.distill.terms.{name}" for name in (*LISTED_FIRST, *sorted(_modules)))
)
