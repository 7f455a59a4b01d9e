"""Feature files of many videos: resumable video by video, whatever happens to any of them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tal_bench.config.extraction import FILE, Extraction, read_extraction
from tal_bench.errors import InputError, TalBenchError
from tal_bench.extraction.decoding import SUFFIXES, VideoReader
from tal_bench.extraction.features import Stream, extract
from tal_bench.extraction.streams import build_streams
from tal_bench.extraction.workers import map_items
from tal_bench.system.cache_folder import locked, write_json
from tal_bench.system.step_timer import StepTimer

MANIFEST = "manifest.json"
JOURNAL = ".finished.jsonl"
"""Videos that have ended since the manifest was written, one a line."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class VideoRecord:
    """What became of a video.

    Attributes:
        id: name of its feature files.
        file: where it was.
        bytes: size of that file.
        status: `ok`; `truncated`, whose features end where it does; `failed`, which has none.
        message: what is wrong, empty when nothing is.
        frames: decoded and resampled.
        fps: of those.
        duration: seconds that they last.
        steps: T of the features.
        seconds: wall-clock time that it took.
    """

    id: str
    file: str
    bytes: int
    status: Literal["ok", "truncated", "failed"]
    message: str = ""
    frames: int = 0
    fps: float = 0.0
    duration: float = 0.0
    steps: int = 0
    seconds: float = 0.0


@dataclass
class Outcome:
    """What an extraction did.

    Attributes:
        folder: of the features.
        extraction: with widths and hashes of weights.
        records: one per video asked for, in their order.
        skipped: ids that had been finished before.
    """

    folder: Path
    extraction: Extraction
    records: list[VideoRecord] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)

    def with_status(self, *status: str) -> list[VideoRecord]:
        """Records of such videos."""
        return [record for record in self.records if record.status in status]


def find_videos(given: Sequence[Path]) -> dict[str, Path]:
    """Id to file; of a folder, every file in it that is called as videos are.

    Raises:
        InputError: two files would have the same id, or a folder holds no video.
    """
    found: dict[str, Path] = {}
    for path in given:
        files = [path]
        if path.is_dir():
            files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES)
            if not files:
                raise InputError("no video there", where=path, hint=f"known endings: {' '.join(SUFFIXES)}")
        for file in files:
            other = found.setdefault(file.stem, file)
            if other != file:
                raise InputError(
                    f"{other} and {file} would share the feature file {file.stem}.npy",
                    where="VIDEOS",
                    hint="rename one, or extract them into two folders",
                )
    return found


def extract_files(
    videos: Mapping[str, Path],
    out: Path,
    extraction: Extraction,
    *,
    jobs: int = 1,
    device: str = "cpu",
    command: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Write `<out>/<stream>/<id>.npy` [T, C] of every video, with `extraction.json` and `manifest.json`.

    Videos that have been finished, and whose file has the same size, are not done again; those that failed
    are tried again. A video that cannot be used is recorded as failed, and the others go on.

    Args:
        videos: id to file.
        out: folder of the features.
        extraction: complete, see `streams.complete`.
        jobs: processes; each runs on one thread.
        device: of the networks.
        command: for the manifest.
        progress: called with (videos done, videos in all).

    Raises:
        InputError: the folder cannot be written, or holds features of other settings.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in extraction.streams:
            (out / name).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=f"--out {out}") from None
    outcome = Outcome(out, extraction)
    with locked(out / ".lock"):
        _same_settings(out, extraction)
        write_json(out / FILE, extraction.model_dump(mode="json"))
        records = _read_records(out)
        waiting = []
        for name, path in videos.items():
            if _is_done(out, extraction, records.get(name), path):
                outcome.skipped.add(name)
            else:
                waiting.append((name, path))
        _write_manifest(out, extraction, records, command)
        work = partial(extract_file, out=out, extraction=extraction, device=device)
        done = len(outcome.skipped)
        with (
            (out / JOURNAL).open("a", encoding="utf-8") as journal,
            contextlib.closing(map_items(work, waiting, jobs, _crashed)) as ended,
        ):
            for record in ended:
                records[record.id] = record
                journal.write(json.dumps(asdict(record)) + "\n")
                journal.flush()
                done += 1
                if progress:
                    progress(done, len(videos))
        _write_manifest(out, extraction, records, command)
    outcome.records = [records[name] for name in videos]
    return outcome


def extract_file(video: tuple[str, Path], *, out: Path, extraction: Extraction, device: str) -> VideoRecord:
    """Write the features of one video; what is wrong with it is in the record.

    Raises:
        InputError: the features cannot be written, which no other video will change.
    """
    name, path = video
    began = time.perf_counter()
    try:
        features, footage = video_features(path, extraction, device=device)
    except TalBenchError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return _failed(video, f"{error.what}{hint}", time.perf_counter() - began)
    except Exception as error:  # a codec, or memory that is short: no reason to give up the others
        return _failed(video, f"{type(error).__name__}: {error}", time.perf_counter() - began)
    for stream, values in features.items():
        _save(out / stream / f"{name}.npy", values)
    return VideoRecord(
        id=name,
        file=str(path),
        bytes=path.stat().st_size,
        status="truncated" if footage.truncated else "ok",
        message=footage.remark,
        frames=footage.frames,
        fps=round(footage.fps, 4),
        duration=round(footage.duration, 3),
        steps=len(next(iter(features.values()))),
        seconds=round(time.perf_counter() - began, 3),
    )


