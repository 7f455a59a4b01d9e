"""Find trained models, from the final runs of a study or from weights files, and their dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import nn

from tal_bench.config import DatasetSpec, DecodeSpec, DetectorSpec, Precision, RunSpec
from tal_bench.data.registry import datasets, load_spec
from tal_bench.data.splits import with_fingerprint
from tal_bench.errors import InputError
from tal_bench.models.checkpoint import ModelCard, load_model, plain_card, read_card, weights_file
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RunResult, StudyRecord

ORDER = ("teacher", "reference", "student", "")


@dataclass(frozen=True)
class TrainedModel:
    """A trained model.

    Attributes:
        row: Name of its row.
        kind: Kind of the row; empty for a weights file.
        seed: Seed of its training; 0 if the weights file does not record it.
        file: Weights file.
        card: Model card, used if the weights file has none.
        detector: Architecture.
        decode: Post-processing settings.
        precision: Precision of its matrix products.
        dataset: Dataset on which it was tested, if known.
        limit: Number of videos of each split that its run used; None means all.
        stored: Average mAP in percent that its run recorded.
    """

    row: str
    kind: Literal["teacher", "reference", "student", ""]
    seed: int
    file: Path
    card: ModelCard
    detector: DetectorSpec
    decode: DecodeSpec
    precision: Precision = "fp32"
    dataset: DatasetSpec | None = None
    limit: int | None = None
    stored: float | None = None


def models_of_study(
    folder: Path, rows: Sequence[str] = ()
) -> tuple[StudyRecord, list[TrainedModel], list[str]]:
    """Return the record of a study, the models of its finished final runs, and notes on missing weights.

    Raises:
        InputError: The folder contains no study, a row does not exist, or no run has weights.
    """
    files = StudyFolder(folder)
    record = files.read_study()
    names = [row.name for row in record.rows]
    for name in rows:
        if name not in names:
            raise InputError(f"no row '{name}'", where="--row", hint=f"choose from {', '.join(names)}")
    models: list[TrainedModel] = []
    notes: list[str] = []
    for kind in ORDER:
        for row in record.rows:
            if row.kind != kind or (rows and row.name not in rows):
                continue
            runs = [(seed, files.read_run(hash_)) for seed, hash_ in zip(row.seeds, row.finals, strict=False)]
            finished = [
                _from_run(row.name, row.kind, seed, files.run_file(run.hash, ".safetensors"), run)
                for seed, run in runs
                if run is not None and run.status == "finished"
            ]
            available = [model for model in finished if model.file.is_file()]
            if len(available) < len(row.finals):
                notes.append(f"`{row.name}` has the weights of {len(available)} of {len(row.finals)} runs.")
            models += available
    if not models:
        raise InputError("no final run has weights", where=folder, hint="wait until one has finished")
    return record, models, notes


def models_of_files(paths: Sequence[Path]) -> list[TrainedModel]:
    """Return the models of weights files, one row each.

    Raises:
        InputError: A file does not exist, or is not a model of this program.
    """
    models = [_from_file(path) for path in paths]
    count = Counter(model.row for model in models)
    return [
        replace(model, row=f"{model.row} {model.file.stem[:8]}") if count[model.row] > 1 else model
        for model in models
    ]


def _from_file(path: Path) -> TrainedModel:
    file = weights_file(path)
    run = StudyFolder(file.parent.parent).read_run(file.stem) if file.parent.name == "runs" else None
    if run is not None:
        return _from_run(run.spec.model, "", run.spec.seed, file, run)
    card = read_card(file)
    return TrainedModel(card.name, "", 0, file, card, card.detector, card.decode, dataset=card.dataset)


def _from_run(
    row: str,
    kind: Literal["teacher", "reference", "student", ""],
    seed: int,
    file: Path,
    run: RunResult,
) -> TrainedModel:
    spec: RunSpec = run.spec
    return TrainedModel(
        row=row,
        kind=kind,
        seed=seed,
        file=file,
        card=plain_card(spec),
        detector=spec.detector,
        decode=spec.decode,
        precision=spec.precision,
        dataset=spec.dataset,
        limit=spec.videos,
        stored=run.metrics.get("map_avg"),
    )


def resolve_dataset(
    models: Sequence[TrainedModel], name: str | None, *, data_root: Path | None = None, jobs: int = 1
) -> DatasetSpec:
    """Return the dataset on which all models were tested, with the paths of its files on this machine.

    Args:
        models: Trained models.
        name: Registered name or file of a dataset; None means the dataset that the models record.
        data_root: Folder of downloaded datasets.
        jobs: Number of processes, if the dataset has to be prepared.

    Raises:
        InputError: The models were tested on several datasets or record none, or the files have changed.
    """
    recorded = [model.dataset for model in models if model.dataset is not None]
    fingerprints = {(spec.name, spec.fingerprint) for spec in recorded}
    if len(fingerprints) > 1:
        names = ", ".join(sorted(f"{name} {fingerprint}" for name, fingerprint in fingerprints))
        raise InputError(
            f"models of several datasets: {names}", where="RUN", hint="give models of one dataset"
        )
    if not recorded and name is None:
        hint = "give the dataset with --dataset NAME|FILE.yaml"
        raise InputError("the weights file records no dataset", where=models[0].file, hint=hint)
    if name is not None:
        local = load_spec(name, data_root=data_root, jobs=jobs)
    else:
        local = _locate(recorded[0], data_root, jobs)
    local = with_fingerprint(local)
    if recorded and recorded[0].fingerprint and recorded[0].fingerprint != local.fingerprint:
        raise InputError(
            f"has changed: fingerprint {local.fingerprint}, models were tested on {recorded[0].fingerprint}",
            where=f"dataset '{local.name}'",
            hint="restore the original files, or give their location with --dataset",
        )
    if not recorded:
        return local
    paths = {"annotations": local.annotations, "scores": local.scores, "fingerprint": local.fingerprint}
    modalities = {
        name: modality.model_copy(
            update={"folder": local.modalities[name].folder, "also": local.modalities[name].also}
        )
        for name, modality in recorded[0].modalities.items()
    }
    return recorded[0].model_copy(update={**paths, "modalities": modalities})


def _locate(spec: DatasetSpec, data_root: Path | None, jobs: int) -> DatasetSpec:
    """Return the dataset as recorded if its files exist, otherwise the registered dataset of that name."""
    is_prepared = spec.name in datasets and datasets.get(spec.name).prepare is not None
    if spec.annotations.is_file() and not is_prepared:
        return spec
    if spec.name in datasets:
        return load_spec(spec.name, data_root=data_root, jobs=jobs)
    hint = "give its location with --dataset FILE.yaml"
    raise InputError(f"the files of dataset '{spec.name}' are missing", where=spec.annotations, hint=hint)


def load_trained(hash_: str, folder: StudyFolder) -> tuple[nn.Module, RunSpec]:
    """Load the network of a finished run in evaluation mode, and its spec.

    Raises:
        InputError: The run does not exist or has not finished, or its weights are missing.
    """
    run = folder.read_run(hash_)
    if run is None or run.status != "finished":
        raise InputError(f"run {hash_} has not finished", where=folder.path)
    folder.check_files(run)
    return load_model(folder.run_file(hash_, ".safetensors"), plain_card(run.spec))[0], run.spec
