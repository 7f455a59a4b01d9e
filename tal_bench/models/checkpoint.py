"""Weights on disk: safetensors files with a model card in their header.

The card describes the model, so that one file is enough to use it elsewhere: `load_model(path)` returns the
network and its card.
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
from tal_bench.models.registry import Model, get_model, model_name
from tal_bench.system.files import write_atomically

CARD = "tal_bench.card"
"""Key of the card in the header of a file."""
WEIGHTS = ".safetensors"


class FeatureGrid(Spec):
    """Position in time of the features that a model was trained on.

    Attributes:
        stride: Frames between two features.
        window: Frames covered by one feature.
        fps: Frame rate of the decoded video; None means that of each video.
    """

    stride: float
    window: float
    fps: float | None = None


class ModelCard(Spec):
    """Description of a model in a weights file, with all that is needed to use it.

    Attributes:
        name: Name in tables.
        model: Registered name; empty for detectors without one, such as those of other programs.
        program: Program that trained the model, if it was imported.
        detector: Architecture, including names and widths of the modalities.
        decode: Post-processing settings.
        classes: Class names by index; empty if unknown.
        features: Stride, window and frame rate of the training features, if known.
        dataset: Dataset of the training, if the model was trained by this package.
        extraction: Extraction of the features, if they were extracted by this package.
        run: Hash of the training run.
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

    def counterparts(self, every: Sequence[Inputs]) -> list[str]:
        """Return the names of models of the same structure that read other modalities."""
        own = self.detector
        return [
            model_name(own.structure, inputs, temporal_attention=own.temporal_attention)
            for inputs in every
            if inputs != own.inputs
        ]

    def as_model(self) -> Model:
        """Return a `Model` that builds this model."""
        return Model(
            name=self.name,
            structure=self.detector.structure,
            inputs=self.detector.inputs,
            temporal_attention=self.detector.temporal_attention,
            build=lambda spec: self.model_copy(update={"detector": spec}).build(),
            summary=self.program or self.model,
        )

    def build(self) -> nn.Module:
        """Build the network with random weights.

        Raises:
            InputError: If the model belongs to a plugin that is not loaded.
        """
        return get_model(self.model).build(self.detector) if self.model else Detector(self.detector)


def card_of_run(spec: RunSpec, classes: Sequence[str]) -> ModelCard:
    """Return the card for the weights file of a run."""
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
    """Return the part of a run's card that follows from its spec."""
    return ModelCard(name=spec.model, model=spec.model, detector=spec.detector, decode=spec.decode)


def save_model(model: nn.Module, path: Path, card: ModelCard) -> None:
    """Write the weights of a module with its card."""
    write_atomically(path, save(_tensors(model), {CARD: card.model_dump_json(exclude_defaults=True)}))


def load_model(path: Path | str, otherwise: ModelCard | None = None) -> tuple[nn.Module, ModelCard]:
    """Load a network in eval mode and its card.

    Args:
        path: A `.safetensors` file, the `.json` file of a finished run or of an import beside it, or a folder
            that contains one such file.
        otherwise: Card to be used if the file has none, as files of the first version.

    Raises:
        InputError: If there is no such file, or it does not contain a model of this package.
    """
    file = weights_file(Path(path))
    card = read_card(file, otherwise)
    return build(card, file), card


def build(card: ModelCard, file: Path) -> nn.Module:
    """Build the network of a card with the weights of a file, in eval mode.

    Raises:
        InputError: If the weights do not fit the card.
    """
    try:
        net = card.build()
    except InputError as error:  # the model of a plugin that is not loaded
        raise InputError(error.what, where=file, hint=f"{error.hint}; or give its --plugin") from None
    load_weights(net, file)
    return net.eval()


def weights_file(path: Path) -> Path:
    """Return the weights file that a path refers to; paths as in `load_model`.

    Raises:
        InputError: If there is none, or a folder contains several.
    """
    if path.is_dir():
        files = sorted(f for f in [*path.glob(f"*{WEIGHTS}"), *path.glob(f"runs/*{WEIGHTS}")] if f.is_file())
        if len(files) != 1:
            first = ", ".join(str(f.relative_to(path)) for f in files[:3])
            what = f"{len(files)} models found, for instance {first}" if files else f"no {WEIGHTS} file found"
            raise InputError(what, where=path, hint=f"give one {WEIGHTS} file")
        return files[0]
    file = path.with_suffix(WEIGHTS) if path.suffix == ".json" else path
    if not file.is_file():
        hint = "" if file == path else f"{path.name} has no weights file beside it"
        raise InputError("no such weights file", where=file, hint=hint)
    return file


def read_card(file: Path, otherwise: ModelCard | None = None) -> ModelCard:
    """Return the card in the header of a weights file, or ``otherwise`` if it has none.

    Raises:
        InputError: If the file is not a weights file, or has an invalid card.
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
        hint = "train the model again, or import it with tal-bench checkpoint import"
        raise InputError("the weights file has no model card", where=file, hint=hint)
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"invalid model card: {place}: {first['msg']}", where=file) from None


def check_name(name: str) -> None:
    """Check that the name of a model can be used as a file name.

    Raises:
        InputError: If it cannot.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"got {name!r}", where="--name", hint="use letters, digits, '-', '_' and '.'")


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights into a module of the same architecture.

    Raises:
        InputError: If the file is missing, not a safetensors file, or of another architecture.
    """
    try:
        model.load_state_dict(load(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(
            "no such weights file", where=path, hint="delete the run's .json file to train it again"
        ) from None
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"the weights do not fit this architecture: {error}", where=path) from None


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Return a hash of the names, shapes and values of weights, independent of device and file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:16]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
