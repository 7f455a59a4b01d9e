"""Weights on disk: one safetensors file that says what it holds.

A model's card travels in the header of its weights' file, so that the file alone is enough to use the model
elsewhere: `load_model(path)` gives the network and its card.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from tal_bench.config import DatasetSpec, DecodeSpec, DetectorSpec, Inputs, RunSpec, Spec
from tal_bench.config.extraction import Extraction, find_extraction
from tal_bench.errors import InputError
from tal_bench.models.detector import Detector
from tal_bench.models.registry import STRUCTURES, Model, get_model, model_name
from tal_bench.system.files import write_atomically

CARD = "tal_bench.card"
"""Key of the card in a file's header."""
WEIGHTS = ".safetensors"


class FeatureGrid(Spec):
    """Where the features that a model was trained on lie in a video.

    Attributes:
        stride: frames between two features.
        window: frames under one feature.
        fps: of the decoded video; none = as each video has it.
    """

    stride: float
    window: float
    fps: float | None = None


class ModelCard(Spec):
    """What a file of weights holds, and what it needs to be used.

    Attributes:
        name: as tables show it.
        model: registered name; empty for a detector that has none, as those of other programs.
        program: where it comes from, when it was not trained here.
        detector: architecture; names and widths of the modalities are in it.
        decode: how its output becomes segments.
        classes: names by index; empty where nobody said them.
        features: stride, window and fps that it was trained on, where known.
        dataset: that it was trained on, where it was trained here.
        extraction: what made the features that it reads of videos, where this program did.
        run: hash of the training run.
    """

    name: str
    model: str = ""
    program: str = ""
    detector: DetectorSpec
    decode: DecodeSpec = DecodeSpec()
    classes: tuple[str, ...] = ()
    features: FeatureGrid | None = None
    dataset: DatasetSpec | None = None
    extraction: Extraction | None = None
    run: str = ""

    @property
    def structure(self) -> str:
        """Public name of the structure."""
        return next(name for name, block in STRUCTURES.items() if block == self.detector.structure)

    def counterparts(self, every: Sequence[Inputs]) -> list[str]:
        """Names of models of the same structure that read other streams."""
        attends = self.detector.temporal_attention
        own = self.detector.inputs
        return [model_name(self.structure, x, temporal_attention=attends) for x in every if x != own]

    def as_model(self) -> Model:
        """What a registered model says of itself, for this one."""
        return Model(
            name=self.name,
            structure=self.structure,
            inputs=self.detector.inputs,
            temporal_attention=self.detector.temporal_attention,
            build=lambda spec: self.model_copy(update={"detector": spec}).build(),
            summary=self.program or self.model,
        )

    def build(self) -> nn.Module:
        """The network, with random weights.

        Raises:
            InputError: a model of a plugin that is not loaded.
        """
        return get_model(self.model).build(self.detector) if self.model else Detector(self.detector)


def card_of_run(spec: RunSpec, classes: Sequence[str]) -> ModelCard:
    """What stands in the weights' file of a run."""
    data = spec.dataset
    return ModelCard(
        name=spec.model,
        model=spec.model,
        detector=spec.detector,
        decode=spec.decode,
        classes=tuple(classes),
        features=FeatureGrid(stride=data.stride, window=data.window, fps=data.fps),
        dataset=data,
        extraction=find_extraction(data, spec.detector.reads),
        run=spec.hash,
    )


def plain_card(spec: RunSpec) -> ModelCard:
    """What a run's weights are, as far as its spec says it."""
    return ModelCard(name=spec.model, model=spec.model, detector=spec.detector, decode=spec.decode)


def save_model(model: nn.Module, path: Path, card: ModelCard) -> None:
    """Write a module's weights with its card."""
    write_atomically(path, save(_tensors(model), {CARD: card.model_dump_json(exclude_defaults=True)}))


def load_model(path: Path, otherwise: ModelCard | None = None) -> tuple[nn.Module, ModelCard]:
    """A network in eval mode and what it is.

    Args:
        path: a `.safetensors` file, the `.json` of a finished run or of an import beside it, or a folder that
            holds one such file.
        otherwise: what it is where the file does not say so, as those of the first version do not.

    Raises:
        InputError: there is no such file, or it holds no model of ours.
    """
    file = weights_file(path)
    card = read_card(file, otherwise)
    return build(card, file), card


def build(card: ModelCard, file: Path) -> nn.Module:
    """The network of a card with the weights of a file, in eval mode.

    Raises:
        InputError: they do not belong together.
    """
    try:
        net = card.build()
    except InputError as error:  # a model of a plugin that is not loaded
        raise InputError(error.what, where=file, hint=f"{error.hint}; or give its --plugin") from None
    load_weights(net, file)
    return net.eval()


def weights_file(path: Path) -> Path:
    """The weights that a path means.

    Raises:
        InputError: there are none, or a folder holds several.
    """
    if path.is_dir():
        found = sorted(f for f in [*path.glob(f"*{WEIGHTS}"), *path.glob(f"runs/*{WEIGHTS}")] if f.is_file())
        if len(found) != 1:
            first = ", ".join(str(f.relative_to(path)) for f in found[:3])
            what = f"{len(found)} models there, for instance {first}" if found else f"no {WEIGHTS} file there"
            raise InputError(what, where=path, hint=f"give one {WEIGHTS} file")
        return found[0]
    file = path.with_suffix(WEIGHTS) if path.suffix == ".json" else path
    if not file.is_file():
        hint = "" if file == path else f"no weights beside {path.name}"
        raise InputError("no such weights", where=file, hint=hint)
    return file


def read_card(file: Path, otherwise: ModelCard | None = None) -> ModelCard:
    """The card in the header of a weights' file, or the other one where it has none.

    Raises:
        InputError: not such a file.
    """
    try:
        with safe_open(file, "pt") as opened:
            text = (opened.metadata() or {}).get(CARD)
    except (SafetensorError, OSError) as error:
        hint = "checkpoints of other programs: tal-bench checkpoint import"
        raise InputError(f"not a {WEIGHTS} file: {error}", where=file, hint=hint) from None
    if text is None and otherwise is not None:
        return otherwise
    if text is None:
        hint = "train it again, or import it with tal-bench checkpoint import"
        raise InputError("weights that do not say of which model", where=file, hint=hint)
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"its model card is not one of ours: {place} {first['msg']}", where=file) from None


def check_name(name: str) -> None:
    """A model's name can be a file's.

    Raises:
        InputError: it cannot.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"got {name!r}", where="--name", hint="letters, digits, '-', '_' and '.'")


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a module's weights alone."""
    write_atomically(path, save(_tensors(model)))


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights into a module of the same architecture.

    Raises:
        InputError: the file is missing, not safetensors, or of another architecture.
    """
    try:
        model.load_state_dict(load(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(
            "no such weights", where=path, hint="delete the run's .json to train it again"
        ) from None
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"not the weights of this architecture: {error}", where=path) from None


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Identity of weights: names, shapes and values, wherever they lie and whatever else the file says."""
    total = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        total.update(value.numpy().tobytes())
    return total.hexdigest()[:16]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
