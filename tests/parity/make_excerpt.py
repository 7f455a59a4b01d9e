"""Cut a folder of fixtures down to the committed excerpt: python tests/parity/make_excerpt.py FOLDER.

Fixtures of average precision are cut to a few classes, those of suppression to small inputs, and networks to
one video and the training batch, and those of published distillation losses to small cases in float64.
Fixtures of distillation and training are left out, because their weights are too large.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

EXCERPT = Path(__file__).parent / "excerpt"
CLASSES = 4
INPUTS = ("5", "50")
NETWORKS = ("af_win19_T144_thresh", "tridet_T160")
NETWORK_CASES = ("short",)
LARGE_GRADIENT = 200
LOSS_CASES = ("auto_weight/empty_one",)
LARGEST_KD_CASE = 17_000
"""Bytes of a case of a distillation loss; cases with padding may be larger."""
KD_KEYS = ("name", "set", "method", "source", "formula", "tolerances", "cases")
PER_CLASS = {
    "ap_per_class_unknown_labels_dropped": 1,
    "recall_per_class": 2,
    "class_label_ids": 0,
}


def cut_map(source: Path, name: str) -> None:
    """Keep the first classes of a mAP fixture, and every detection whose label has no ground truth."""
    meta = json.loads((source / f"{name}.json").read_text())
    tensors = load_file(source / f"{name}.safetensors")
    kept = set(tensors["class_label_ids"][:CLASSES].tolist())
    foreign = set(tensors["pred/labels"].tolist()) - set(tensors["class_label_ids"].tolist())
    arrays = {key: np.take(tensors[key], range(CLASSES), axis=axis) for key, axis in PER_CLASS.items()}
    arrays["tiou"] = tensors["tiou"]
    arrays["mAP_unknown_labels_dropped"] = arrays["ap_per_class_unknown_labels_dropped"].mean(axis=1)
    arrays["mRecall"] = arrays["recall_per_class"].mean(axis=2)

    truth = json.loads((source / meta["gt_json"]).read_text())
    for entry in truth["database"].values():
        entry["annotations"] = [one for one in entry["annotations"] if one["label_id"] in kept]
    (EXCERPT / meta["gt_json"]).write_text(json.dumps(truth, separators=(",", ":")))
    table = pd.read_csv(source / meta["pred_csv"], dtype=str)
    table = table[table["label"].astype(int).isin(kept | foreign)]
    table.to_csv(EXCERPT / meta["pred_csv"], index=False)

    keep = (
        "name",
        "set",
        "implementation",
        "upstream_commit",
        "note",
        "gt_json",
        "pred_csv",
        "split",
        "top_k",
    )
    write(name, {key: meta[key] for key in keep}, arrays)


def cut_nms(source: Path, name: str) -> None:
    """Keep the small inputs of a suppression fixture, or all of it if each case has its own input."""
    meta = json.loads((source / f"{name}.json").read_text())
    tensors = load_file(source / f"{name}.safetensors")
    if "inputs" in meta:
        small = re.compile(rf"/({'|'.join(INPUTS)})/")
        tensors = {key: array for key, array in tensors.items() if small.search(key)}
        meta["cases"] = {key: case for key, case in meta["cases"].items() if small.search(key)}
        meta["inputs"] = {key: given for key, given in meta["inputs"].items() if key in INPUTS}
    write(name, {key: value for key, value in meta.items() if key != "semantics"}, tensors)


def cut_network(source: Path, name: str) -> None:
    """Keep one video and the training batch, without intermediate features and most gradients."""
    meta = json.loads((source / f"{name}.json").read_text())
    between = r"backbone_feat|fpn_feat|(offsets|start|end)_f64"
    raw = "|train/(offsets|start|end)" if meta["model_kwargs"].get("use_trident_head") else ""
    dropped = re.compile(rf"({between}{raw})/")
    tensors = {
        key: array
        for key, array in load_file(source / f"{name}.safetensors").items()
        if not dropped.search(key)
        and not (key.startswith("grad/") and array.size > LARGE_GRADIENT)
        and not (key.startswith("eval/") and key.split("/")[1] not in NETWORK_CASES)
    }
    meta["eval"] = {case: meta["eval"][case] for case in NETWORK_CASES}
    meta["train"]["gradients_cut"] = True
    meta["train"].pop("grad_norms", None)
    write(name, {key: value for key, value in meta.items() if key != "semantics"}, tensors)


def cut_losses(source: Path, name: str) -> None:
    """Keep a few cases."""
    meta = json.loads((source / f"{name}.json").read_text())
    tensors = load_file(source / f"{name}.safetensors")
    kept = {key: array for key, array in tensors.items() if key.startswith(LOSS_CASES)}
    meta["cases"] = {case: meta["cases"][case] for case in LOSS_CASES}
    write(name, meta, kept)


def cut_kd(source: Path, name: str) -> None:
    """Keep the small cases and those with padding, without what the original gave in float32."""
    meta = json.loads((source / f"{name}.json").read_text())
    tensors = load_file(source / f"{name}.safetensors")
    kept: dict[str, np.ndarray[Any, Any]] = {}
    for case in list(meta["cases"]):
        ours = {
            key: array
            for key, array in tensors.items()
            if key.startswith(f"{case}/") and key.split("/")[1] not in ("out", "grad")
        }
        if case.startswith("masked") or sum(array.nbytes for array in ours.values()) <= LARGEST_KD_CASE:
            kept |= ours
        else:
            del meta["cases"][case]
    write(name, {key: meta[key] for key in KD_KEYS}, kept)


def write(name: str, meta: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    """Write a fixture in the format of the source."""
    meta.pop("tensors", None)
    (EXCERPT / f"{name}.json").write_text(json.dumps(meta, separators=(",", ":")))
    if not arrays:
        return
    contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    save_file(contiguous, EXCERPT / f"{name}.safetensors")
    (EXCERPT / f"{name}.safetensors").chmod(0o644)


def main() -> None:
    """Cut every fixture of a supported kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    source = parser.parse_args().folder
    EXCERPT.mkdir(exist_ok=True)
    for path in sorted(source.glob("*.json")):
        meta = json.loads(path.read_text())
        if path.stem.endswith("_INFORMATIONAL"):
            continue
        if "formula" in meta:
            cut_kd(source, path.stem)
        elif "gt_json" in meta:
            cut_map(source, path.stem)
        elif path.stem in NETWORKS:
            cut_network(source, path.stem)
        elif "cases" in meta and "regression_range" in meta:
            cut_losses(source, path.stem)
        elif "state_dict_shapes" in meta:
            write(path.stem, meta, {})
        elif "params" in meta or (isinstance(meta.get("cases"), dict) and "regression_range" not in meta):
            cut_nms(source, path.stem)


if __name__ == "__main__":
    main()
