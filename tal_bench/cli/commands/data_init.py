"""`tal-bench data init`: a dataset file to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tal_bench.cli.options import PluginOption
from tal_bench.errors import InputError

OWN = """\
# A dataset of your own. Paths are relative to this file. Then:
#     tal-bench data check {file}
#     tal-bench ablate --dataset {file} --variant all --budget smoke
name: mine                            # as tables show it
annotations: annotations.json         # database: video: subset, duration, fps, annotations
modalities:                           # any names, any number; one file [T, channels] per video and stream
  rgb: {{role: primary, folder: rgb, channels: 1024}}       # what students see
  flow: {{role: privileged, folder: flow, channels: 1024}}  # what only teachers see, if there is any
stride: 4                             # frames from feature to feature; 0 = a file covers its video evenly
window: 16                            # frames under one feature
train: [training]                     # subsets in the annotations, whatever their case
test: [test]
max_length: 2304                      # steps that training pads or crops to, a multiple of 32
size: full                            # full: published networks and recipes; small: for a few hours of video

# Files of a stream: <folder>/<prefix><video><suffix>; .npy, .npz and .pt are read, pickles are not.
#   prefix: v_                        suffix: .npz
#   columns: [0, 1024]                when streams share a file
#   also: [more_features]             files of the same name in further folders, put behind channel by channel
#   nonnegative: true                 features after a ReLU, as I3D's
# Time:
# fps: 30                             # where the annotations have none, or another
# offset: 0                           # frame at which the first feature begins
# downsample: 2                       # keep every n-th feature
# resize: 192                         # interpolate every video to so many steps, as on ActivityNet
# Videos:
# missing: skip                       # go on without videos that have no features; results name them
# exclude: [video_7]
# ignore_labels: [Ambiguous]
# classes: 300                        # where label_id leaves gaps
# groups: "subject(\\\\d+)"              # part of a video's name that no split may cut
# group_field: subject                # or a field of its entry in the annotations
# folds: 5                            # cross-validation over train and test, whole groups at a time
# fold: 0                             # the part tested on
# Results:
# tiou: [0.3, 0.4, 0.5, 0.6, 0.7]
# ap_method: activitynet              # or thumos, the development kit's own
# recall: [1, 5]                      # Recall@kx beside
# scores: video_scores.json           # classes of whole videos; detectors then learn one class
# Settings that differ from the published defaults, for all models or for one structure:
# training: {{epochs: 30, lr: 1.0e-4, label_smoothing: 0.1}}
# decoding: {{nms_sigma: 0.5, max_detections: 200}}
# detector: {{width: 512, attention_window: 19}}
# models: {{tridet: {{training: {{epochs: 20}}}}}}
"""

PRESET = """\
# {summary}
# Expected in the folder:
{expected}
# Anything else that a dataset file can say goes below and changes the preset, see docs/datasets.md.
preset: {name}
folder: {folder}{space}# where the data lie, relative to this file
"""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="What to write.")] = Path("dataset.yaml"),
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Begin with a registered dataset, see data list.")
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Write a commented dataset file for your own data, or for a known dataset that lies elsewhere."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        hint = "give a .yaml file"
        raise InputError(f"'{file.suffix}' is no ending of a dataset file", where=file, hint=hint)
    text = OWN.format(file=file) if preset is None else _preset(preset, plugin)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise InputError("exists already", where=file, hint="give another name") from None
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=file) from None
    typer.echo(f"{file}: fill it in, then: tal-bench data check {file}")


def _preset(name: str, plugin: list[Path] | None) -> str:
    from tal_bench.data.registry import datasets
    from tal_bench.plugins import load_plugins

    load_plugins(plugin or ())
    entry = datasets.get(name)
    if entry.prepare is not None:
        hint = f"use it by its name: --dataset {name}"
        raise InputError(f"'{name}' is made by the package and needs no file", where="--preset", hint=hint)
    folder = f"data/{entry.folders[0]}" if entry.folders[0] != "." else "data"
    return PRESET.format(
        name=name,
        summary=entry.summary,
        expected="\n".join(f"#   {line}" for line in entry.files),
        folder=folder,
        space=" " * max(2, 30 - len(folder)),
    )
