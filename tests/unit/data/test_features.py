from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import small_dataset

from tal_bench.config import DatasetSpec, ModalitySpec, parse_spec
from tal_bench.data.features import load_array, read_features
from tal_bench.errors import DataError, InputError


def _spec(folder: Path, **changes: object) -> DatasetSpec:
    modality = {"role": "primary", "folder": folder, "channels": 3} | changes
    return DatasetSpec(
        name="x",
        annotations=folder / "a.json",
        modalities={"rgb": ModalitySpec.model_validate(modality)},
        stride=4,
        window=16,
    )


VALUES = np.arange(15, dtype=np.float32).reshape(5, 3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
def test_every_type_reads_the_same(tmp_path: Path, dtype: str, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    if suffix == ".npy":
        np.save(path, VALUES.astype(dtype))
    elif suffix == ".npz":
        np.savez(path, whatever=VALUES.astype(dtype))
    else:
        torch.save(torch.from_numpy(VALUES.astype(dtype)), path)
    got = read_features(_spec(tmp_path, suffix=suffix), "v", ["rgb"])["rgb"]
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, VALUES)


def test_bfloat16_and_a_dictionary(tmp_path: Path) -> None:
    torch.save({"feats": torch.from_numpy(VALUES).bfloat16(), "fps": torch.tensor(3)}, tmp_path / "v.pt")
    got = read_features(_spec(tmp_path, suffix=".pt"), "v", ["rgb"])["rgb"]
    np.testing.assert_array_equal(got, VALUES)


def test_prefix_and_suffix(tmp_path: Path) -> None:
    np.save(tmp_path / "v_one_rgb.npy", VALUES)
    got = read_features(_spec(tmp_path, prefix="v_", suffix="_rgb.npy"), "one", ["rgb"])
    np.testing.assert_array_equal(got["rgb"], VALUES)


def test_shared_file_is_split_into_streams(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VALUES)
    spec = _spec(tmp_path, channels=1, columns=(0, 1))
    flow = ModalitySpec(role="privileged", folder=tmp_path, channels=2, columns=(1, 3))
    spec = spec.model_copy(update={"modalities": {**spec.modalities, "flow": flow}})
    got = read_features(spec, "v", ["rgb", "flow"])
    np.testing.assert_array_equal(got["rgb"], VALUES[:, :1])
    np.testing.assert_array_equal(got["flow"], VALUES[:, 1:])
    assert list(read_features(spec, "v", ["flow"])) == ["flow"]


def test_columns_must_be_as_wide_as_the_stream() -> None:
    with pytest.raises(InputError, match=r"columns \[0, 4\] are not 3 channels wide"):
        parse_spec(
            ModalitySpec, {"role": "primary", "folder": "f", "channels": 3, "columns": [0, 4]}, where="y"
        )


@pytest.mark.parametrize("short", [0, 1, 2, 3])
def test_streams_are_cut_to_the_shortest_within_two_steps(tmp_path: Path, short: int) -> None:
    spec = small_dataset(tmp_path)
    path = tmp_path / "flow" / "v00.npy"
    flow = np.load(path)
    np.save(path, flow[: len(flow) - short])
    if short > 2:
        with pytest.raises(DataError, match=r"streams differ in length \(rgb \d+, flow \d+ steps\)"):
            read_features(spec, "v00", ["rgb", "flow"])
        return
    got = read_features(spec, "v00", ["rgb", "flow"])
    assert len(got["rgb"]) == len(got["flow"]) == len(flow) - short
    assert len(read_features(spec, "v00", ["rgb"])["rgb"]) == len(flow)


def _save(value: object) -> object:
    return lambda path: np.save(path, value)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (None, "missing feature file"),
        (Path.touch, "empty file"),
        (lambda path: path.write_bytes(b"not numpy at all"), "truncated or not a .npy file"),
        (lambda path: (np.save(path, VALUES), os.truncate(path, 150)), "truncated or not a .npy file"),
        (_save(np.array([{"a": 1}], dtype=object)), "refused: a pickle of Python objects"),
        (_save(VALUES.astype(np.int32)), "dtype int32"),
        (_save(VALUES[0]), r"shape \[3\], expected \[T, 3\]"),
        (_save(VALUES[:0]), "no time steps"),
        (_save(VALUES.T.copy()), "5 channels, expected 3; it looks transposed"),
        (_save(np.where(VALUES == 7, np.nan, VALUES)), "1 NaN or infinite value, first at step 2, channel 1"),
        (_save(np.where(VALUES > 12, np.inf, VALUES)), "2 NaN or infinite values"),
    ],
)
def test_bad_files_are_one_line_errors(tmp_path: Path, write: object, message: str) -> None:
    path = tmp_path / "v.npy"
    if callable(write):
        write(path)
    with pytest.raises(DataError, match=message) as caught:
        read_features(_spec(tmp_path), "v", ["rgb"])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tal-bench data check FILE.yaml"):
        read_features(_spec(tmp_path), "v", ["rgb"])
    with pytest.raises(DataError, match=r"tal-bench data check thumos14"):
        read_features(_spec(tmp_path).model_copy(update={"name": "thumos14"}), "v", ["rgb"])


def test_large_finite_values_are_accepted(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.full((5, 3), 3e38, dtype=np.float32))
    assert read_features(_spec(tmp_path), "v", ["rgb"])["rgb"].shape == (5, 3)


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (os.environ["BOMB"],))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    np.save(tmp_path / "v.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "v.npz", np.array([Bomb()], dtype=object))
    torch.save(Bomb(), tmp_path / "v.pt")
    for suffix in (".npy", ".npz", ".pt"):
        with pytest.raises(DataError):
            read_features(_spec(tmp_path, suffix=suffix), "v", ["rgb"])
    assert not (tmp_path / "exploded").exists()


def test_archive_with_several_arrays_needs_a_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", rgb=VALUES, other=VALUES + 1)
    got = read_features(_spec(tmp_path, suffix=".npz"), "v", ["rgb"])["rgb"]
    np.testing.assert_array_equal(got, VALUES)
    np.savez(tmp_path / "v.npz", one=VALUES, two=VALUES)
    with pytest.raises(DataError, match=r"contains 2 arrays \(one, two\)"):
        read_features(_spec(tmp_path, suffix=".npz"), "v", ["rgb"])


def test_a_header_that_python_2_wrote_is_read_without_a_remark(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (12L, 6L), }".ljust(117) + b"\n"
    values = np.arange(72, dtype=np.float32)
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values.tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_array(file)
    assert np.array_equal(found, values.reshape(12, 6))
