"""Tests of the presets of downloaded datasets: declarations, and files in their layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from layouts import CLASSES, EXTERNAL_DATASETS, write_layout

from tal_bench.config import DatasetSpec
from tal_bench.config.dataset import Overrides
from tal_bench.data.dataset import ONE_CLASS, open_dataset
from tal_bench.data.registry import datasets, find_folder, load_spec, read_dataset_file
from tal_bench.errors import DataError, InputError
from tal_bench.models.registry import (
    decoding_recipe,
    detector_spec,
    get_model,
    model_names,
    training_recipe,
)
from tal_bench.models.structures import structures


def declared(name: str) -> DatasetSpec:
    return datasets.get(name).spec(Path("data"))


@pytest.mark.parametrize("name", EXTERNAL_DATASETS)
def test_a_preset_opens_in_its_own_layout(name: str, tmp_path: Path) -> None:
    entry = datasets.get(name)
    folder = tmp_path / entry.folders[0]
    write_layout(name, folder, videos=2)
    assert find_folder(entry, tmp_path) == folder
    spec = load_spec(name, data_root=tmp_path)
    assert read_dataset_file(folder / "dataset.yaml") == spec
    data = open_dataset(spec, tuple(spec.modalities))
    assert set(data.classes) >= set(CLASSES)
    assert len(data.classes) == (spec.classes or len(CLASSES))
    assert data.notes() == []
    for video in (*data.videos("train+validation"), *data.videos("test")):
        for stream, modality in spec.modalities.items():
            assert video.features[stream].shape == (video.steps, modality.channels)
            assert video.features[stream].dtype == np.float32
        assert video.meta.stride > 0
        assert video.segments.max() < video.steps + 1
        assert len(video.labels) == 3


@pytest.mark.parametrize("name", EXTERNAL_DATASETS)
def test_preset_lists_expected_files(name: str) -> None:
    entry, spec = datasets.get(name), declared(name)
    assert entry.marker
    assert entry.marker in entry.files[0]
    told = "\n".join(entry.files)
    for modality in spec.modalities.values():
        assert f"{modality.folder.relative_to('data')}/" in told
        assert modality.suffix in told
    assert DatasetSpec.model_validate_json(spec.model_dump_json()) == spec
    widths = sum(m.channels for m in spec.modalities.values())
    assert f"[T, {widths}]" in told or all(f"[T, {m.channels}]" in told for m in spec.modalities.values())


@pytest.mark.parametrize("name", EXTERNAL_DATASETS)
def test_every_model_fits_every_preset(name: str) -> None:
    """Architectures, training settings and post-processing that result from the declarations are valid."""
    spec = declared(name)
    for model in map(get_model, model_names()):
        if model.inputs in ("privileged", "hallucinated") and not spec.channels("privileged"):
            continue
        architecture = detector_spec(model, spec, 3)
        assert architecture.max_length == spec.max_length
        recipe, decoding = training_recipe(model, spec), decoding_recipe(model, spec)
        for key, value in spec.settings(model.structure, "training").items():
            assert getattr(recipe, key) == value
        for key, value in spec.settings(model.structure, "decoding").items():
            assert getattr(decoding, key) == value


@pytest.mark.parametrize(
    ("name", "model", "changes"),
    [
        ("thumos14", "actionformer", {"max_detections": 200, "nms_sigma": 0.5, "voting_weight": "score-iou"}),
        ("thumos14", "tridet", {"max_detections": 2000, "voting_weight": "score"}),
        ("activitynet-1.3", "actionformer", {"max_detections": 100, "nms_sigma": 0.75, "voting": 0.9}),
        ("activitynet-1.3", "tridet", {"max_detections": 200, "nms_sigma": 0.7, "voting": 0.95}),
        ("epic-kitchens-100-noun", "conv-dw-primary", {"max_detections": 2000, "topk": 5000}),
        ("hacs", "tridet", {"max_detections": 250, "nms_sigma": 0.75}),
    ],
)
def test_post_processing_is_that_of_the_papers(name: str, model: str, changes: dict[str, Any]) -> None:
    decoding = decoding_recipe(get_model(model), declared(name))
    assert {key: getattr(decoding, key) for key in changes} == changes


def test_recipes_and_networks_are_those_of_the_papers() -> None:
    net, anet, ego = (declared(n) for n in ("thumos14", "activitynet-1.3-i3d", "ego4d-mq"))
    transformer = get_model("actionformer")
    recipe = training_recipe(transformer, anet)
    assert (recipe.label_smoothing, recipe.regression_weight, recipe.lr, recipe.batch_size) == (
        0.1,
        2,
        1e-3,
        16,
    )
    assert training_recipe(transformer, net).label_smoothing == 0
    assert training_recipe(get_model("tridet"), net).total_epochs == 40
    architecture = detector_spec(transformer, anet, 1)
    assert (architecture.width, architecture.windows) == (256, (7, 7, 7, 7, 7, 1))
    assert detector_spec(get_model("conv"), anet, 1).windows == (1,) * 6
    assert detector_spec(get_model("actionformer-small"), anet, 1).width == 48
    assert detector_spec(get_model("tridet"), anet, 1).sgp_scale == 1.3
    assert detector_spec(transformer, ego, 110).levels == 7
    assert list(detector_spec(transformer, ego, 110).reads) == ["slowfast", "omnivore", "egovlp"]
    assert set(structures) >= set(anet.models)


def test_settings_of_an_unknown_structure_are_rejected() -> None:
    spec = declared("thumos14").model_copy(update={"models": {"tridt": Overrides()}})
    with pytest.raises(InputError, match=r"models: unknown structure 'tridt' \(did you mean 'tridet'\?\)"):
        detector_spec(get_model("conv"), spec, 3)


def test_opentads_thumos_is_without_two_videos(tmp_path: Path) -> None:
    file = write_layout("thumos14-opentad", tmp_path, videos=2)
    spec = read_dataset_file(file)
    content = json.loads(spec.annotations.read_text())
    content["database"]["video_test_0000270"] = content["database"]["test_000"]
    spec.annotations.write_text(json.dumps(content))
    data = open_dataset(spec, ["rgb"])
    assert data.ids("test") == ["test_000", "test_001"]
    assert data.selection.skipped == {"video_test_0000270": "excluded"}
    assert data.notes() == ["1 video left out, excluded: video_test_0000270"]
    assert "Ambiguous" not in data.classes


def test_activitynet_has_one_class_and_external_scores(tmp_path: Path) -> None:
    data = open_dataset(read_dataset_file(write_layout("activitynet-1.3", tmp_path)), ["rgb"])
    assert data.outputs == ONE_CLASS
    assert data.scores is not None
    assert set(data.scores) == set(data.ids("test"))
    video = data.videos("test")[0]
    assert video.steps == 192
    assert sorted(video.labels.tolist()) == [0, 1, 2]
    assert video.targets.tolist() == [0, 0, 0]
    steps = len(np.load(tmp_path / "tsp_features" / "v_test_000.npy"))
    assert video.meta.stride == video.meta.window == pytest.approx(((steps - 1) * 16 + 16) / 192)


def test_scores_must_cover_the_test_videos(tmp_path: Path) -> None:
    file = write_layout("activitynet-1.3", tmp_path)
    spec = read_dataset_file(file)
    assert spec.scores is not None
    content = json.loads(spec.scores.read_text())
    del content["results"]["test_001"]
    spec.scores.write_text(json.dumps(content))
    with pytest.raises(DataError, match="1 of 3 test videos have no external scores, first 'test_001'"):
        open_dataset(spec, ["rgb"])
    skipping = spec.model_copy(update={"missing": "skip"})
    assert open_dataset(skipping, ["rgb"]).selection.skipped == {"test_001": "no external scores"}
    spec.scores.unlink()
    with pytest.raises(DataError, match=r"missing file of video-level scores .*'scores: null'"):
        open_dataset(spec, ["rgb"])


def test_file_overrides_keys_of_a_preset(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "mine.yaml"
    changes = {"modalities": {"flow": {"suffix": ".npz"}}, "missing": "skip", "training": {"lr": 1e-3}}
    file.write_text(yaml.safe_dump({"preset": "thumos14", "folder": "data", **changes}))
    spec = read_dataset_file(file)
    base = datasets.get("thumos14").spec(tmp_path / "data")
    assert (spec.missing, spec.training) == ("skip", {"lr": 1e-3})
    assert spec.modalities["flow"].suffix == ".npz"
    assert spec.modalities["rgb"] == base.modalities["rgb"]
    assert spec.annotations == base.annotations


def test_another_size_drops_the_settings_of_networks(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: activitynet-1.3\nsize: small\n")
    spec = read_dataset_file(file)
    assert (spec.detector, spec.training, spec.models) == ({}, {}, {})
    assert spec.decoding["max_detections"] == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: thumos", r"mine.yaml: preset: unknown dataset 'thumos' \(did you mean 'thumos14'"),
        ("preset: [1]", r"preset: must be a string, got \[1\]"),
        ("preset: thumos14\nfolder: 3", "folder: must be a string, got 3"),
        ("preset: sprites", r"'sprites' is generated by the package, not a preset \(use its name"),
        ("preset: thumos14\nfps: -1", "fps: Input should be greater than 0"),
        ("preset: thumos14\nstried: 3", r"unknown key 'stried' \(did you mean 'stride'"),
        ("preset: thumos14\ntraining: {learning_rate: 1}", "training: unknown setting .learning_rate"),
        ("preset: thumos14\ndecoding: {nms_sigma: wide}", "decoding.nms_sigma: .*valid number.*, got 'wide'"),
        ("preset: thumos14\ndetector: {attention_window: wide}", "detector.attention_window.*, got 'wide'"),
        ("preset: thumos14\nmodels: {tridet: {training: {lr: 0}}}", "training.lr: Input should be greater"),
        ("preset: thumos14\ndetector: {classes: 3}", "detector: 'classes' is not a setting of a detector"),
        ("preset: thumos14\ngroups: 'video'", "groups: 'video' has no capture group"),
        ("preset: thumos14\ngroups: '('", "groups: not a regular expression"),
        ("preset: thumos14\nfolds: 3\nfold: 3", "fold: 3, folds are numbered from 0 to 2"),
        ("preset: thumos14\nfold: 1", "fold: 1, folds are numbered from 0 to 0"),
        ("preset: thumos14\nresize: 4000", "resize: 4000 steps are longer than max_length 2304"),
        ("preset: thumos14\ntiou: []", "tiou: empty"),
        ("preset: thumos14\nmodalities: {rgb: {suffix: .pkl}}", "suffix: '.pkl' does not end in"),
        ("preset: thumos14\nmodalities: {rgb: {also: [x]}}", "columns: cannot be combined with 'also'"),
    ],
)  # fmt: skip
def test_bad_dataset_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_dataset_file(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
