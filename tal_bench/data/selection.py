"""Selection of the training and test videos of a dataset, and of the videos held out for validation."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest

from tal_bench.config import DatasetSpec
from tal_bench.data.annotations import AnnotatedVideo, Annotations
from tal_bench.data.features import feature_paths
from tal_bench.errors import DataError


@dataclass(frozen=True, slots=True)
class Selection:
    """Selected videos of a dataset.

    Attributes:
        training: Training videos, in file order.
        test: Test videos, in file order.
        groups: Group of each video, which no split divides; without groups, the video's id.
        skipped: Reason for each listed video that is left out.
    """

    training: list[AnnotatedVideo]
    test: list[AnnotatedVideo]
    groups: dict[str, str]
    skipped: dict[str, str] = field(default_factory=dict)


def select(
    spec: DatasetSpec, annotations: Annotations, scored: Mapping[str, object] | None = None
) -> Selection:
    """Select the training and test videos of a dataset.

    Args:
        spec: Dataset.
        annotations: Annotations of the dataset.
        scored: External scores by video; None if the dataset has no such file.

    Raises:
        DataError: A subset is empty, a video or a group is in both splits, a video has no group, or a test
            video has no external scores and the spec does not skip such videos.
    """
    training, test = _subsets(spec, annotations)
    skipped = dict.fromkeys(spec.exclude, "excluded")
    if spec.missing == "skip":
        for video in {v.id: v for v in (*training, *test)}:
            if absent := [name for name in spec.modalities if not _exists(spec, name, video)]:
                skipped.setdefault(video, f"no {' and '.join(absent)} features")
    without = [v.id for v in test if scored is not None and v.id not in scored and v.id not in skipped]
    if without and spec.missing == "error":
        problem = f"{len(without)} of {len(test)} test videos have no external scores, first '{without[0]}'"
        raise DataError(problem, where=spec.scores, hint="add them to 'exclude', or set 'missing: skip'")
    skipped.update(dict.fromkeys(without, "no external scores"))
    listed = {v.id for v in (*training, *test)}
    selection = Selection(
        [v for v in training if v.id not in skipped],
        [v for v in test if v.id not in skipped],
        {v.id: group_of(spec, v) for v in (*training, *test)},
        {video: reason for video, reason in skipped.items() if video in listed},
    )
    for part, videos in (("training", selection.training), ("test", selection.test)):
        if not videos:
            reasons = ", ".join(sorted(set(selection.skipped.values())))
            raise DataError(
                f"no {part} videos are left", where=f"dataset '{spec.name}'", hint=f"left out: {reasons}"
            )
    _check_disjoint(spec, selection)
    return selection


def limited(spec: DatasetSpec, selection: Selection, limit: int) -> Selection:
    """Keep at most ``limit`` training videos, and as many test videos.

    Those with segments come first, taken in turn from all groups so that a few videos cover several of them,
    and in turn from the validation subsets and the other training videos.
    """
    wanted = {name.casefold() for name in spec.validation}
    held_out = [v for v in selection.training if v.subset.casefold() in wanted]
    others = [v for v in selection.training if v.subset.casefold() not in wanted]
    groups = selection.groups
    in_turn = _alternating([_by_group(others, groups), _by_group(held_out, groups)])
    return replace(
        selection,
        training=_first(selection.training, in_turn, limit),
        test=_first(selection.test, _by_group(selection.test, groups), limit),
    )


def _first(videos: list[AnnotatedVideo], in_turn: list[AnnotatedVideo], limit: int) -> list[AnnotatedVideo]:
    """Return the first videos in an order, those with segments before all others; in file order."""
    kept = {video.id for video in sorted(in_turn, key=lambda video: not len(video.labels))[:limit]}
    return [video for video in videos if video.id in kept]


def _by_group(videos: list[AnnotatedVideo], groups: Mapping[str, str]) -> list[AnnotatedVideo]:
    members: dict[str, list[AnnotatedVideo]] = {}
    for video in videos:
        members.setdefault(groups[video.id], []).append(video)
    return _alternating(list(members.values()))


def _alternating(lists: Sequence[Sequence[AnnotatedVideo]]) -> list[AnnotatedVideo]:
    return [v for v in chain.from_iterable(zip_longest(*lists)) if v is not None]


def _subsets(
    spec: DatasetSpec, annotations: Annotations
) -> tuple[list[AnnotatedVideo], list[AnnotatedVideo]]:
    """Return training and test videos, by subset or by fold."""
    if spec.folds is None:
        return annotations.in_subsets(spec.train), annotations.in_subsets(spec.test)
    videos = annotations.in_subsets((*spec.train, *spec.test))
    folds = assign_folds({v.id: group_of(spec, v) for v in videos}, spec.folds)
    return [v for v in videos if folds[v.id] != spec.fold], [v for v in videos if folds[v.id] == spec.fold]


def _exists(spec: DatasetSpec, name: str, video: str) -> bool:
    return all(path.is_file() for path in feature_paths(spec.modalities[name], video))


def _check_disjoint(spec: DatasetSpec, selection: Selection) -> None:
    where = f"dataset '{spec.name}'"
    both = {v.id for v in selection.training} & {v.id for v in selection.test}
    if both:
        raise DataError(
            f"{len(both)} videos are in both training and test, first '{min(both)}'",
            where=where,
            hint="'train' and 'test' must name different subsets",
        )
    groups = selection.groups
    shared = {groups[v.id] for v in selection.training} & {groups[v.id] for v in selection.test}
    if shared:
        raise DataError(
            f"{len(shared)} groups are in both training and test, first '{min(shared)}'",
            where=where,
            hint="set 'folds' to divide the videos by group, or correct the subsets",
        )


def group_of(spec: DatasetSpec, video: AnnotatedVideo) -> str:
    """Return the group of a video, such as its subject or camera, which no split divides.

    Raises:
        DataError: The video's id or group field has no match.
    """
    if not spec.groups and not spec.group_field:
        return video.id
    text = video.group if spec.group_field else video.id
    match = re.search(spec.groups, text) if spec.groups else None
    group = (match[1] or "") if match else "" if spec.groups else text
    if not group:
        reason = (
            f"field '{spec.group_field}' is '{text}'"
            if spec.group_field
            else f"the id does not match '{spec.groups}'"
        )
        raise DataError(f"no group: {reason}", where=f"dataset '{spec.name}', video '{video.id}'")
    return group


def assign_folds(groups: Mapping[str, str], folds: int) -> dict[str, int]:
    """Assign each video to a fold, keeping groups together and the numbers of videos as equal as possible.

    The result depends on the names of videos and groups, not on their order: groups, sorted by decreasing
    size and then by the hash of their name, are added one by one to the fold with the fewest videos.

    Args:
        groups: Group of each video.
        folds: Number of folds.

    Returns:
        Index of the fold of each video.

    Raises:
        DataError: There are fewer groups than folds.
    """
    members: dict[str, list[str]] = {}
    for video, group in groups.items():
        members.setdefault(group, []).append(video)
    if len(members) < folds:
        raise DataError(f"{len(members)} groups of videos are too few for {folds} folds")
    ranked = sorted(members, key=lambda g: (-len(members[g]), name_hash("fold", g)))
    sizes = [0] * folds
    assigned: dict[str, int] = {}
    for group in ranked:
        fold = sizes.index(min(sizes))
        sizes[fold] += len(members[group])
        assigned.update(dict.fromkeys(members[group], fold))
    return assigned


def held_out_ids(
    spec: DatasetSpec, training: Sequence[AnnotatedVideo], groups: Mapping[str, str]
) -> frozenset[str]:
    """Return the training videos held out for tuning: those of the validation subsets, or a share of all.

    Raises:
        DataError: No videos or all videos would be held out.
    """
    where = f"dataset '{spec.name}'"
    if not spec.validation:
        return validation_ids([v.id for v in training], spec.validation_fraction, groups, where)
    wanted = {name.casefold() for name in spec.validation}
    chosen = frozenset(v.id for v in training if v.subset.casefold() in wanted)
    if not 0 < len(chosen) < len(training):
        raise DataError(
            f"{len(chosen)} of {len(training)} training videos are in subset {' or '.join(spec.validation)}",
            where=where,
            hint="change the subsets in 'validation', or remove it to hold out a share",
        )
    return chosen


def validation_ids(
    ids: Sequence[str], fraction: float, groups: Mapping[str, str] | None = None, where: object = None
) -> frozenset[str]:
    """Choose the share of the training videos that is held out for tuning.

    The choice depends on the set of names only, neither on their order nor on any seed, so that every run on
    a dataset is validated on the same videos. Groups are ranked by the hash of their name, and the first ones
    are chosen such that their videos come closest to ``fraction``: at least one group, and not all of them.

    Args:
        ids: Ids of the training videos.
        fraction: Share of the videos to hold out.
        groups: Group of each video; None = every video is its own group.
        where: Dataset, for messages.

    Raises:
        DataError: There are fewer than two videos or groups.
    """
    members: dict[str, list[str]] = {}
    for video in ids:
        members.setdefault(groups[video] if groups else video, []).append(video)
    if len(members) < 2:
        few = f"{len(ids)} training video" if len(ids) < 2 else "only one group of training videos"
        raise DataError(
            f"{few}, cannot hold out a validation part", where=where, hint="at least 2 are needed"
        )
    ranked = sorted(members, key=lambda group: name_hash("validation", group))
    wanted = round(len(ids) * fraction)
    best, chosen, total = float("inf"), 1, 0
    for count, group in enumerate(ranked[:-1], start=1):
        total += len(members[group])
        if abs(total - wanted) < best:
            best, chosen = abs(total - wanted), count
    return frozenset(video for group in ranked[:chosen] for video in members[group])


def name_hash(purpose: str, name: str) -> bytes:
    """Return a hash of a name and a purpose, to rank names independent of their order."""
    return hashlib.sha256(f"{purpose}/{name}".encode()).digest()
