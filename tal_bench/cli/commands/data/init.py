"""The command `data init`: a commented dataset file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tal_bench.cli.options import PluginOption
from tal_bench.errors import InputError

OWN = """\
# Description of your dataset. Paths are relative to this file. Next:
#     tal-bench data check {file}
#     tal-bench ablate --dataset {file} --variant all --budget smoke
name: mine                            # name in tables
annotations: annotations.json         # "database": video to subset, duration, fps, annotations
modalities:                           # any names and number; one file [T, channels] per video and stream
  rgb: {{role: primary, folder: rgb, channels: 1024}}       # read by students and teachers
  flow: {{role: privileged, folder: flow, channels: 1024}}  # optional, read only by teachers
stride: 4                             # frames from one feature to the next; 0: spread evenly over the video
window: 16                            # frames per feature
train: [training]                     # subsets of the annotations, case-insensitive
test: [test]
max_length: 2304                      # steps to which training pads or crops, a multiple of 32
size: full                            # full: published networks and recipes; small: for a few hours of video

# Files of a stream: <folder>/<prefix><video><suffix>; .npy, .npz and .pt are read, pickles are not.
#   prefix: v_                        suffix: .npz
#   columns: [0, 1024]                columns of the stream, if streams share files
#   also: [more_features]             further folders, whose files of the same name are concatenated
#   nonnegative: true                 features after a ReLU, such as I3D
# Time:
# fps: 30                             # overrides the annotations
# offset: 0                           # first frame of the first feature
# downsample: 2                       # keep every second feature
# resize: 192                         # interpolate every video to this number of steps, as on ActivityNet
# Videos:
# missing: skip                       # skip videos without features; results name them
# exclude: [video_7]
# ignore_labels: [Ambiguous]
# classes: 300                        # number of classes, if label_id has gaps
# groups: "subject(\\\\d+)"              # part of the video's name; no split separates videos of a group
# group_field: subject                # or a field of the video in the annotations
# folds: 5                            # cross-validation over train and test, by group
# fold: 0                             # fold to test on
# Results:
# tiou: [0.3, 0.4, 0.5, 0.6, 0.7]
# ap_method: activitynet              # or thumos, that of the THUMOS14 development kit
# recall: [1, 5]                      # report Recall@kx, too
# scores: video_scores.json           # classes of whole videos; detectors then learn a single class
# Settings other than the published defaults, for all models or for one structure:
# training: {{epochs: 30, lr: 1.0e-4, label_smoothing: 0.1}}
# decoding: {{nms_sigma: 0.5, max_detections: 200}}
# detector: {{width: 512, attention_window: 19}}
# models: {{tridet: {{training: {{epochs: 20}}}}}}
"""

PRESET = """\
# {summary}
# Expected in the folder:
{expected}
# Keys below override the preset, see docs/datasets.md.
preset: {name}
folder: {folder}{space}# folder of the data, relative to this file
"""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="File to write.")] = Path("dataset.yaml"),
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Registered dataset to start from, see tal-bench data list."),
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Write a commented dataset file for your own data, or for a registered dataset in another folder."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        hint = "give a .yaml file"
        raise InputError(f"'{file.suffix}' is not the suffix of a dataset file", where=file, hint=hint)
    text = OWN.format(file=file) if preset is None else _preset(preset, plugin)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise InputError("already exists", where=file, hint="give another name") from None
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=file) from None
    typer.echo(f"{file}: edit it, then run: tal-bench data check {file}")


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
