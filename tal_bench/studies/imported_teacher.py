"""Teachers from files of weights: not trained, but tested like every other row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from safetensors.torch import load_file

from tal_bench.config import DatasetSpec, DetectorSpec, Inputs, parse_spec
from tal_bench.errors import InputError
from tal_bench.models.checkpoint import ModelCard, build, read_card, save_model, weights_file, weights_hash
from tal_bench.models.registry import Model

HASH_DIGITS = 6
"""Of the weights' hash in the name of the row."""
Streams = Mapping[str, int]


@dataclass(frozen=True)
class ImportedTeacher:
    """A file's model as a study uses it.

    Attributes:
        model: under the name of its row, which says `imported`.
        card: what it is, with the names of the dataset's streams.
        file: with the weights.
        weights: their hash.
        serves: for which inputs of a teacher it can stand.
        notes: what a person should know about how it fits.
    """

    model: Model
    card: ModelCard
    file: Path
    weights: str
    serves: frozenset[str]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its row."""
        return self.model.name

    def save(self, file: Path, run: str) -> None:
        """Put the weights where a study keeps those of a run, unless they are there."""
        if not file.is_file():
            save_model(build(self.card, self.file), file, self.card.model_copy(update={"run": run}))


def import_teacher(
    path: Path, dataset: DatasetSpec, classes: Sequence[str], where: str = "--teacher"
) -> ImportedTeacher:
    """Fit a file's model to a dataset.

    Args:
        path: as `load_model` takes it.
        dataset: that it is to teach on.
        classes: names of what a detector tells apart there.
        where: flag that the path comes from.

    Raises:
        InputError: no model of ours, or it does not fit the dataset.
    """
    file = weights_file(path)
    card = read_card(file)
    detector, notes = fit(card, dataset, classes, where=f"{where} {path}")
    build(card, file)  # whatever is wrong with the file is said now
    weights = weights_hash(load_file(file))
    name = f"{card.name}-imported-{weights[:HASH_DIGITS]}"
    card = card.model_copy(update={"name": name, "detector": detector})
    return ImportedTeacher(card.as_model(), card, file, weights, _serves(detector, dataset), notes)


def check_teaches(imported: ImportedTeacher, rows: Sequence[str]) -> None:
    """Some row learns from it.

    Raises:
        InputError: none does; training another teacher in its place would be a surprise.
    """
    if imported.name not in rows:
        raise InputError(
            f"no row learns from it: it stands for teachers that read {' or '.join(sorted(imported.serves))}",
            where=f"--teacher {imported.file}",
            hint="cross-modal and both want all streams, cross-structure primary ones alone",
        )


def fit(
    card: ModelCard, dataset: DatasetSpec, classes: Sequence[str], where: str
) -> tuple[DetectorSpec, tuple[str, ...]]:
    """The architecture with the names of a dataset's streams, and in what else the two differ.

    Raises:
        InputError: classes, streams or length do not fit.
    """
    spec = card.detector
    if spec.classes != len(classes):
        raise InputError(
            f"it knows {spec.classes} classes, dataset '{dataset.name}' has {len(classes)}", where=where
        )
    if card.classes and card.classes != tuple(classes):
        own, other = next((a, b) for a, b in zip(card.classes, classes, strict=True) if a != b)
        raise InputError(
            f"its classes are others, or in another order: '{own}' for '{other}' of dataset '{dataset.name}'",
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
    fitted = parse_spec(DetectorSpec, {**spec.model_dump(), **changed}, where=where)
    return fitted, _differences(card, fitted, dataset)


def _inputs(spec: DetectorSpec, dataset: DatasetSpec, where: str) -> Inputs:
    """Which of the dataset's streams it reads: those of its own names, or as wide as its own.

    Raises:
        InputError: none are as wide.
    """
    offered = _offered(dataset)
    if spec.inputs == "hallucinated":
        widths = (spec.primary_channels, spec.privileged_channels)
        if widths == (_total(offered["primary"]), _total(offered["privileged"])):
            return "hallucinated"
    else:
        reads = _reads(spec)
        for same in (_same_streams, _same_widths if spec.projection else _same_total):
            for inputs, streams in offered.items():
                if streams and same(reads, streams):
                    return inputs
    raise InputError(
        f"it reads {_text(_reads(spec))}, dataset '{dataset.name}' has {_text(offered['all'])}",
        where=where,
        hint="the widths must agree",
    )


def _offered(dataset: DatasetSpec) -> dict[Inputs, dict[str, int]]:
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


def _serves(spec: DetectorSpec, dataset: DatasetSpec) -> frozenset[str]:
    """A teacher's `inputs` that it has; where a dataset has primary streams alone, also `all` of them."""
    offered = _offered(dataset)
    own = offered["primary"] if spec.inputs == "hallucinated" else offered[spec.inputs]
    return frozenset(inputs for inputs in get_args(Inputs) if offered.get(inputs) == own)


def _differences(card: ModelCard, fitted: DetectorSpec, dataset: DatasetSpec) -> tuple[str, ...]:
    """What a person should know: other names, another length, another grid of features."""
    notes = []
    before, after = _reads(card.detector), _reads(fitted)
    if before != after:
        notes.append(f"{card.name}: what it knows as {_text(before)} is {_text(after)} here")
    if fitted.max_length != dataset.max_length:
        notes.append(
            f"{card.name}: it is tested at {fitted.max_length} steps, for which it was made; dataset "
            f"'{dataset.name}' pads to {dataset.max_length}"
        )
    grid = card.features
    if grid is not None and (grid.stride, grid.window) != (dataset.stride, dataset.window):
        notes.append(
            f"{card.name}: it was trained on a feature every {grid.stride:g} frames of {grid.window:g}, "
            f"dataset '{dataset.name}' has one every {dataset.stride:g} of {dataset.window:g}"
        )
    return tuple(notes)
