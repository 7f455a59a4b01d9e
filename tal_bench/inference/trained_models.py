"""Which models are to be tested again: the final runs of a study, or files of weights; and on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import nn

from tal_bench.config import DatasetSpec, DecodeSpec, DetectorSpec, RunSpec
from tal_bench.data.registry import datasets, load_spec
from tal_bench.data.splits import with_fingerprint
from tal_bench.errors import InputError
from tal_bench.models.checkpoint import ModelCard, load_model, plain_card, read_card, weights_file
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RunResult, StudyRecord

ORDER = ("teacher", "reference", "student", "")


@dataclass(frozen=True)
class Subject:
    """One trained model.

    Attributes:
        row: name of its row.
        kind: of the row; empty for a file.
        seed: of its training; 0 for a file that does not say.
        file: its weights.
        card: what they are, in case the file does not say.
        detector: architecture.
        decode: how its output becomes segments.
        precision: of its matrix products.
        dataset: that it was tested on, where known.
        limit: how many videos of each split its run used; none = all.
        stored: average mAP in percent that its run recorded.
    """

    row: str
    kind: Literal["teacher", "reference", "student", ""]
    seed: int
    file: Path
    card: ModelCard
    detector: DetectorSpec
    decode: DecodeSpec
    precision: Literal["fp32", "bf16"] = "fp32"
    dataset: DatasetSpec | None = None
    limit: int | None = None
    stored: float | None = None


def models_of_study(folder: Path, rows: Sequence[str] = ()) -> tuple[StudyRecord, list[Subject], list[str]]:
    """All finished final runs of a study: its record, the runs, and what a reader has to know about them.

    Raises:
        InputError: it holds no study, no such row, or no run with weights.
    """
    files = StudyFolder(folder)
    record = files.read_study()
    names = [row.name for row in record.rows]
    for name in rows:
        if name not in names:
            raise InputError(f"no row '{name}'", where="--row", hint=f"there are {', '.join(names)}")
    found: list[Subject] = []
    notes: list[str] = []
    for kind in ORDER:
        for row in record.rows:
            if row.kind != kind or (rows and row.name not in rows):
                continue
            runs = [(seed, files.read_run(hash_)) for seed, hash_ in zip(row.seeds, row.finals, strict=False)]
            tested = [
                _of_run(row.name, row.kind, seed, files.run_file(run.hash, ".safetensors"), run)
                for seed, run in runs
                if run is not None and run.status == "finished"
            ]
            there = [subject for subject in tested if subject.file.is_file()]
            if len(there) < len(row.finals):
                notes.append(f"`{row.name}` has the weights of {len(there)} of {len(row.finals)} runs.")
            found += there
    if not found:
        raise InputError("no final run with its weights there", where=folder, hint="wait for the first")
    return record, found, notes


def models_of_files(paths: Sequence[Path]) -> list[Subject]:
    """Models in files of weights, a row each.

    Raises:
        InputError: no such file, or no model of ours.
    """
    found = [_of_file(path) for path in paths]
    count = Counter(subject.row for subject in found)
    return [
        replace(one, row=f"{one.row} {one.file.stem[:8]}") if count[one.row] > 1 else one for one in found
    ]


def _of_file(path: Path) -> Subject:
    file = weights_file(path)
    run = StudyFolder(file.parent.parent).read_run(file.stem) if file.parent.name == "runs" else None
    if run is not None:
        return _of_run(run.spec.model, "", run.spec.seed, file, run)
    card = read_card(file)
    return Subject(card.name, "", 0, file, card, card.detector, card.decode, dataset=card.dataset)


def _of_run(
    row: str,
    kind: Literal["teacher", "reference", "student", ""],
    seed: int,
    file: Path,
    run: RunResult,
) -> Subject:
    spec: RunSpec = run.spec
    return Subject(
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


def dataset_of(
    subjects: Sequence[Subject], given: str | None, *, data_root: Path | None = None, jobs: int = 1
) -> DatasetSpec:
    """The dataset that all of them were tested on, as it lies on this machine.

    Args:
        subjects: models.
        given: a registered name or a dataset's file; none = what the models say.
        data_root: folder of downloaded datasets.
        jobs: processes, where it has to be prepared.

    Raises:
        InputError: they were tested on several, nobody knows on what, or the files have changed since.
    """
    known = [subject.dataset for subject in subjects if subject.dataset is not None]
    prints = {(spec.name, spec.fingerprint) for spec in known}
    if len(prints) > 1:
        names = ", ".join(sorted(f"{name} {mark}" for name, mark in prints))
        raise InputError(f"models of several datasets: {names}", where="RUN", hint="give those of one")
    if not known and given is None:
        hint = "say on what it is tested: --dataset NAME|FILE.yaml"
        raise InputError("weights that do not say of which dataset", where=subjects[0].file, hint=hint)
    if given is not None:
        found = load_spec(given, data_root=data_root, jobs=jobs)
    else:
        found = _where_it_lies(known[0], data_root, jobs)
    found = with_fingerprint(found)
    if known and known[0].fingerprint and known[0].fingerprint != found.fingerprint:
        raise InputError(
            f"has changed: fingerprint {found.fingerprint}, the models were tested on {known[0].fingerprint}",
            where=f"dataset '{found.name}'",
            hint="bring the old files back, or say where they are with --dataset",
        )
    if not known:
        return found
    places = {"annotations": found.annotations, "scores": found.scores, "fingerprint": found.fingerprint}
    modalities = {
        name: modality.model_copy(
            update={"folder": found.modalities[name].folder, "also": found.modalities[name].also}
        )
        for name, modality in known[0].modalities.items()
    }
    return known[0].model_copy(update={**places, "modalities": modalities})


def _where_it_lies(spec: DatasetSpec, data_root: Path | None, jobs: int) -> DatasetSpec:
    """The files that a run names, or those of a registered dataset where they are not there."""
    made_here = spec.name in datasets and datasets.get(spec.name).prepare is not None
    if spec.annotations.is_file() and not made_here:
        return spec
    if spec.name in datasets:
        return load_spec(spec.name, data_root=data_root, jobs=jobs)
    hint = "say where it is now: --dataset FILE.yaml"
    raise InputError(f"the dataset '{spec.name}' is not there any more", where=spec.annotations, hint=hint)


def load_trained(hash_: str, folder: StudyFolder) -> tuple[nn.Module, RunSpec]:
    """A finished run's network with its weights, in eval mode, and what the run was.

    Raises:
        InputError: no such run, or its weights are not there.
    """
    known = folder.read_run(hash_)
    if known is None or known.status != "finished":
        raise InputError(f"run {hash_} has not finished", where=folder.path)
    folder.check_files(known)
    return load_model(folder.run_file(hash_, ".safetensors"), plain_card(known.spec))[0], known.spec
