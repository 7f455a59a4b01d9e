"""Specifications as data: what a dataset, a detector, a run and a study are, and their YAML form.

Every spec is frozen and refuses unknown keys. A spec is the whole truth about what it describes: two runs
with equal `RunSpec.hash` are the same experiment.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tal_bench.errors import InputError
from tal_bench.registry import did_you_mean

Structure = Literal["transformer", "conv", "conv_dw", "sgp", "maxpool"]
Inputs = Literal["all", "primary", "privileged", "hallucinated"]
Size = Literal["full", "small"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even, need an odd number")
    return value


OddCount = Annotated[int, Field(ge=1), AfterValidator(_odd)]
Window = int | tuple[int, ...]


class Spec(BaseModel):
    """Base of all specifications: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def content_hash(value: Any, digits: int = 16) -> str:
    """Hash a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


class ModalitySpec(Spec):
    """One stream of features and where its files lie.

    Attributes:
        role: `primary` is what the student sees, `privileged` what only teachers see.
        folder: directory of the files, relative to the dataset file.
        channels: width of the feature vectors.
        prefix: text before the video id in the file name.
        suffix: text after it, the file type included.
        columns: half-open range of columns when several streams share a file.
        nonnegative: whether the features are >= 0 (after a ReLU), as I3D's are; a hallucination of them
            then ends in ReLU.
    """

    role: Literal["primary", "privileged"]
    folder: Path
    channels: Count
    prefix: str = ""
    suffix: str = ".npy"
    columns: tuple[int, int] | None = None
    nonnegative: bool = False

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if self.columns and not (self.columns[0] >= 0 and self.columns[1] - self.columns[0] == self.channels):
            raise ValueError(f"columns {list(self.columns)} are not {self.channels} channels wide")
        return self


class DatasetSpec(Spec):
    """A dataset: annotations, feature streams, splits and protocol.

    Attributes:
        name: as tables show it.
        annotations: ActivityNet-style JSON file.
        modalities: name to stream, in the order in which teachers concatenate them.
        stride: frames between features.
        window: frames under one feature.
        fps: overrides the fps of the annotation file.
        train: subsets trained on, matched without regard to case.
        test: subsets tested on.
        validation_fraction: share of the training videos that tuning holds out.
        max_length: T to which training pads or crops.
        size: which size of the registered models fits.
        tiou: thresholds of the protocol.
        fingerprint: content hash of annotations and features, filled in when they are read.
    """

    name: str
    annotations: Path
    modalities: dict[str, ModalitySpec]
    stride: Positive
    window: Annotated[float, Field(ge=0.0)]
    fps: Positive | None = None
    train: tuple[str, ...] = ("training",)
    test: tuple[str, ...] = ("test",)
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.33
    max_length: Count = 2304
    size: Size = "full"
    tiou: tuple[Fraction, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    fingerprint: str = ""

    @model_validator(mode="after")
    def _has_primary(self) -> Self:
        if not any(m.role == "primary" for m in self.modalities.values()):
            raise ValueError("modalities: at least one must have role 'primary'")
        return self

    def channels(self, role: Literal["primary", "privileged"]) -> dict[str, int]:
        """Names and widths of the streams with that role."""
        return {name: m.channels for name, m in self.modalities.items() if m.role == role}

    def names(self, inputs: Inputs) -> tuple[str, ...]:
        """Names of the modalities that a detector with these inputs reads."""
        wanted = {"all": ("primary", "privileged"), "privileged": ("privileged",)}.get(inputs, ("primary",))
        return tuple(name for name, m in self.modalities.items() if m.role in wanted)


def _per_level(given: Window, count: int) -> tuple[int, ...]:
    return (given,) * count if isinstance(given, int) else given


class DetectorSpec(Spec):
    """Everything that determines a detector's architecture; defaults are the published THUMOS14 sizes.

    Attributes:
        structure: block of the backbone.
        inputs: which modalities it reads; `hallucinated` = primary, and privileged ones predicted from it.
        primary: modalities that students see, name to channels, in the order of concatenation.
        privileged: modalities that only teachers see, likewise.
        classes: K.
        max_length: T that position embeddings and temporal attention are built for.
        width: D of backbone and neck.
        head_width: width of the heads' hidden layers.
        attention_heads: of the transformer.
        attention_window: steps seen by local attention, odd; <= 1 means full attention. One number, or one
            per level. Lengths beyond the maximum are padded to whole windows, in every structure but `sgp`.
        relative_positions: a learned bias per head and distance in local attention.
        projection: width to which each modality is projected before they are concatenated, in their order;
            empty = no projection.
        embed_layers: convolutions before the stem.
        stem_blocks: blocks before the first stride.
        branch_blocks: blocks of stride 2; levels = branch_blocks + 1 - first_level.
        first_level: the first level that neck and heads read.
        head_layers: hidden convolutions of each head.
        embed_kernel: of the embedding's convolutions, odd.
        head_kernel: of the heads' convolutions, odd.
        embed_norm: LayerNorm after the embedding's convolutions, which have biases where it is missing.
        neck_norm: LayerNorm after the neck.
        head_norm: LayerNorm in the heads.
        neck: `fpn` adds coarser levels to finer ones.
        neck_width: D of the neck; none = width, which `identity` needs.
        drop_path: probability of skipping a residual branch in training.
        residual_scale: a learned scale per channel of residual branches, started small.
        position_embedding: add absolute sinusoidal positions after the embedding.
        temporal_attention: reweight time steps of every level (length-dependent, squeeze-and-excite).
        offset_activation: `relu` as published; `softplus` cannot die, for small sizes.
        hallucination_activation: `relu` for non-negative features, `linear` for signed ones.
        masked_hallucination: zero it where the input is padded; the original code does not.
        gated_fusion: weigh the two halves of the input per step by a learned gate.
        regression_ranges: per level the segment reach it answers for, in steps.
        empty_classes: classes without training data; their scores start near 0 and stay there.
        trident: offsets as expected distances over bins, of every class its own (TriDet).
        bins: farthest bin of the trident head, in strides.
        boundary_kernel: of the trident's start and end heads, odd.
        sgp_window: w of the SGP blocks' narrow kernel, odd; one number, or one per level.
        sgp_scale: k of their wide kernel, (w + 1) k made odd.
        sgp_hidden: width of their MLP; none = 1.5 x width.
        sgp_pool: how they halve the sequence.
    """

    structure: Structure
    inputs: Inputs
    primary: dict[str, Count]
    privileged: dict[str, Count] = {}
    classes: Count
    max_length: Count = 2304
    width: Count = 512
    head_width: Count = 512
    attention_heads: Count = 4
    attention_window: Window = 19
    relative_positions: bool = False
    projection: tuple[Count, ...] = ()
    embed_layers: Count = 2
    stem_blocks: int = 2
    branch_blocks: int = 5
    first_level: Annotated[int, Field(ge=0)] = 0
    head_layers: int = 2
    embed_kernel: OddCount = 3
    head_kernel: OddCount = 3
    embed_norm: bool = True
    neck_norm: bool = True
    head_norm: bool = True
    neck: Literal["identity", "fpn"] = "identity"
    neck_width: Count | None = None
    drop_path: Fraction = 0.1
    residual_scale: bool = True
    position_embedding: bool = False
    temporal_attention: bool = False
    offset_activation: Literal["relu", "softplus"] = "relu"
    hallucination_activation: Literal["relu", "linear"] = "relu"
    masked_hallucination: bool = True
    gated_fusion: bool = False
    regression_ranges: tuple[tuple[float, float], ...] = (
        (0, 4),
        (4, 8),
        (8, 16),
        (16, 32),
        (32, 64),
        (64, 10000),
    )
    empty_classes: tuple[int, ...] = ()
    trident: bool = False
    bins: Count = 16
    boundary_kernel: OddCount = 3
    sgp_window: Window = 1
    sgp_scale: Positive = 5.0
    sgp_hidden: Count | None = None
    sgp_pool: Literal["max", "avg"] = "max"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.regression_ranges) != self.levels:
            raise ValueError(
                f"regression_ranges: {len(self.regression_ranges)} ranges for {self.levels} levels, "
                "need one per level (branch_blocks + 1 - first_level)"
            )
        if self.max_length % 2**self.branch_blocks:
            raise ValueError(
                f"max_length: {self.max_length} steps cannot be halved {self.branch_blocks} times, "
                f"choose a multiple of {2**self.branch_blocks}"
            )
        for name in ("attention_window", "sgp_window"):
            given = getattr(self, name)
            if isinstance(given, tuple) and len(given) != self.branch_blocks + 1:
                raise ValueError(f"{name}: {len(given)} windows, need 1 or {self.branch_blocks + 1}")
        if any(not 0 <= label < self.classes for label in self.empty_classes):
            raise ValueError(f"empty_classes: {list(self.empty_classes)} are not all below {self.classes}")
        if self.neck == "identity" and self.neck_width not in (None, self.width):
            raise ValueError(f"neck_width: {self.neck_width} needs neck 'fpn', 'identity' keeps {self.width}")
        if self.projection and (
            len(self.projection) != len(self.input_widths) or sum(self.projection) != self.width
        ):
            raise ValueError(
                f"projection: {list(self.projection)}, need one width for each of "
                f"{len(self.input_widths)} modalities that sum to width {self.width}"
            )
        if self.width % self.attention_heads:
            raise ValueError(f"attention_heads: {self.attention_heads} does not divide width {self.width}")
        if self.structure == "sgp" and self.width % 16:
            raise ValueError(f"width: {self.width} is no multiple of 16, the groups of structure 'sgp'")
        if self.neck == "fpn" and self.temporal_attention:
            raise ValueError("temporal_attention: needs neck 'identity'")
        if self.inputs in ("privileged", "hallucinated") and not self.privileged:
            raise ValueError(f"inputs: '{self.inputs}' needs a privileged modality, the dataset has none")
        return self

    @property
    def levels(self) -> int:
        """L, the number of pyramid levels that neck and heads read."""
        return self.branch_blocks + 1 - self.first_level

    @property
    def level_strides(self) -> tuple[int, ...]:
        """Stride of every level, in steps of the input."""
        return tuple(2**level for level in range(self.first_level, self.branch_blocks + 1))

    @property
    def windows(self) -> tuple[int, ...]:
        """Attention window of the stem and of every branch block."""
        return _per_level(self.attention_window, self.branch_blocks + 1)

    @property
    def sgp_windows(self) -> tuple[int, ...]:
        """SGP window of the stem and of every branch block; the stem's is 1 whatever is given."""
        return (1, *_per_level(self.sgp_window, self.branch_blocks + 1)[1:])

    @property
    def divisor(self) -> int:
        """Lengths beyond the maximum are padded to a multiple of this: the largest stride x window."""
        if self.structure == "sgp":
            shares = [max(1, w) for w in _per_level(self.sgp_window, self.branch_blocks + 1)]
        else:
            shares = [2 * (w // 2) if w > 1 else 1 for w in self.windows]
        return max(stride * share for stride, share in zip(self.level_strides, shares, strict=False))

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the modalities that a batch must hold."""
        read = {"all": (*self.primary, *self.privileged), "privileged": tuple(self.privileged)}
        return read.get(self.inputs, tuple(self.primary))

    @property
    def primary_channels(self) -> int:
        """C of the primary modalities together."""
        return sum(self.primary.values())

    @property
    def privileged_channels(self) -> int:
        """C of the privileged modalities together."""
        return sum(self.privileged.values())

    @property
    def input_channels(self) -> int:
        """C of the embedding's input."""
        one = {"primary": self.primary_channels, "privileged": self.privileged_channels}
        return one.get(self.inputs, self.primary_channels + self.privileged_channels)

    @property
    def input_widths(self) -> tuple[int, ...]:
        """C of each modality in the embedding's input."""
        primary, privileged = tuple(self.primary.values()), tuple(self.privileged.values())
        one = {"primary": primary, "privileged": privileged}
        return one.get(self.inputs, primary + privileged)


class TrainSpec(Spec):
    """How a detector is trained; defaults are ActionFormer's for THUMOS14.

    Attributes:
        epochs: cosine part of the schedule.
        warmup_epochs: linear part before it.
        batch_size: videos per step; a last incomplete batch is dropped.
        lr: peak learning rate of AdamW.
        weight_decay: not applied to biases, norms and learned scales.
        clip: largest gradient norm; none = unlimited.
        ema: decay of the weight average that is evaluated.
        crop: range of the share of a video that a crop keeps.
        truncation: a segment is kept by a crop that keeps at least this share of it.
        radius: centre sampling, in strides of the level; none = anywhere inside the segment.
        label_smoothing: s of y(1-s) + s/(K+1).
        regression_weight: of the DIoU loss; `balanced` = as large as the classification loss.
        iou_power: p of the factor IoU^p on the classification loss of positives (TriDet); 0 = none.
        input_noise: standard deviation of noise on the student's input (TriDet).
        loss_normalizer: start of the running mean of positives.
        validate_every: epochs between two evaluations on validation.
    """

    epochs: Count = 30
    warmup_epochs: Annotated[int, Field(ge=0)] = 5
    batch_size: Count = 2
    lr: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    clip: Positive | None = 1.0
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    crop: tuple[Fraction, Fraction] = (0.9, 1.0)
    truncation: Fraction = 0.5
    radius: Positive | None = 1.5
    label_smoothing: Fraction = 0.0
    regression_weight: Positive | Literal["balanced"] = 1.0
    iou_power: Annotated[float, Field(ge=0.0)] = 0.0
    input_noise: Annotated[float, Field(ge=0.0)] = 0.0
    loss_normalizer: Positive = 100.0
    validate_every: Count = 5

    @property
    def total_epochs(self) -> int:
        """Warm-up and cosine epochs together."""
        return self.warmup_epochs + self.epochs


class DecodeSpec(Spec):
    """From logits and offsets to segments in seconds; defaults are ActionFormer's for THUMOS14.

    Attributes:
        min_score: segments whose score falls below it are dropped in NMS.
        candidate_score: candidates below it are dropped before NMS; none = min_score.
        topk: candidates kept per level.
        min_length: shortest segment, in grid steps.
        nms_sigma: of gaussian soft-NMS.
        nms_iou: overlap threshold of linear and hard NMS.
        max_detections: per class and then per video.
        class_agnostic: one NMS over all classes, with segment voting.
        voting: tIoU of the neighbours averaged into a segment; 0 = none.
        voting_weight: of a neighbour: its score x tIoU, or its score alone (TriDet).
        nms: which suppression.
    """

    min_score: Fraction = 0.001
    candidate_score: Fraction | None = None
    topk: Count = 2000
    min_length: Annotated[float, Field(ge=0.0)] = 0.05
    nms_sigma: Positive = 0.5
    nms_iou: Fraction = 0.1
    max_detections: Count = 200
    class_agnostic: bool = False
    voting: Fraction = 0.7
    voting_weight: Literal["score-iou", "score"] = "score-iou"
    nms: Literal["gaussian", "linear", "hard", "none"] = "gaussian"


class Range(Spec):
    """Values of a tuned number.

    Attributes:
        low: smallest.
        high: largest.
        log: whether ratios matter rather than differences.
    """

    low: float
    high: float
    log: bool = True


class TeacherUse(Spec):
    """A trained teacher in a distillation.

    Attributes:
        run: hash of the run that trained it.
        model: its registered name.
        weight: its share in terms that mix teachers.
    """

    run: str
    model: str
    weight: Fraction = 1.0


class TermUse(Spec):
    """A distillation term in an objective.

    Attributes:
        name: registered term.
        teacher: role of the teacher it looks at, or `mix` for the weighted mean over all teachers.
        weight: its coefficient.
        temperature_power: p in coefficient = weight * temperature**p.
    """

    name: str
    teacher: str
    weight: Annotated[float, Field(ge=0.0)]
    temperature_power: int = 0


class DistillSpec(Spec):
    """Objective (1 - lambda) * labels + lambda * sum of terms.

    Attributes:
        teachers: role to trained teacher.
        terms: what is matched.
        soft_weight: lambda.
        temperature: tau of the logits terms.
        student_init: `random`, or the role of the teacher whose matching weights the student starts from.
        count_padding: let padded positions count in the terms' means, as the original code does.
    """

    teachers: dict[str, TeacherUse]
    terms: tuple[TermUse, ...]
    soft_weight: Fraction = 0.6
    temperature: Positive = 2.0
    student_init: str = "random"
    count_padding: bool = False


class RunSpec(Spec):
    """One training with its evaluation: the unit of work, of resuming and of reporting.

    Attributes:
        dataset: with its fingerprint filled in.
        model: registered name.
        detector: architecture.
        train: schedule.
        decode: post-processing.
        distill: none for training on labels alone.
        protocol: `tune` trains on the training part and evaluates on validation; `final` trains on both
            and evaluates on test.
        seed: of initial weights, order and crops.
        videos: use only the first so many videos of each split.
        precision: of the matrix products.
    """

    dataset: DatasetSpec
    model: str
    detector: DetectorSpec
    train: TrainSpec
    decode: DecodeSpec = DecodeSpec()
    distill: DistillSpec | None = None
    protocol: Literal["tune", "final"] = "final"
    seed: Annotated[int, Field(ge=0)] = 0
    videos: Count | None = None
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def hash(self) -> str:
        """Identity of the experiment; where the files lie is no part of it."""
        value = self.model_dump(mode="json")
        value["dataset"].pop("annotations")
        for modality in value["dataset"]["modalities"].values():
            modality.pop("folder")
        return content_hash({"version": 1, **value})


class Budget(Spec):
    """How much a study spends.

    Attributes:
        trials: per student row, the first with default settings.
        seeds: final runs per row.
        epochs: replaces the schedule of the models' recipe.
        videos: use only the first so many videos of each split.
        generation: trials that share the same knowledge, whatever the number of jobs.
        paired_teachers: student seed s learns from teacher seed s, not from seed 0.
        teacher_lr: multiples of the default learning rate tried for teachers on validation.
    """

    trials: Count = 6
    seeds: Count = 3
    epochs: Count | None = None
    videos: Count | None = None
    generation: Count = 4
    paired_teachers: bool = False
    teacher_lr: tuple[Positive, ...] = ()


BUDGETS: dict[str, Budget] = {
    "smoke": Budget(trials=1, seeds=1, epochs=2, videos=12),
    "quick": Budget(),
    "full": Budget(trials=40, seeds=5, paired_teachers=True, teacher_lr=(0.5, 1.0, 2.0)),
}


class StudySpec(Spec):
    """An ablation: which student, which variants, which references, at what budget.

    Attributes:
        name: folder of its results below the reports directory.
        description: what question it answers.
        dataset: registered name or YAML file.
        student: registered student, the same in every row.
        teacher: replaces the transformer teacher of the variants.
        variants: registered variants; `none` is added.
        references: registered models trained on labels, shown beside.
        budget: named budget.
        trials: overrides the budget.
        seeds: overrides the budget.
        seed: of samplers.
    """

    name: str
    description: str = ""
    dataset: str = "sprites"
    student: str = "conv-dw-hallucinated"
    teacher: str = "actionformer"
    variants: tuple[str, ...] = ("both",)
    references: tuple[str, ...] = ()
    budget: Literal["smoke", "quick", "full"] = "quick"
    trials: Count | None = None
    seeds: Count | None = None
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def spending(self) -> Budget:
        """The named budget with the overrides."""
        changes = {k: v for k, v in (("trials", self.trials), ("seeds", self.seeds)) if v is not None}
        return BUDGETS[self.budget].model_copy(update=changes)


S = TypeVar("S", bound=Spec)


def parse_spec(kind: type[S], value: Any, *, where: object) -> S:
    """Validate plain data against a spec.

    Raises:
        InputError: names the first offending key, the value received, and the closest known key.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(str(first["loc"][-1]), _known_keys(kind, first["loc"][:-1]))
            raise InputError(f"unknown key '{key}'", where=where, hint=hint) from None
        message = first["msg"].removeprefix("Value error, ")
        received = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        whole = not first["loc"] and first["type"] == "value_error"  # such a message names its keys itself
        place = "" if whole else f"{key}: "
        raise InputError(f"{place}{message}{received}", where=where) from None


def _known_keys(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Fields of the spec that lies at ``path`` inside ``kind``."""
    for part in path:
        field = kind.model_fields.get(str(part))
        inner = (
            [
                t
                for t in getattr(field.annotation, "__args__", (field.annotation,))
                if isinstance(t, type) and issubclass(t, BaseModel)
            ]
            if field
            else []
        )
        kind = inner[0] if inner else kind
    return list(kind.model_fields)


def read_yaml(path: Path) -> Any:
    """Read a YAML file safely.

    Raises:
        InputError: missing, unreadable or not YAML; the message names the line.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=path) from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = f" at line {line + 1}" if line is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"not valid YAML{place}: {problem}", where=path) from None
