"""Which videos of a dataset are trained on and tested on, and which are left out and why."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tal_bench.config import DatasetSpec
from tal_bench.data.annotations import AnnotatedVideo, Annotations
from tal_bench.data.features import feature_paths
from tal_bench.errors import DataError


@dataclass(frozen=True, slots=True)
class Selection:
    """Videos of a dataset.

    Attributes:
        training: in file order.
        test: in file order.
        groups: video to the group that no split may cut; itself where there are none.
        skipped: video to the reason why it is left out although the file lists it.
    """

    training: list[AnnotatedVideo]
    test: list[AnnotatedVideo]
    groups: dict[str, str]
    skipped: dict[str, str] = field(default_factory=dict)


def select(
    spec: DatasetSpec, annotations: Annotations, scored: Mapping[str, object] | None = None
) -> Selection:
    """Choose the videos that a dataset's spec asks for.

    Args:
        spec: the dataset.
        annotations: as read for it.
        scored: videos with external scores, where the dataset has such a file.

    Raises:
        DataError: a subset is empty, a video or a group is in both splits, an id has no group, or, unless
            they may be skipped, test videos have no external scores.
    """
    training, test = _subsets(spec, annotations)
    skipped = dict.fromkeys(spec.exclude, "excluded")
    if spec.missing == "skip":
        for video in {v.id: v for v in (*training, *test)}:
            if absent := [name for name in spec.modalities if not _there(spec, name, video)]:
                skipped.setdefault(video, f"no {' and '.join(absent)} features")
    without = [v.id for v in test if scored is not None and v.id not in scored and v.id not in skipped]
    if without and spec.missing == "error":
        first = f"{len(without)} of {len(test)} test videos have no external scores, '{without[0]}' first"
        raise DataError(first, where=spec.scores, hint="list them in 'exclude', or set 'missing: skip'")
    skipped.update(dict.fromkeys(without, "no external scores"))
    known = {v.id for v in (*training, *test)}
    chosen = Selection(
        [v for v in training if v.id not in skipped],
        [v for v in test if v.id not in skipped],
        {v.id: group_of(spec, v) for v in (*training, *test)},
        {video: why for video, why in skipped.items() if video in known},
    )
    for part, videos in (("training", chosen.training), ("test", chosen.test)):
        if not videos:
            reasons = ", ".join(sorted(set(chosen.skipped.values())))
            raise DataError(
                f"no {part} video is left", where=f"dataset '{spec.name}'", hint=f"left out: {reasons}"
            )
    _check_apart(spec, chosen)
    return chosen


def _subsets(
    spec: DatasetSpec, annotations: Annotations
) -> tuple[list[AnnotatedVideo], list[AnnotatedVideo]]:
    """Training and test videos by subset, or by fold."""
    if spec.folds is None:
        return annotations.of(spec.train), annotations.of(spec.test)
    videos = annotations.of((*spec.train, *spec.test))
    at = fold_of({v.id: group_of(spec, v) for v in videos}, spec.folds)
    return [v for v in videos if at[v.id] != spec.fold], [v for v in videos if at[v.id] == spec.fold]


def _there(spec: DatasetSpec, name: str, video: str) -> bool:
    return all(path.is_file() for path in feature_paths(spec.modalities[name], video))


def _check_apart(spec: DatasetSpec, chosen: Selection) -> None:
    where = f"dataset '{spec.name}'"
    both = {v.id for v in chosen.training} & {v.id for v in chosen.test}
    if both:
        raise DataError(
            f"{len(both)} videos are trained and tested on, '{min(both)}' first",
            where=where,
            hint="'train' and 'test' must name different subsets",
        )
    cut = {chosen.groups[v.id] for v in chosen.training} & {chosen.groups[v.id] for v in chosen.test}
    if cut:
        raise DataError(
            f"{len(cut)} groups are trained and tested on, '{min(cut)}' first",
            where=where,
            hint="give 'folds' to divide the videos by group, or mend the subsets",
        )


def group_of(spec: DatasetSpec, video: AnnotatedVideo) -> str:
    """What of a video no split may cut: its subject, its camera, or only itself.

    Raises:
        DataError: its id, or the field that says it, has no such part.
    """
    if not spec.groups and not spec.group_field:
        return video.id
    text = video.group if spec.group_field else video.id
    found = re.search(spec.groups, text) if spec.groups else None
    group = (found[1] or "") if found else "" if spec.groups else text
    if not group:
        told = (
            f"its '{spec.group_field}' is '{text}'"
            if spec.group_field
            else f"it does not match '{spec.groups}'"
        )
        raise DataError(f"no group: {told}", where=f"dataset '{spec.name}', video '{video.id}'")
    return group


def fold_of(groups: Mapping[str, str], folds: int) -> dict[str, int]:
    """Divide videos into folds of whole groups, as even in videos as groups allow.

    The division depends on the names alone, not on their order: groups, the largest first and equals in the
    order of their names' hashes, go to the fold with the fewest videos.

    Args:
        groups: video to group.
        folds: their number.

    Raises:
        DataError: fewer groups than folds.
    """
    members: dict[str, list[str]] = {}
    for video, group in groups.items():
        members.setdefault(group, []).append(video)
    if len(members) < folds:
        raise DataError(f"{len(members)} groups of videos cannot be divided into {folds} folds")
    ranked = sorted(members, key=lambda g: (-len(members[g]), hashed("fold", g)))
    sizes = [0] * folds
    at: dict[str, int] = {}
    for group in ranked:
        fold = sizes.index(min(sizes))
        sizes[fold] += len(members[group])
        at.update(dict.fromkeys(members[group], fold))
    return at


def held_out_ids(
    spec: DatasetSpec, training: Sequence[AnnotatedVideo], groups: Mapping[str, str]
) -> frozenset[str]:
    """Training videos that tuning holds out: those of the subsets named for it, or a share of all.

    Raises:
        DataError: nothing is held out, or nothing is left.
    """
    if not spec.validation:
        return validation_ids([v.id for v in training], spec.validation_fraction, groups)
    wanted = {name.casefold() for name in spec.validation}
    chosen = frozenset(v.id for v in training if v.subset.casefold() in wanted)
    if not 0 < len(chosen) < len(training):
        raise DataError(
            f"{len(chosen)} of {len(training)} training videos are in subset {' or '.join(spec.validation)}",
            where=f"dataset '{spec.name}'",
            hint="name other subsets in 'validation', or none to hold out a share",
        )
    return chosen


def validation_ids(
    ids: Sequence[str], fraction: float, groups: Mapping[str, str] | None = None
) -> frozenset[str]:
    """Choose the videos that tuning holds out of training.

    The choice depends on the set of names alone, neither on their order nor on any seed, so that every run
    of a dataset validates on the same videos. Groups are ranked by the hash of their name, and as many of
    the first are chosen as come closest to ``fraction`` of the videos: at least one, and at least one is
    left.

    Args:
        ids: of the training videos.
        fraction: share of them.
        groups: video to group; none = every video is one.

    Raises:
        DataError: fewer than two videos or groups.
    """
    members: dict[str, list[str]] = {}
    for video in ids:
        members.setdefault(groups[video] if groups else video, []).append(video)
    if len(members) < 2:
        what = f"{len(ids)} training video" if len(ids) < 2 else "training videos of one group"
        raise DataError(f"{what}, cannot hold out a validation part", hint="need 2 or more")
    ranked = sorted(members, key=lambda group: hashed("validation", group))
    wanted = round(len(ids) * fraction)
    best, chosen, total = float("inf"), 1, 0
    for count, group in enumerate(ranked[:-1], start=1):
        total += len(members[group])
        if abs(total - wanted) < best:
            best, chosen = abs(total - wanted), count
    return frozenset(video for group in ranked[:chosen] for video in members[group])


def hashed(purpose: str, name: str) -> bytes:
    """A rank for a name that nothing but the name and the purpose decides."""
    return hashlib.sha256(f"{purpose}/{name}".encode()).digest()
