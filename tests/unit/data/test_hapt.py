"""Tests of `hapt`: both layouts, rejected files, features, split by person and the command."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hapt_files import Call, Global, emit, frame, make_recordings, write_package, write_pickle, write_text
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_bench.cli import main
from tal_bench.data.dataset import open_dataset
from tal_bench.data.datasets.hapt import package, prepare
from tal_bench.data.datasets.hapt.features import fit_scale, window_features
from tal_bench.data.datasets.hapt.package import read_package, segments_of
from tal_bench.data.datasets.hapt.recordings import LABELS, Recording
from tal_bench.data.datasets.hapt.text import read_text
from tal_bench.data.datasets.hapt.unpickle import read_frames
from tal_bench.data.registry import load_spec
from tal_bench.errors import DataError
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.profiling.video_minute import extraction_seconds, minute_of_video


def assert_same(found: list[Recording], wanted: list[Recording]) -> None:
    assert [r.name for r in found] == [r.name for r in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.segments, other.segments)
        for sensor, signal in other.signals.items():
            np.testing.assert_array_equal(one.signals[sensor], signal)


# --- the original layout -----------------------------------------------------------------------------------


def zipped(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*.txt"):
            archive.write(path, Path("HAPT") / path.relative_to(folder))
    return file


def test_text_is_read_from_a_folder_a_zip_and_a_zip_in_a_zip(tmp_path: Path) -> None:
    made = make_recordings()
    folder = write_text(tmp_path / "text", made)
    assert_same(read_text(folder), made)
    assert_same(read_text(folder / "RawData"), made)
    inner = zipped(folder, tmp_path / "inner.zip")
    assert_same(read_text(inner), made)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "HAPT Data Set.zip")
    assert_same(read_text(tmp_path / "outer.zip"), made)


BREAKS = {
    r"gyro_exp02_user01\.txt is missing": lambda raw: (raw / "gyro_exp02_user01.txt").unlink(),
    r"acc_exp03_user02\.txt and 1 others are missing": lambda raw: [
        f.unlink() for f in raw.glob("*_exp03_*")
    ],
    r"acc_exp01_user01\.txt cannot be read": lambda raw: (raw / "acc_exp01_user01.txt").write_text("1 2 x\n"),
    r"has 1 × 2 numbers, expected N × 3": lambda raw: (raw / "acc_exp01_user01.txt").write_text("1 2\n"),
    r"samples of acc and \d+ samples of gyro": lambda raw: (raw / "acc_exp01_user01.txt").write_text("1 2 3"),
    r"acc has a value that is not finite": lambda raw: spoil(raw / "acc_exp04_user03.txt", "nan"),
    r"no labels\.txt": lambda raw: (raw / "labels.txt").unlink(),
    r"labels\.txt has 1 × 4": lambda raw: (raw / "labels.txt").write_text("1 1 5 20\n"),
    r"unknown activity 13": lambda raw: add(raw / "labels.txt", "1 1 13 20 30"),
    r"segment from sample 31 to 21": lambda raw: add(raw / "labels.txt", "1 1 1 30 20"),
    r"segment from sample 11 to 100000": lambda raw: add(raw / "labels.txt", "1 1 1 10 99999"),
    r"acc_exp09_user09\.txt": lambda raw: add(raw / "labels.txt", "9 9 1 10 20"),
    r"activity 1 'RUNNING'": lambda raw: (raw.parent / "activity_labels.txt").write_text("1 RUNNING"),
}


def spoil(file: Path, number: str) -> None:
    first, rest = file.read_text().split("\n", 1)
    file.write_text(f"{number} {first.split(' ', 1)[1]}\n{rest}")


def add(file: Path, line: str) -> None:
    file.write_text(file.read_text() + line + "\n")


@pytest.mark.parametrize("message", BREAKS)
def test_malformed_text_is_reported_and_nothing_is_written(tmp_path: Path, message: str) -> None:
    folder = write_text(tmp_path / "text", make_recordings())
    BREAKS[message](folder / "RawData")
    with pytest.raises(DataError, match=message) as caught:
        prepare.prepare(tmp_path / "cache", source=folder)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/*"))


def test_missing_source_is_reported(tmp_path: Path) -> None:
    (tmp_path / "not.zip").write_bytes(b"PK but no archive")
    for source, message in (
        (tmp_path, "no recordings"),
        (tmp_path / "a", "no such"),
        (tmp_path / "not.zip", "ZIP"),
    ):
        with pytest.raises(DataError, match=message):
            read_text(source)


# --- the package -------------------------------------------------------------------------------------------


def test_package_equals_text(tmp_path: Path) -> None:
    made = make_recordings()
    assert_same(read_package(write_package(tmp_path / "HAPT.pkl.gz", made)), made)


def test_runs_of_labels_are_segments() -> None:
    label = np.array([-1, -1, 5, 5, 5, 7, 7, -1, 5])
    assert segments_of(label).tolist() == [[4, 2, 5], [6, 5, 7], [4, 8, 9]]
    assert segments_of(np.array([-1, -1])).tolist() == []


SHELL = Global("posix", "system")


def dangerous(marker: Path) -> dict[str, object]:
    """Return pickles that would create a file if they were executed."""
    command = (f"touch {marker}",)
    good = frame(make_recordings((1,))[0])
    opened = Call(Global("io", "open"), (str(marker), "w"))
    return {
        "posix.system": Call(SHELL, command),
        "subprocess.Popen": {1: [Call(Global("subprocess", "Popen"), (["touch", str(marker)],))]},
        "builtins.eval": {1: [good, Call(Global("builtins", "eval"), (f"open({str(marker)!r}, 'w')",))]},
        "io.open": {1: [Call(good.function, good.args, opened)]},
        "copyreg": Call(Global("copyreg", "_reconstructor"), (SHELL, SHELL, None)),
        "operator.attrgetter": Call(Global("operator", "attrgetter"), ("__class__",)),
        "pandas.core.frame.DataFrame.eval": Call(Global("pandas.core.frame", "DataFrame.eval"), command),
    }


@pytest.mark.parametrize("what", dangerous(Path("marker")))
def test_pickle_with_code_is_rejected_and_not_executed(tmp_path: Path, what: str) -> None:
    marker = tmp_path / "ran"
    path = write_pickle(tmp_path / "HAPT.pkl.gz", dangerous(marker)[what])
    with pytest.raises(DataError, match=f"refused: the pickle names {what}") as caught:
        read_package(path)
    assert str(path) in str(caught.value)
    assert not marker.exists()


def test_pickle_cannot_modify_placeholders() -> None:
    name = b"cnumpy\nndarray\n"
    with pytest.raises(DataError, match=r"refused: the pickle sets attributes of numpy\.ndarray"):
        read_frames(io.BytesIO(name + b"}b."), "here")
    for opcodes in (b"(N}(X\x04\x00\x00\x00nameNutb.", b")\x81.", b"(I1\nI2\no."):
        with pytest.raises(DataError):
            read_frames(io.BytesIO(name + opcodes), "here")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_pickle_is_a_data_error(data: st.DataObject) -> None:
    content = bytearray(emit({1: [frame(make_recordings((1,))[0])]}) + b".")
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    try:
        read_frames(io.BytesIO(bytes(content[:cut] if data.draw(st.booleans()) else content)), "here")
    except DataError as error:
        assert "\n" not in str(error)


def test_damaged_package_is_reported(tmp_path: Path) -> None:
    whole = write_package(tmp_path / "HAPT.pkl.gz", make_recordings((1,))).read_bytes()
    for content in (whole[:-20], b"no gzip", gzip.compress(b"no pickle"), gzip.compress(b"")):
        (tmp_path / "HAPT.pkl.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"HAPT\.pkl\.gz"):
            read_package(tmp_path / "HAPT.pkl.gz")


# --- features ----------------------------------------------------------------------------------------------


def naive(window: np.ndarray) -> list[float]:
    """Compute the 64 features of one window [128, 3] one by one."""
    four = [window[:, 0], window[:, 1], window[:, 2], np.sqrt((window**2).sum(axis=1))]
    numbers = [float(f(x)) for f in (np.mean, np.std, np.min, np.max) for x in four]
    numbers += [float(np.mean([abs(x[i + 1] - x[i]) for i in range(127)])) for x in four]
    for x in four:
        wave = [sum(x[n] * np.exp(-2j * np.pi * k * n / 128) for n in range(128)) for k in range(65)]
        for band in range(8):
            power = [abs(wave[k]) ** 2 / 128 for k in range(1 + 8 * band, 9 + 8 * band)]
            numbers.append(float(np.log(np.mean(power) + 1e-6)))
    numbers += [float(np.corrcoef(window[:, a], window[:, b])[0, 1]) for a, b in ((0, 1), (0, 2), (1, 2))]
    parts = (slice(0, 43), slice(43, 86), slice(86, 128))
    return numbers + [float(window[part, axis].mean()) for part in parts for axis in range(3)]


def test_features_match_their_definition() -> None:
    signal = np.random.default_rng(3).normal(size=(128 + 2 * 32 + 31, 3)).cumsum(axis=0)
    found = window_features(signal)
    assert found.shape == (3, 64)
    for step in (0, 2):
        np.testing.assert_allclose(found[step], naive(signal[32 * step : 32 * step + 128]), atol=1e-9)


def test_features_of_a_constant_signal() -> None:
    found = window_features(np.full((128, 3), 0.1))
    assert np.isfinite(found).all()
    assert found[0, 52:55].tolist() == [0, 0, 0]
    scaled = fit_scale([found])(found)
    assert np.isfinite(scaled).all()
    with pytest.raises(DataError, match="127 samples"):
        window_features(np.zeros((127, 3)))


# --- the dataset -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hapt")
    prepare.prepare(folder / "cache", source=write_text(folder / "text", make_recordings()))
    return folder / "cache"


def test_people_are_in_one_part_each(cache: Path) -> None:
    spec = load_spec("hapt", cache_dir=cache)
    data = open_dataset(spec, ("acc", "gyro"))
    assert data.ids("train") == ["exp01_user01", "exp02_user01", "exp04_user03"]
    assert data.ids("validation") == ["exp05_user05", "exp06_user16"]
    assert data.ids("train+validation") == [
        "exp01_user01", "exp02_user01", "exp04_user03", "exp05_user05", "exp06_user16"
    ]  # fmt: skip
    assert data.ids("test") == ["exp03_user02", "exp07_user24"]
    assert data.selection.groups["exp07_user24"] == "24"
    assert set(data.classes) <= set(LABELS)


def test_features_are_scaled_by_the_training_people(cache: Path) -> None:
    spec = load_spec("hapt", cache_dir=cache)
    data = open_dataset(spec, ("acc", "gyro"))
    for sensor in ("acc", "gyro"):
        rows = np.concatenate([video.features[sensor] for video in data.videos("train")])
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-4)
    made = make_recordings()[0]
    video = data.videos("train")[0]
    assert video.meta.duration == made.samples / 50
    np.testing.assert_allclose(video.segments_seconds, made.segments[:, 1:] / 50)
    np.testing.assert_allclose(video.segments, (made.segments[:, 1:] - 64) / 32, atol=1e-5)
    assert video.steps == (made.samples - 128) // 32 + 1 <= spec.max_length


def test_the_same_recordings_are_prepared_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = prepare.prepare(cache)
    text = write_text(tmp_path / "text", make_recordings())
    monkeypatch.setattr(prepare, "_build", None)
    assert prepare.prepare(cache, source=text) == known
    monkeypatch.undo()
    other = prepare.prepare(cache, source=write_text(tmp_path / "other", make_recordings(seed=1)))
    assert other != known
    assert prepare.prepare(cache) == other
    assert prepare.prepare(cache, source=text) == known == prepare.prepare(cache)
    assert not list(cache.glob(".*.partial")) + [f for f in cache.glob(".hapt*") if f.is_dir()]


def test_missing_split_or_short_recording_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no validation subject among users 1, 2"):
        prepare.prepare(tmp_path, source=write_text(tmp_path / "text", make_recordings((1, 2))))
    made = make_recordings((1, 2, 5))
    short = {sensor: signal[:100] for sensor, signal in made[0].signals.items()}
    made[0] = Recording(1, 1, short, np.array([[0, 10, 20]]))
    with pytest.raises(DataError, match="exp01_user01 has 100 samples"):
        prepare.prepare(tmp_path, source=write_text(tmp_path / "short", made))


def test_minute_has_a_cost_per_sensor(cache: Path) -> None:
    spec = load_spec("hapt", cache_dir=cache)
    cost = extraction_seconds(spec)
    assert cost.keys() == {"decode", "flow", "backbone/acc", "backbone/gyro"}
    assert min(cost["backbone/acc"], cost["backbone/gyro"]) > 0
    assert cost["decode"] == cost["flow"] == 0
    for model, sensors in (("conv", ("acc", "gyro")), ("conv-dw-hallucinated", ("acc",))):
        minute, others = minute_of_video(detector_spec(get_model(model), spec, 12), cost, 0.5)
        assert minute == {"backbone": sum(cost[f"backbone/{name}"] for name in sensors), "detector": 0.5}
        assert others == {}


# --- the command -------------------------------------------------------------------------------------------


def test_prepare_reads_a_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAL_BENCH_CACHE", str(tmp_path / "cache"))
    folder = write_text(tmp_path / "text", make_recordings())
    source = zipped(folder, tmp_path / "hapt.zip")
    assert main(["data", "prepare", "hapt", "--source", str(source)]) == 0
    out = capsys.readouterr().out
    assert "not video" in out
    assert "Reyes-Ortiz" in out
    assert "licence" not in out
    assert main(["data", "prepare", "sprites", "--source", str(source)]) == 2
    assert "has no source" in capsys.readouterr().err
    assert main(["data", "prepare", "hapt", "--source", str(tmp_path / "none.zip")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_prepare_reads_the_installed_package_with_a_licence_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prepare, "package_file", lambda: None)
    assert main(["data", "prepare", "hapt"]) == 2
    said = capsys.readouterr().err
    assert "--source" in said
    assert "tal-bench[hapt]" in said
    assert not os.path.lexists(tmp_path / "cache")
    monkeypatch.undo()

    monkeypatch.setenv("TAL_BENCH_CACHE", str(tmp_path / "cache"))
    installed = tmp_path / "site" / package.MODULE
    (installed / "res").mkdir(parents=True)
    (installed / "__init__.py").write_text("raise SystemExit('the package must not be imported')\n")
    write_package(installed / package.FILE, make_recordings())
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert main(["data", "prepare", "hapt"]) == 0
    out = capsys.readouterr().out
    assert "licence of these recordings is unclear" in out
    folder = next((tmp_path / "cache").glob("hapt-*"))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"] == "package"
    assert manifest["counts"]["validation"] == {"recordings": 2, "subjects": 2, "segments": 6}