def video_features(
    path: Path,
    extraction: Extraction,
    *,
    device: str | torch.device = "cpu",
    clock: StepTimer | None = None,
) -> tuple[dict[str, NDArray[np.float32]], VideoReader]:
    """Features of one video, stream to [T, C], and the footage that they were made of.

    Raises:
        DataError: no video, or one shorter than a window.
    """
    streams = networks(extraction.model_dump_json(), str(device))
    footage = VideoReader(path, fps=extraction.fps, size=extraction.size)
    least = max(stream.sampler.least for stream in streams.values())
    features = extract(
        footage,
        streams,
        stride=extraction.stride,
        window=extraction.window,
        batch=extraction.batch,
        clock=clock,
    )
    if footage.frames < least:
        count, s = footage.decoded, "s" * (footage.decoded != 1)
        at = "" if count == footage.frames else f", {footage.frames} at {footage.fps:g} frames a second"
        raise InputError(f"{count} frame{s}{at}: shorter than a window of {least}", where=path)
    return features, footage


@lru_cache(maxsize=2)
def networks(extraction: str, device: str) -> dict[str, Stream]:
    """Networks of an extraction, given as JSON, built once per process."""
    return build_streams(Extraction.model_validate_json(extraction), device)


def _crashed(video: tuple[str, Path]) -> VideoRecord:
    return _failed(video, "the process that read it died: its codec crashed, or memory was short", 0.0)


def _failed(video: tuple[str, Path], message: str, seconds: float) -> VideoRecord:
    name, path = video
    size = path.stat().st_size if path.is_file() else 0
    return VideoRecord(name, str(path), size, "failed", " ".join(message.split()), seconds=round(seconds, 3))


def _save(path: Path, values: NDArray[np.float32]) -> None:
    """Write an array that appears whole or not at all."""
    partial_file = path.with_name(f".{path.name}.partial")
    try:
        with partial_file.open("wb") as file:
            np.save(file, values, allow_pickle=False)
        partial_file.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=path) from None


def _is_done(out: Path, extraction: Extraction, record: VideoRecord | None, path: Path) -> bool:
    return (
        record is not None
        and record.status != "failed"
        and path.is_file()
        and record.bytes == path.stat().st_size
        and all((out / stream / f"{record.id}.npy").is_file() for stream in extraction.streams)
    )


def _same_settings(out: Path, extraction: Extraction) -> None:
    """The folder is new, or was made with the same settings."""
    known = read_extraction(out / FILE)
    if known is None or known.hash == extraction.hash:
        return
    old, new = _flat(known), _flat(extraction)
    other = [
        f"{key} {old.get(key)}, now {new.get(key)}" for key in {**old, **new} if old.get(key) != new.get(key)
    ]
    raise InputError(
        f"holds features of other settings: {'; '.join(other[:4])}",
        where=f"--out {out}",
        hint="give another folder, or the same settings",
    )


def _flat(extraction: Extraction) -> dict[str, Any]:
    value = extraction.model_dump(mode="json")
    streams = value.pop("streams")
    for name, stream in streams.items():
        value |= {f"{name} {key}": one for key, one in stream.items() if key != "projection"}
    return value


def _read_records(out: Path) -> dict[str, VideoRecord]:
    """What has ended, by the manifest and the journal."""
    records: dict[str, VideoRecord] = {}
    try:
        known = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["videos"]
        records = {name: VideoRecord(id=name, **value) for name, value in known.items()}
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"not a manifest of features: {error}", where=out / MANIFEST, hint="give another --out"
        ) from None
    for line in _lines(out / JOURNAL):
        with contextlib.suppress(ValueError, TypeError):  # the last line of a process that was killed
            record = VideoRecord(**json.loads(line))
            records[record.id] = record
    return records


def _lines(path: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
        yield from file


def _write_manifest(
    out: Path, extraction: Extraction, records: Mapping[str, VideoRecord], command: str
) -> None:
    """Write what is known so far; the journal is then done with."""
    import av
    import cv2
    import timm

    videos = {name: {k: v for k, v in asdict(r).items() if k != "id"} for name, r in sorted(records.items())}
    versions = {"av": av.__version__, "numpy": np.__version__, "opencv": cv2.__version__}
    versions |= {"timm": timm.__version__, "torch": torch.__version__}
    content = {
        "command": command,
        "extraction": _flat(extraction),
        "versions": versions,
        "videos": videos,
    }
    write_json(out / MANIFEST, content)
    (out / JOURNAL).unlink(missing_ok=True)
