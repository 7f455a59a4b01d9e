from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tal_bench.data.registry as room
from tal_bench.data.dataset import open_dataset
from tal_bench.data.registry import DATA_ROOT, DatasetEntry, datasets, load_spec
from tal_bench.errors import DataError, InputError

YAML = """
name: mine
annotations: labels/mine.json
modalities:
  rgb: {role: primary, folder: rgb, channels: 4}
  acc: {role: privileged, folder: /data/acc, channels: 2}
stride: 4
window: 16
"""


def test_unknown_names() -> None:
    with pytest.raises(InputError, match=r"unknown dataset 'thumos' \(did you mean 'thumos14'\?; or .*yaml"):
        load_spec("thumos")
    with pytest.raises(InputError, match=r"known: sprites, .*thumos14, thumos14-opentad"):
        load_spec("qqqqqqqq")


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(YAML)
    spec = load_spec(str(tmp_path / "mine.yaml"))
    assert spec.annotations == tmp_path / "labels" / "mine.json"
    assert spec.modalities["rgb"].folder == tmp_path / "rgb"
    assert spec.modalities["acc"].folder == Path("/data/acc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (YAML + "strid: 3\n", r"unknown key 'strid' \(did you mean 'stride'\?\)"),
        (YAML.replace("channels: 4", "channels: -4"), "modalities.rgb.channels: .*-4"),
        (YAML.replace("role: primary", "role: privileged"), "at least one must have role 'primary'"),
        ("a: [", "not valid YAML at line"),
        ("just words", "mine.yaml"),
        ("", "mine.yaml"),
    ],
)
def test_bad_files_name_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_spec(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"none\.yml: no such file"):
        load_spec("none.yml")


def _thumos(folder: Path) -> None:
    (folder / "annotations").mkdir(parents=True)
    (folder / "i3d_features").mkdir()
    database = {}
    for name, subset in (("a", "Validation"), ("b", "Validation"), ("c", "Test")):
        segments = [{"segment": [1.0, 2.0], "label": "Diving", "label_id": 7}]
        database[name] = {"subset": subset, "duration": 10.0, "fps": 30.0, "annotations": segments}
        values = np.random.default_rng(0).random((72, 2048), dtype=np.float32)
        np.save(folder / "i3d_features" / f"{name}.npy", values)
    (folder / "annotations" / "thumos14.json").write_text(json.dumps({"database": database}))


@pytest.mark.parametrize("below", ["thumos", "."])
def test_thumos_in_its_usual_layout(tmp_path: Path, below: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _thumos(tmp_path / below)
    spec = load_spec("thumos14", data_root=tmp_path)
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    assert load_spec("thumos14") == spec
    assert (spec.stride, spec.window, spec.max_length) == (4, 16, 2304)
    dataset = open_dataset(spec, tuple(spec.modalities))
    (video,) = dataset.videos("test")
    joint = np.load(tmp_path / below / "i3d_features" / "c.npy")
    np.testing.assert_array_equal(np.hstack([video.features["rgb"], video.features["flow"]]), joint)
    assert video.segments.tolist() == [[1.0 * 30 / 4 - 2, 2.0 * 30 / 4 - 2]]


def test_missing_thumos_reports_the_expected_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_ROOT, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"data/thumos/annotations/thumos14.json: dataset 'thumos14' was not"):
        load_spec("thumos14")


def test_dataset_is_prepared_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spec has the manifest's values; T is the longest video rounded up to the coarsest stride."""
    asked: list[tuple[Path | None, int]] = []

    def prepare(cache_dir: Path | None, *, jobs: int, progress: object) -> Path:
        asked.append((cache_dir, jobs))
        folder = tmp_path / "sprites-0"
        folder.mkdir()
        manifest = {"fps": 8.0, "stride": 2, "window": 1, "channels": {"rgb": 96, "flow": 32}}
        database = {"v": {"duration": 112.5}, "w": {"duration": 60.0}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "annotations.json").write_text(json.dumps({"database": database}))
        return folder

    entry = datasets.get("sprites")
    replaced = DatasetEntry(entry.name, entry.summary, entry.spec, prepare=prepare)
    monkeypatch.setitem(datasets._entries, "sprites", replaced)
    spec = load_spec("sprites", cache_dir=tmp_path, jobs=2)
    assert asked == [(tmp_path, 2)]
    assert (spec.max_length, spec.stride, spec.window, spec.size) == (480, 2, 1, "small")
    assert {name: m.channels for name, m in spec.modalities.items()} == {"rgb": 96, "flow": 32}


def test_registry_does_not_import_torch() -> None:
    code = (
        f"import sys, {room.__name__}, tal_bench.data.checks.dataset_check; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
