"""A detector: everything that determines its architecture."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tal_bench.config.base import Count, Fraction, Inputs, OddCount, Positive, Spec, Structure, Window


def _per_level(given: Window, count: int) -> tuple[int, ...]:
    return (given,) * count if isinstance(given, int) else given


class DetectorSpec(Spec):
    """Everything that determines a detector's architecture; defaults are the published THUMOS14 sizes.

    Attributes:
        structure: block of the backbone.
        inputs: which modalities it reads; `hallucinated` = primary, and privileged ones predicted from it.
        primary: modalities that students see, name to channels, in the order of concatenation.
        privileged: modalities that only teachers see, likewise.
        classes: K, their number.
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
        neck_norm: LayerNorm after the neck; `group` = over four groups of channels and all steps, without
            weights (TemporalMaxer).
        head_norm: LayerNorm in the heads.
        neck: `fpn` adds coarser levels to finer ones.
        neck_width: D of the neck; none = width, which `identity` needs.
        drop_path: probability of skipping a residual branch in training.
        residual_scale: a learned scale per channel of residual branches, started small.
        position_embedding: add absolute sinusoidal positions after the embedding.
        temporal_attention: reweight time steps of every level (length-dependent, squeeze-and-excite).
        offset_activation: `relu` as published; `softplus` cannot die, for small sizes.
        hallucination_activation: `relu` for non-negative features, `linear` for signed ones.
        hallucination_width: channels between its two convolutions; none = those of the privileged modalities.
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
    neck_norm: bool | Literal["group"] = True
    head_norm: bool = True
    neck: Literal["identity", "fpn"] = "identity"
    neck_width: Count | None = None
    drop_path: Fraction = 0.1
    residual_scale: bool = True
    position_embedding: bool = False
    temporal_attention: bool = False
    offset_activation: Literal["relu", "softplus"] = "relu"
    hallucination_activation: Literal["relu", "linear"] = "relu"
    hallucination_width: Count | None = None
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
        if self.neck_norm == "group" and (self.neck == "fpn" or self.width % 4):
            raise ValueError("neck_norm: 'group' needs neck 'identity' and a width that is a multiple of 4")
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
