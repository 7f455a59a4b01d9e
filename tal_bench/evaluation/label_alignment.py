"""What the labels of a file mean, and video names that differ between detections and ground truth.

A label is the name of a class, or the `label_id` of one. Names win where they are known, ids are looked up
otherwise, and a file in which both readings fit and differ is refused until `--labels` says which is meant.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from tal_bench.config import brief
from tal_bench.errors import DataError
from tal_bench.evaluation.detection_table import abbreviate

VIDEO_SUFFIX = re.compile(r"\.(mp4|mkv|avi|webm|mov|m4v)$", re.IGNORECASE)
ID_TEXT = re.compile(r"\s*(-?\d{1,18})(\.0*)?\s*")
"""Text that can be a `label_id`."""
LabelReading = Literal["auto", "names", "ids"]
Label = str | int


@dataclass(frozen=True)
class Classes:
    """Classes of a ground truth file.

    Attributes:
        names: Their names, in all subsets.
        ids: `label_id` to the names that have it; one name, unless the file is inconsistent.
    """

    names: frozenset[str]
    ids: Mapping[int, tuple[str, ...]]

    @classmethod
    def of(cls, names: Iterable[str], ids: Iterable[tuple[int, str]]) -> Classes:
        """Return the classes of names and of pairs of `label_id` and name."""
        owners: dict[int, dict[str, None]] = {}
        for number, name in ids:
            owners.setdefault(number, {})[name] = None
        return cls(frozenset(names), {number: tuple(named) for number, named in owners.items()})


def align_labels(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    where: object = None,
    reading: LabelReading = "auto",
) -> pd.DataFrame:
    """Return detections whose labels are the class names of the ground truth, as `label_meanings` says.

    Labels without ground truth are kept, under some name that the ground truth does not have; `match` drops
    them.

    Raises:
        DataError: No detection has a label of the ground truth, or both readings fit.
    """
    if detections.empty:
        return detections
    names = ground_truth["label"].astype(str)
    classes = ground_truth.attrs.get("classes")
    if classes is None:
        ids = zip(ground_truth["label_id"], names, strict=True) if "label_id" in ground_truth else ()
        classes = Classes.of(names, ids)
    labels = detections["label"].unique().tolist()
    meaning = label_meanings(labels, classes, where, reading)
    aligned = detections.assign(label=[meaning[label] for label in detections["label"].tolist()])
    if not aligned["label"].isin(names).any():
        raise DataError(
            f"no detection has a label of the ground truth, the first has {brief(str(labels[0]))}",
            where=where,
            hint=f"the ground truth has {abbreviate(sorted(set(names)))}",
        )
    return aligned


def label_meanings(
    labels: Sequence[Label], classes: Classes, where: object = None, reading: LabelReading = "auto"
) -> dict[Label, str]:
    """Return the class name that each label of a file of detections means; all of them are read alike.

    Unknown labels get a name that no class has.

    Args:
        labels: Distinct labels: int where the file has a number, str where it has text.
        classes: Classes of the ground truth.
        where: File, for messages.
        reading: Whether labels are names or ids; `auto` to tell from the labels.

    Raises:
        DataError: Names and ids both fit and differ, or the ids of the ground truth are not unique.
    """
    alike = _by_key(classes.names, _plain)
    by_name = {label: name for label in labels if (name := _known(str(label), classes.names, alike, _plain))}
    numbers = {label: number for label in labels if (number := _number(label)) in classes.ids}
    if reading == "ids" and not classes.ids:
        raise DataError("labels are ids, and the ground truth has no label_id", where=where)
    if reading == "auto":
        reading = _reading(labels, by_name, numbers, classes, where)
    if reading == "names":
        return {label: by_name.get(label, str(label)) for label in labels}
    for number in numbers.values():
        if len(owners := classes.ids[number]) > 1:
            what = f"label_id {number} of the ground truth is both {brief(owners[0])} and {brief(owners[1])}"
            raise DataError(f"labels are ids, and {what}", where=where, hint="correct the annotations")
    return {
        label: classes.ids[numbers[label]][0] if label in numbers else f"label_id {label}\0"
        for label in labels
    }


def _reading(
    labels: Sequence[Label],
    by_name: Mapping[Label, str],
    numbers: Mapping[Label, int],
    classes: Classes,
    where: object,
) -> Literal["names", "ids"]:
    """Tell whether the labels of a file are names or ids."""
    differing = [label for label, number in numbers.items() if (by_name.get(label),) != classes.ids[number]]
    if not differing:
        return "names"
    if not by_name:
        return "ids"
    every_name, every_id = len(by_name) == len(labels), len(numbers) == len(labels)
    is_text = all(isinstance(label, str) for label in differing)  # what a program writes that means names
    if (every_name and (is_text or not every_id)) or (is_text and not every_id):
        return "names"
    if every_id and not every_name and not is_text:
        return "ids"
    label = differing[0]
    other = brief(classes.ids[numbers[label]][0])
    first = brief(next(iter(by_name)))
    named = "is the name of a class, too" if label in by_name else f"stands beside the name {first}"
    raise DataError(
        f"labels fit as names and as ids: {label} is the label_id of {other} and {named}",
        where=where,
        hint="say which with --labels names or --labels ids",
    )


def _by_key(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for name in names:
        owners.setdefault(key(name), []).append(name)
    return owners


def _known(
    name: str, known: Collection[str], by_key: Mapping[str, Sequence[str]], key: Callable[[str], str]
) -> str | None:
    """Return the name if it is known; else the only known name of the same key, or None."""
    if name in known:
        return name
    alike = by_key.get(key(name), ())
    return alike[0] if len(alike) == 1 else None


def _plain(text: str) -> str:
    """Return a name without what a program may change in writing it: spaces at the ends and Unicode form."""
    return unicodedata.normalize("NFC", text).strip()


def _number(label: Label) -> int:
    """Return the `label_id` that a label can be; -1 << 64, which no class has, for other text."""
    if isinstance(label, int):
        return label
    match = ID_TEXT.fullmatch(label)
    return int(match[1]) if match else -1 << 64


def align_videos(detections: pd.DataFrame, videos: Sequence[str], where: object = None) -> pd.DataFrame:
    """Return detections with the video names of the ground truth.

    An unknown name stands for the only one that differs in spaces at its ends. If no name is known then,
    names are compared without file suffixes (`.mp4`) and ActivityNet's prefix `v_`, which only some programs
    write.

    Raises:
        DataError: No detection is in any of the videos.
    """
    if detections.empty:
        return detections
    names = detections["video"]
    for key in (_plain, _stem):
        renamed = _renamed(names, videos, key)
        if renamed.isin(videos).any():
            return detections.assign(video=renamed)
    raise DataError(
        f"no detection is in a video of the ground truth, the first is in {brief(names.iloc[0])}",
        where=where,
        hint=f"the ground truth has {abbreviate(list(videos))}; see --subset",
    )


def _renamed(names: pd.Series[str], known: Sequence[str], key: Callable[[str], str]) -> pd.Series[str]:
    """Replace unknown names by the only known name of the same key."""
    exact, by_key = set(known), _by_key(known, key)
    return names.map({name: _known(name, exact, by_key, key) or name for name in names.unique()})


def _stem(name: str) -> str:
    return VIDEO_SUFFIX.sub("", _plain(name)).removeprefix("v_")
