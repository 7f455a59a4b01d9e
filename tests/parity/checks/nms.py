"""Suppression and voting; every array of a fixture is either an input or compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from tal_bench.training.decoding.nms import NmsSettings, batched_nms, suppress, vote

from ..fixtures import Fixture
from . import Compared, Kind
from .matching import SCORE_TOLERANCE, SEGMENT_TOLERANCE, Detections, pairs

RAW = {"soft_vanilla": "vanilla", "soft_linear": "linear", "soft_gaussian": "gaussian", "hard": "hard"}
Arrays = dict[str, np.ndarray[Any, Any]]

_RAW = re.compile(r"raw/(?P<op>\w+)/(?P<input>[^/]+)/p(?P<param>\d+)$")
_BATCHED = re.compile(
    r"(?P<family>tridet_batched|batched)/(?P<mode>\w+)/(?P<scope>multiclass|agnostic)"
    r"/vote(?P<vote>[\d.]+)/(?P<input>[^/]+)/p(?P<param>\d+)$"
)
_VOTING = re.compile(r"voting/(?P<input>[^/]+)$")
_CASE = re.compile(r"(?P<case>[^/]+)/(?P<mode>gaussian|linear|hard)/(?P<scope>multiclass|agnostic)$")


def check(fixture: Fixture) -> Iterator[Compared]:
    """Compare every group of arrays; AssertionError for an unknown group."""
    groups: dict[str, Arrays] = {}
    for name, array in fixture.tensors.items():
        group, _, leaf = name.rpartition("/")
        groups.setdefault(group, {})[leaf] = array
    for group, expected in groups.items():
        if re.match(r"in/[^/]+$|[^/]+/in$", group):
            continue
        if match := _RAW.match(group):
            yield from _raw(fixture, match, expected)
        elif match := _BATCHED.match(group):
            yield from _batched(fixture, match, expected)
        elif match := _VOTING.match(group):
            yield _voting(fixture, match, expected)
        elif match := _CASE.match(group):
            yield from _case(fixture, match, expected)
        else:
            raise AssertionError(f"{fixture.id} contains {group!r}, which no comparison covers")


def _settings(param: dict[str, Any], **more: Any) -> NmsSettings:
    limit = param["max_seg_num"]
    return NmsSettings(
        sigma=param["sigma"],
        iou_threshold=param["iou_threshold"],
        min_score=param["min_score"],
        max_per_class=limit,
        max_total=limit,
        **more,
    )


def _raw(fixture: Fixture, match: re.Match[str], expected: Arrays) -> Iterator[Compared]:
    """Compare the operation itself, without a limit, and hard NMS without a score threshold."""
    given, param = fixture.tree(f"in/{match['input']}"), dict(fixture.meta["params"][int(match["param"])])
    if match["op"] == "hard":
        param["min_score"] = 0.0
    segments, scores = given["segments"], given["scores"]
    edges, count = np.array([0, len(scores)]), len(scores)
    kept, decayed = suppress(segments, scores, edges, count, _settings(param, mode=RAW[match["op"]]))
    name, theirs = match.group(), expected["inds"]
    same = len(kept) == len(theirs) and np.array_equal(np.sort(kept), np.sort(theirs))
    yield Compared(f"{name}: kept", 0.0 if same else np.inf, 0.0)
    if "dets" in expected and same:
        mine = np.concatenate([segments[kept], decayed[:, None]], axis=1)
        # the original leaves rows after the kept ones uninitialised
        yield from _compare(name, _columns(mine), _columns(expected["dets"][: len(theirs)]))


def _columns(dets: np.ndarray[Any, Any]) -> Arrays:
    return {"segments": dets[:, :2], "scores": dets[:, 2], "labels": np.zeros(len(dets), dtype=np.int64)}


def _batched(fixture: Fixture, match: re.Match[str], expected: Arrays) -> Iterator[Compared]:
    given = fixture.tree(f"in/{match['input']}")
    settings = _settings(
        fixture.meta["params"][int(match["param"])],
        mode=match["mode"],
        multiclass=match["scope"] == "multiclass",
        voting_threshold=float(match["vote"]),
        voting_weight="score" if match["family"] == "tridet_batched" else "score-iou",
    )
    yield from _compare(match.group(), _run(given, settings), expected)


def _voting(fixture: Fixture, match: re.Match[str], expected: Arrays) -> Compared:
    given = fixture.tree(f"in/{match['input']}")
    threshold = float(fixture.meta.get("voting_thresh", 0.7))
    ours = vote(expected["nms_segs"], given["segments"], given["scores"], threshold)
    return Compared(match.group(), _segment_error(ours, expected["out"]), SEGMENT_TOLERANCE)


def _case(fixture: Fixture, match: re.Match[str], expected: Arrays) -> Iterator[Compared]:
    param = fixture.meta["cases"][match["case"]]
    settings = _settings(
        param,
        mode=match["mode"],
        multiclass=match["scope"] == "multiclass",
        voting_threshold=float(param.get("voting_thresh", 0.7)),
    )
    yield from _compare(match.group(), _run(fixture.tree(f"{match['case']}/in"), settings), expected)


def _run(given: Arrays, settings: NmsSettings) -> Arrays:
    segments, scores, labels = batched_nms(given["segments"], given["scores"], given["labels"], settings)
    return {"segments": segments, "scores": scores, "labels": labels}


def _compare(name: str, ours: Arrays, theirs: Arrays) -> Iterator[Compared]:
    """Compare two sorted results, in which segments of near-equal scores may be swapped."""
    if len(ours["scores"]) != len(theirs["scores"]):
        yield Compared(f"{name}: {len(ours['scores'])} for {len(theirs['scores'])} kept", np.inf, 0.0)
        return
    if len(theirs["scores"]) == 0:
        return
    scale = np.maximum(np.abs(theirs["scores"]), 1e-12)
    difference = np.abs(np.sort(ours["scores"]) - np.sort(theirs["scores"])) / np.sort(scale)
    yield Compared(f"{name}: scores", float(difference.max()), SCORE_TOLERANCE)
    order = pairs(Detections(**ours), Detections(**theirs))
    unpaired = int((order < 0).sum())
    yield Compared(f"{name}: {unpaired} without one of the same label and score", float(unpaired), 0.0)
    paired, known = ours["segments"][order[order >= 0]], theirs["segments"][order >= 0]
    yield Compared(f"{name}: segments", _segment_error(paired, known), SEGMENT_TOLERANCE)


def _segment_error(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    """Return the largest error relative to the largest time; infinite if ours is not finite.

    The original divides 0 by 0 when voting for segments of length 0. Ours are kept unchanged and only have to
    be finite.
    """
    if not np.isfinite(ours).all():
        return float("inf")
    known = np.isfinite(theirs)
    if not known.any():
        return 0.0
    scale = max(float(np.abs(theirs[known]).max()), 1.0)
    return float(np.abs(ours[known] - theirs[known]).max()) / scale


def _recognises(meta: dict[str, Any]) -> bool:
    cases = meta.get("cases")
    params = meta.get("params") or (list(cases.values()) if isinstance(cases, dict) else [])
    return bool(params) and all(isinstance(one, dict) and "max_seg_num" in one for one in params)


KIND: Kind = Kind("nms", _recognises, check)
