"""Learning curves of the small recipe, and its result on features of other widths and scales.

    python tests/benchmarks/small_recipe.py curves --rows none both --factors 1 2 --seeds 5
    python tests/benchmarks/small_recipe.py features --channels 128 1024 --scales 0.01 100
    python tests/benchmarks/small_recipe.py models --models actionformer conv \\
        --detector "{whiten: null, standardise: true}" --training "{crop: [0.9, 1.0]}"

All print mAP on the validation part of `sprites`, or of another `--dataset`, one line per setting. Minutes to
hours. `--share` trains on a part of the training videos, for as many steps as on all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np
import torch
import yaml
from torch import nn

from tal_bench.config import DatasetSpec, DistillSpec, TeacherUse, TrainSpec
from tal_bench.data.channel_statistics import channel_covariances, channel_statistics
from tal_bench.data.dataset import Dataset, Video, open_dataset
from tal_bench.data.datasets.sprites.statistics import ridge_r2
from tal_bench.data.registry import load_spec
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.variants import variants
from tal_bench.inference import scoring
from tal_bench.models.input_fusion import fit_standardisation, fit_whitening
from tal_bench.models.registry import decoding_recipe, detector_spec, get_model, model_name, training_recipe
from tal_bench.training.device import Device
from tal_bench.training.prediction import predict
from tal_bench.training.train import train

STUDENT, TEACHER_SEED = "conv-dw-hallucinated", 1000


@dataclass
class Setting:
    """A dataset with its training and validation videos, and a factor on the epochs of every training."""

    spec: DatasetSpec
    data: Dataset
    training: Sequence[Video]
    validation: Sequence[Video]
    factor: float = 1.0

    def fit(
        self,
        model: str,
        seed: int,
        factor: float = 1.0,
        teachers: Mapping[str, nn.Module] | None = None,
        objective: DistillationObjective | None = None,
    ) -> nn.Module:
        """Train a model for a multiple of the recipe's epochs."""
        architecture = detector_spec(get_model(model), self.spec, len(self.data.classes))
        torch.manual_seed(seed)
        network = get_model(model).build(architecture)
        if architecture.standardise:
            fit_standardisation(network, channel_statistics(self.training))
        fit_whitening(network, channel_covariances(self.training, architecture.reads))
        return train(
            network,
            architecture,
            self.training,
            _lengthened(training_recipe(get_model(model), self.spec), factor * self.factor),
            seed=seed,
            device=Device("cpu", "fp32"),
            teachers=teachers,
            objective=objective,
        ).eval()

    def score(self, model: str, network: nn.Module) -> float:
        """Return the average mAP on validation in percent."""
        architecture = detector_spec(get_model(model), self.spec, len(self.data.classes))
        decode = decoding_recipe(get_model(model), self.spec)
        found = list(predict(network, architecture, self.validation, decode, Device("cpu", "fp32")))
        tables = scoring.tables(found, self.validation, self.data)
        return scoring.metrics(self.spec, *tables, [video.meta.id for video in self.validation])[0]["map_avg"]

    def distilled(self, row: str, seed: int, factor: float, trained: dict[str, nn.Module]) -> float:
        """Train the student under a variant with its default settings; teachers have the recipe's epochs."""
        variant = variants.get(row)
        names = {}
        for role, ref in variant.teachers.items():
            structures = {"student": get_model(STUDENT).structure, "teacher": "actionformer"}
            structure = structures.get(ref.structure, ref.structure)
            names[role] = STUDENT if ref.inputs == "student" else model_name(structure, ref.inputs)  # type: ignore[arg-type]
        for name in names.values():
            if name not in trained:
                trained[name] = self.fit(name, TEACHER_SEED)
        objective = None
        if variant.terms:
            spec = DistillSpec(
                teachers={
                    role: TeacherUse(run="", model=name, weight=variant.teachers[role].weight)
                    for role, name in names.items()
                },
                terms=variant.terms,
                soft_weight=variant.soft_weight,
                temperature=variant.temperature,
            )
            specs = {
                name: detector_spec(get_model(name), self.spec, len(self.data.classes))
                for name in {STUDENT, *names.values()}
            }
            teachers = {role: specs[name] for role, name in names.items()}
            objective = DistillationObjective(spec, specs[STUDENT], teachers, seed)
        networks = {role: trained[name] for role, name in names.items()}
        return self.score(STUDENT, self.fit(STUDENT, seed, factor, networks, objective))


