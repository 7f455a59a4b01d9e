"""Specification of a detector's architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tal_bench.config.base import Count, Fraction, Inputs, OddCount, Positive, Spec, Window


class DetectorSpec(Spec):
    """Specification of a detector's architecture; defaults are the published THUMOS14 sizes.

    Attributes:
        structure: Name of the structure (`models.structures`), which determines the backbone's blocks.
        inputs: Modalities that the detector reads; `hallucinated` = the primary ones, and the privileged ones
            predicted from them; `decomposed` = the primary ones, in a motion and an appearance branch.
        primary: Channels of each primary modality by name, in the order of concatenation.
        privileged: Channels of each privileged modality by name, in the order of concatenation.
        classes: K, the number of classes.
        max_length: T for which position embeddings and temporal attention are built.
        width: D, the width of the backbone.
        head_width: Width of the heads' hidden layers.
        attention_heads: Number of attention heads of the transformer.
        attention_window: Number of steps seen by local attention, odd; <= 1 = full attention. One number, or
            one per level. Sequences longer than `max_length` are padded to whole windows, in every structure
            but `tridet`.
        relative_positions: Whether local attention has a learned bias per head and distance.
        projection: Width to which each modality is projected before concatenation, in their order; empty = no
            projection.
        embed_layers: Number of convolutions of the embedding, before the stem.
        stem_blocks: Number of stem blocks, which have stride 1.
        branch_blocks: Number of branch blocks, which have stride 2; levels = branch_blocks + 1 - first_level.
        first_level: Index of the first pyramid level that neck and heads read.
        head_layers: Number of hidden convolutions of each head.
        embed_kernel: Kernel size of the embedding's convolutions, odd.
        head_kernel: Kernel size of the heads' convolutions, odd.
        embed_norm: Whether a LayerNorm follows each convolution of the embedding; without it, the
            convolutions have biases.
        neck_norm: Whether a LayerNorm follows the neck; `group` = normalization over four groups of channels
            and all steps, without weights (TemporalMaxer).
        head_norm: Whether a LayerNorm follows each hidden convolution of the heads.
        neck: `identity` = no neck, `fpn` = feature pyramid that adds coarser levels to finer ones.
        neck_width: Width of the neck; null = `width`, which `identity` requires.
        drop_path: Probability of skipping a residual branch in training.
        residual_scale: Whether residual branches have a learned scale per channel, initialized small.
        position_embedding: Whether absolute sinusoidal positions are added after the embedding.
        temporal_attention: Whether the time steps of every level are reweighted (squeeze-and-excite over
            time, for a fixed length).
        offset_activation: Activation of the offsets: `relu` as published; `softplus` avoids dead units in
            small networks.
        standardise: Whether every channel of the features is standardised with its mean and standard
            deviation on the training videos; both are stored with the weights.
        whiten: Largest number of principal components of each modality that the detector reads in place of
            its channels, softly whitened (`models.input_whitening`). They are fitted on the training videos
            and stored with the weights, after standardisation if there is one; null = channels as they are.
        hallucination_activation: Activation of the hallucinated features: `relu` for non-negative features,
            `linear` for signed ones.
        hallucination_width: Channels between the two convolutions of the hallucination branch; null =
            channels of the privileged modalities.
        masked_hallucination: Whether hallucinated features are set to zero where the input is padded; the
            original code does not do this.
        gated_fusion: Whether a learned gate weighs the two halves of the input at every step.
        regression_ranges: Range of offsets assigned to each level, in grid steps.
        empty_classes: Indices of classes without training data; their scores are initialized near 0 and
            stay there.
        trident: Whether offsets are predicted per class, as expected distances over bins (TriDet).
        bins: Farthest bin of the trident head, in strides.
        boundary_kernel: Kernel size of the trident head's start and end branches, odd.
        sgp_window: w, the kernel size of the narrow convolution of SGP blocks, odd; one number, or one per
            level.
        sgp_scale: k of the wide convolution of SGP blocks, whose kernel size is (w + 1) k, made odd.
        sgp_hidden: Width of the MLP of SGP blocks; null = 1.5 x `width`.
        sgp_pool: Pooling with which SGP blocks halve the sequence.
    """

    structure: str
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
    standardise: bool = False
    whiten: Count | None = None
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
    def _validate_fields(self) -> Self:
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
            window = getattr(self, name)
            if isinstance(window, tuple) and len(window) != self.branch_blocks + 1:
                raise ValueError(f"{name}: {len(window)} windows, need 1 or {self.branch_blocks + 1}")
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
        """Stride of every pyramid level, in steps of the input."""
        return tuple(2**level for level in range(self.first_level, self.branch_blocks + 1))

    def per_level(self, window: Window) -> tuple[int, ...]:
        """Return the window of the stem and of every branch block."""
        return (window,) * (self.branch_blocks + 1) if isinstance(window, int) else window

    @property
    def windows(self) -> tuple[int, ...]:
        """Attention window of the stem and of every branch block."""
        return self.per_level(self.attention_window)

    @property
    def sgp_windows(self) -> tuple[int, ...]:
        """SGP window of the stem and of every branch block; that of the stem is always 1."""
        return (1, *self.per_level(self.sgp_window)[1:])

    @property
    def neck_channels(self) -> int:
        """Channels of the neck's output."""
        return self.neck_width or self.width

    @property
    def head_channels(self) -> int:
        """Channels of the heads' input: those of the neck, or of two branches of that width."""
        return (2 if self.inputs == "decomposed" else 1) * self.neck_channels

    @property
    def output_widths(self) -> dict[str, int]:
        """Channels of the outputs that distillation reads of any network (`types.DetectorOutput`)."""
        return {"inputs": self.input_channels, "stem": self.width, "logits": self.classes, "offsets": 2}

    @property
    def feature_widths(self) -> dict[str, int]:
        """Channels of everything that distillation can read of a `Detector` (`models.heads.features`)."""
        widths = {**self.output_widths, "neck": self.neck_channels}
        if self.inputs == "decomposed":
            widths |= {"motion": self.neck_channels, "appearance": self.neck_channels}
        for head in ("classifier", "regressor"):
            widths[f"{head}/0"] = self.head_channels
            widths |= {f"{head}/{layer}": self.head_width for layer in range(1, self.head_layers + 1)}
        if self.trident:
            widths |= {"bins": 2 * (self.bins + 1), "starts": self.classes, "ends": self.classes}
        return widths

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the modalities that a batch must contain."""
        names = {"all": (*self.primary, *self.privileged), "privileged": tuple(self.privileged)}
        return names.get(self.inputs, tuple(self.primary))

    @property
    def primary_channels(self) -> int:
        """Channels of all primary modalities together, after whitening."""
        return sum(self._widths(self.primary))

    @property
    def privileged_channels(self) -> int:
        """Channels of all privileged modalities together, after whitening."""
        return sum(self._widths(self.privileged))

    @property
    def input_channels(self) -> int:
        """Channels of the embedding's input."""
        return sum(self.input_widths)

    @property
    def input_widths(self) -> tuple[int, ...]:
        """Channels of each modality in the embedding's input."""
        primary, privileged = self._widths(self.primary), self._widths(self.privileged)
        widths = {"primary": primary, "decomposed": primary, "privileged": privileged}
        return widths.get(self.inputs, primary + privileged)

    def _widths(self, channels: Mapping[str, int]) -> tuple[int, ...]:
        """Return the width of each modality after whitening, from its channels."""
        return tuple(min(width, self.whiten or width) for width in channels.values())
