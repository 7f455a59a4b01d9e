"""Teachers from files of weights: not trained, but tested like every other row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from safetensors.torch import load_file

from tal_bench.config import DatasetSpec, DetectorSpec, Inputs
from tal_bench.errors import InputError
from tal_bench.models.checkpoint import ModelCard, build, read_card, save_model, weights_file, weights_hash
from tal_bench.models.registry import Model
from tal_bench.models.structures import parse_detector

HASH_DIGITS = 6
"""Digits of the weights' hash in the name of the row."""
Streams = Mapping[str, int]


@dataclass(frozen=True)
class ImportedTeacher:
    """A model from a file, fitted to the dataset of a study.

    Attributes:
        model: Model under the name of its row, which contains `imported`.
        card: Model card, with the names of the dataset's streams.
        file: File of the weights.
        weights: Hash of the weights.
        serves: Inputs of the teachers that it can replace.
        notes: Differences between model and dataset that the user should know.
    """

    model: Model
    card: ModelCard
    file: Path
    weights: str
    serves: frozenset[str]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of its row."""
        return self.model.name

    def save(self, file: Path, run: str) -> None:
        """Write the weights to the file of a run, unless it exists."""
        if not file.is_file():
            save_model(build(self.card, self.file), file, self.card.model_copy(update={"run": run}))


def import_teacher(
    path: Path, dataset: DatasetSpec, classes: Sequence[str], where: str = "--teacher"
) -> ImportedTeacher:
    """Load a model from a file and fit it to a dataset.

    Args:
        path: Path as in `load_model`.
        dataset: Dataset of the study.
        classes: Names of the dataset's classes.
        where: Flag that the path comes from, for messages.

    Raises:
        InputError: The file holds no model of this package, or one that does not fit the dataset.
    """
    file = weights_file(path)
    card = read_card(file)
    detector, notes = fit(card, dataset, classes, where=f"{where} {path}")
    build(card, file)  # raises now if the file is damaged
    weights = weights_hash(load_file(file))
    name = f"{card.name}-imported-{weights[:HASH_DIGITS]}"
    card = card.model_copy(update={"name": name, "detector": detector})
    return ImportedTeacher(card.as_model(), card, file, weights, _replaceable(detector, dataset), notes)


def check_teaches(imported: ImportedTeacher, rows: Sequence[str]) -> None:
    """Check that some row learns from the imported teacher.

    Raises:
        InputError: No row does.
    """
    if imported.name not in rows:
        raise InputError(
            f"no row learns from it: it replaces teachers that read {' or '.join(sorted(imported.serves))}",
            where=f"--teacher {imported.file}",
            hint="cross-modal and both need all streams, cross-structure only the primary ones",
        )


def fit(
    card: ModelCard, dataset: DatasetSpec, classes: Sequence[str], where: str
) -> tuple[DetectorSpec, tuple[str, ...]]:
    """Return the architecture with the names of the dataset's streams, and notes on other differences.

    Raises:
        InputError: Classes, streams or length do not fit.
    """
    spec = card.detector
    if spec.classes != len(classes):
        raise InputError(
            f"it has {spec.classes} classes, dataset '{dataset.name}' has {len(classes)}", where=where
        )
    if card.classes and card.classes != tuple(classes):
        own, other = next((a, b) for a, b in zip(card.classes, classes, strict=True) if a != b)
        raise InputError(
            f"its classes differ, or are in another order: '{own}' for '{other}' of dataset '{dataset.name}'",
            where=where,
        )
    if spec.temporal_attention and dataset.max_length < spec.max_length:
        raise InputError(
            f"its temporal attention is built for {spec.max_length} steps, dataset '{dataset.name}' has "
            f"{dataset.max_length}",
            where=where,
            hint="raise the dataset's max_length",
        )
    inputs = _inputs(spec, dataset, where)
    primary, privileged = dataset.channels("primary"), dataset.channels("privileged")
    changed = {"inputs": inputs, "primary": primary, "privileged": privileged}
    fitted = parse_detector({**spec.model_dump(), **changed}, where=where)
    return fitted, _differences(card, fitted, dataset)


def _inputs(spec: DetectorSpec, dataset: DatasetSpec, where: str) -> Inputs:
    """Return which of the dataset's streams it reads: those of the same names, or of the same widths.

    Raises:
        InputError: No streams have these widths.
    """
    available = _available(dataset)
    if spec.inputs == "hallucinated":
        widths = (_total(spec.primary), _total(spec.privileged))
        if widths == (_total(available["primary"]), _total(available["privileged"])):
            return "hallucinated"
    elif spec.inputs == "decomposed":
        if _total(_reads(spec)) == _total(available["primary"]):
            return "decomposed"
    else:
        reads = _reads(spec)
        by_stream = spec.projection or spec.whiten
        for same in (_same_streams, _same_widths if by_stream else _same_total):
            for inputs, streams in available.items():
                if streams and same(reads, streams):
                    return inputs
    raise InputError(
        f"it reads {_text(_reads(spec))}, dataset '{dataset.name}' has {_text(available['all'])}",
        where=where,
        hint="the widths must agree",
    )


def _available(dataset: DatasetSpec) -> dict[Inputs, dict[str, int]]:
    primary, privileged = dataset.channels("primary"), dataset.channels("privileged")
    return {"all": {**primary, **privileged}, "primary": primary, "privileged": privileged}


def _reads(spec: DetectorSpec) -> dict[str, int]:
    widths = {**spec.primary, **spec.privileged}
    return {name: widths[name] for name in spec.reads}


def _same_streams(reads: Streams, streams: Streams) -> bool:
    return list(reads.items()) == list(streams.items())


def _same_widths(reads: Streams, streams: Streams) -> bool:
    return list(reads.values()) == list(streams.values())


def _same_total(reads: Streams, streams: Streams) -> bool:
    return _total(reads) == _total(streams)


def _total(streams: Streams) -> int:
    return sum(streams.values())


def _text(streams: Streams) -> str:
    return " + ".join(f"{name} {width}" for name, width in streams.items())


def _replaceable(spec: DetectorSpec, dataset: DatasetSpec) -> frozenset[str]:
    """Return the inputs of teachers that it can replace; also `all` if all streams are primary."""
    available = _available(dataset)
    own = available.get(spec.inputs, available["primary"])
    return frozenset(inputs for inputs in get_args(Inputs) if available.get(inputs) == own)


def _differences(card: ModelCard, fitted: DetectorSpec, dataset: DatasetSpec) -> tuple[str, ...]:
    """Return notes on other stream names, another length, or another grid of features."""
    notes = []
    before, after = _reads(card.detector), _reads(fitted)
    if before != after:
        notes.append(f"{card.name}: its streams {_text(before)} are {_text(after)} here")
    if fitted.max_length != dataset.max_length:
        notes.append(
            f"{card.name}: it is tested at {fitted.max_length} steps, its own length; dataset "
            f"'{dataset.name}' pads to {dataset.max_length}"
        )
    grid = card.features
    if grid is not None and (grid.stride, grid.window) != (dataset.stride, dataset.window):
        notes.append(
            f"{card.name}: it was trained on a feature every {grid.stride:g} frames of {grid.window:g}, "
            f"dataset '{dataset.name}' has one every {dataset.stride:g} of {dataset.window:g}"
        )
    return tuple(notes)