def _lengthened(recipe: TrainSpec, factor: float) -> TrainSpec:
    return recipe.model_copy(
        update={
            "epochs": round(recipe.epochs * factor),
            "warmup_epochs": round(recipe.warmup_epochs * factor),
        }
    )


def _reduced(setting: Setting, share: float) -> Setting:
    """Return the setting with every n-th training video, and n times the epochs, n = 1 / ``share``."""
    every = round(1 / share)
    return replace(setting, training=setting.training[::every], factor=float(every))


def _mapped(setting: Setting, channels: int, relu: bool, scale: float) -> Setting:
    """Return the setting with features that went through fixed random maps."""
    random, maps = np.random.default_rng(5), {}
    for name, modality in setting.spec.modalities.items():
        maps[name] = random.standard_normal((modality.channels, channels)) / np.sqrt(modality.channels)

    def change(video: Video) -> Video:
        values = {name: video.features[name] @ weights for name, weights in maps.items()}
        if relu:
            values = {name: np.maximum(x, 0.0) for name, x in values.items()}
        return replace(video, features={name: (scale * x).astype(np.float32) for name, x in values.items()})

    modalities = {
        name: modality.model_copy(update={"channels": channels, "nonnegative": relu})
        for name, modality in setting.spec.modalities.items()
    }
    return replace(
        setting,
        spec=setting.spec.model_copy(update={"modalities": modalities}),
        training=[change(video) for video in setting.training],
        validation=[change(video) for video in setting.validation],
    )


def _recovered(setting: Setting, mapped: Setting) -> float:
    """Return R² on validation of a ridge regression from the mapped primary features to the original ones."""
    name = next(name for name, m in setting.spec.modalities.items() if m.role == "primary")
    parts = [
        np.concatenate([video.features[name][::2] for video in videos])
        for videos in (mapped.training, setting.training, mapped.validation, setting.validation)
    ]
    return ridge_r2(*parts)


def _line(name: str, scores: Sequence[float]) -> None:
    spread = f" ± {stdev(scores):.1f}" if len(scores) > 1 else ""
    print(f"{name}: {fmean(scores):.1f}{spread}  {[round(score, 1) for score in scores]}", flush=True)


def main() -> None:
    """Print learning curves, results on mapped features, or those of single models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["curves", "features", "models"])
    parser.add_argument("--dataset", default="sprites")
    parser.add_argument("--share", type=float, default=1.0, help="share of the training videos")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", nargs="+", default=["none", "both"])
    parser.add_argument("--models", nargs="+", default=["actionformer", "conv"])
    parser.add_argument("--detector", type=yaml.safe_load, default={}, help="changes to the networks, YAML")
    parser.add_argument("--training", type=yaml.safe_load, default={}, help="changes to the recipe, YAML")
    parser.add_argument("--factors", nargs="+", type=float, default=[1.0, 2.0, 4.0])
    parser.add_argument("--channels", nargs="+", type=int, default=[16, 128, 1024, 2048])
    parser.add_argument("--scales", nargs="+", type=float, default=[0.01, 1.0, 100.0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = load_spec(options.dataset)
    changes = {"detector": spec.detector | options.detector, "training": spec.training | options.training}
    spec = spec.model_copy(update=changes)
    data = open_dataset(spec, tuple(spec.modalities))
    setting = _reduced(Setting(spec, data, data.videos("train"), data.videos("validation")), options.share)
    trained: dict[str, nn.Module] = {}
    if options.what == "curves":
        for row in options.rows:
            for factor in options.factors:
                scores = [setting.distilled(row, seed, factor, trained) for seed in range(options.seeds)]
                _line(f"{row}, {factor:g} x epochs", scores)
        return
    if options.what == "models":
        for model in options.models:
            for factor in options.factors:
                networks = (setting.fit(model, seed, factor) for seed in range(options.seeds))
                _line(f"{model}, {factor:g} x epochs", [setting.score(model, net) for net in networks])
        return
    for channels in options.channels:
        for relu in (False, True):
            for scale in options.scales:
                mapped = _mapped(setting, channels, relu, scale)
                scores = [mapped.distilled("none", seed, 1.0, {}) for seed in range(options.seeds)]
                kind = "ReLU" if relu else "signed"
                share = _recovered(setting, mapped)
                _line(f"{channels} channels, {kind}, scale {scale:g}, R² {share:.2f}", scores)


if __name__ == "__main__":
    main()
