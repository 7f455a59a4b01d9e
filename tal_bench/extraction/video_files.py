"""Extract feature files of many videos, resumable and tolerant of videos that fail."""

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
from tal_bench.system.gpus import open_device, still_works
from tal_bench.system.step_timer import StepTimer
from tal_bench.system.worker_pool import UnusableWorkerError

MANIFEST = "manifest.json"
JOURNAL = ".finished.jsonl"
"""Records of the videos completed since the manifest was written, one JSON object per line."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class VideoRecord:
    """Result of extracting one video.

    Attributes:
        id: Id of the video, the name of its feature files.
        file: Path of the video file.
        bytes: Size of the video file.
        status: `ok`; `truncated` if the file ends early, in which case the features do too; `failed` if
            there are no features.
        message: Description of the defect or error, empty if there is none.
        frames: Number of frames after resampling.
        fps: Frames per second after resampling.
        duration: Duration of the frames in seconds.
        steps: Number of feature steps T.
        seconds: Wall-clock time of the extraction.
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
    """Result of extracting a set of videos.

    Attributes:
        folder: Folder of the features.
        extraction: Settings, with numbers of channels and hashes of weights.
        records: One record per requested video, in the same order.
        skipped: Ids of videos whose features existed already.
    """

    folder: Path
    extraction: Extraction
    records: list[VideoRecord] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)

    def with_status(self, *status: str) -> list[VideoRecord]:
        """Return the records that have one of the given statuses."""
        return [record for record in self.records if record.status in status]


def find_videos(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the video files by id; a folder stands for all files in it with a known video suffix.

    Raises:
        InputError: Two files have the same id, or a folder contains no video.
    """
    videos: dict[str, Path] = {}
    for path in paths:
        files = [path]
        if path.is_dir():
            files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES)
            if not files:
                raise InputError(
                    "contains no video", where=path, hint=f"known suffixes: {' '.join(SUFFIXES)}"
                )
        for file in files:
            other = videos.setdefault(file.stem, file)
            if other != file:
                raise InputError(
                    f"{other} and {file} would both be written to {file.stem}.npy",
                    where="VIDEOS",
                    hint="rename one of them, or extract them into different folders",
                )
    return videos


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

    Videos with existing features are skipped if the size of the video file is unchanged; failed videos are
    tried again. A video that cannot be used is recorded as failed and does not stop the others.

    Args:
        videos: Video files by id.
        out: Folder of the features.
        extraction: Complete settings, see `streams.complete`.
        jobs: Number of processes of one thread each.
        device: Device of the networks.
        command: Command line recorded in the manifest.
        progress: Callback for (videos done, total).

    Raises:
        InputError: The folder is not writable, or contains features extracted with other settings.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in extraction.streams:
            (out / name).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=f"--out {out}") from None
    outcome = Outcome(out, extraction)
    with locked(out / ".lock"):
        _check_settings(out, extraction)
        write_json(out / FILE, extraction.model_dump(mode="json"))
        records = _read_records(out)
        waiting = []
        for name, path in videos.items():
            if _is_done(out, extraction, records.get(name), path):
                outcome.skipped.add(name)
            else:
                waiting.append((name, path))
        _write_manifest(out, extraction, records, command)
        extract_one = partial(extract_file, out=out, extraction=extraction, device=device)
        done = len(outcome.skipped)
        with (
            (out / JOURNAL).open("a", encoding="utf-8") as journal,
            contextlib.closing(map_items(extract_one, waiting, jobs, _crashed, device)) as results,
        ):
            for record in results:
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
    """Write the features of one video and return its record; errors of the video are reported in it.

    Raises:
        InputError: The features cannot be written, which would also fail for all other videos.
        TalBenchError: The device cannot be opened, or is out of memory.
        UnusableWorkerError: This process cannot use its GPU any more.
    """
    name, path = video
    start = time.perf_counter()
    torch_device = torch.device(device)
    open_device(torch_device)
    try:
        features, reader = video_features(path, extraction, device=device)
    except TalBenchError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return _failed(video, f"{error.what}{hint}", time.perf_counter() - start)
    except Exception as error:  # for example a codec error or lack of memory; the other videos continue
        _check_device(torch_device, error, extraction.batch)
        return _failed(video, f"{type(error).__name__}: {error}", time.perf_counter() - start)
    for stream, values in features.items():
        _save(out / stream / f"{name}.npy", values)
    return VideoRecord(
        id=name,
        file=str(path),
        bytes=path.stat().st_size,
        status="truncated" if reader.truncated else "ok",
        message=reader.warning,
        frames=reader.frames,
        fps=round(reader.fps, 8),  # times of an hour of video depend on it
        duration=round(reader.duration, 3),
        steps=len(next(iter(features.values()))),
        seconds=round(time.perf_counter() - start, 3),
    )


def _check_device(device: torch.device, error: Exception, batch: int) -> None:
    """Check that a video failed by itself, and not because of the GPU.

    Raises:
        TalBenchError: The GPU is out of memory, which is no fault of the video.
        UnusableWorkerError: This process cannot use its GPU any more.
    """
    if isinstance(error, torch.OutOfMemoryError) and device.type != "cpu":
        raise TalBenchError(
            f"out of GPU memory with batches of {batch} steps",
            where="--batch",
            hint="give a smaller --batch or fewer --jobs; run again, finished videos are kept",
        ) from None
    if not still_works(device):
        raise UnusableWorkerError(" ".join(f"{type(error).__name__}: {error}".split())) from None


def video_features(
    path: Path,
    extraction: Extraction,
    *,
    device: str | torch.device = "cpu",
    clock: StepTimer | None = None,
) -> tuple[dict[str, NDArray[np.float32]], VideoReader]:
    """Extract the features [T, C] of one video by stream; also return the exhausted reader of the video.

    Raises:
        DataError: The file is not a video.
        InputError: The video is shorter than a window.
    """
    streams = load_streams(extraction.model_dump_json(), str(device))
    reader = VideoReader(path, fps=extraction.fps, size=extraction.size)
    min_frames = max(stream.sampler.min_frames for stream in streams.values())
    features = extract(
        reader,
        streams,
        stride=extraction.stride,
        window=extraction.window,
        batch=extraction.batch,
        clock=clock,
    )
    if reader.frames < min_frames:
        count, s = reader.decoded, "s" * (reader.decoded != 1)
        resampled = "" if count == reader.frames else f", {reader.frames} at {reader.fps:g} frames per second"
        raise InputError(f"{count} frame{s}{resampled}: shorter than a window of {min_frames}", where=path)
    return features, reader


@lru_cache(maxsize=2)
def load_streams(extraction: str, device: str) -> dict[str, Stream]:
    """Build the streams of extraction settings, given as JSON; cached per process."""
    return build_streams(Extraction.model_validate_json(extraction), device)


def _crashed(video: tuple[str, Path]) -> VideoRecord:
    return _failed(video, "the worker process died: the codec or the GPU failed, or memory ran out", 0.0)


def _failed(video: tuple[str, Path], message: str, seconds: float) -> VideoRecord:
    name, path = video
    size = path.stat().st_size if path.is_file() else 0
    return VideoRecord(name, str(path), size, "failed", " ".join(message.split()), seconds=round(seconds, 3))


def _save(path: Path, values: NDArray[np.float32]) -> None:
    """Write an array atomically."""
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


def _check_settings(out: Path, extraction: Extraction) -> None:
    """Check that the folder has no features of other settings."""
    existing = read_extraction(out / FILE)
    if existing is None or existing.hash == extraction.hash:
        return
    old, new = _flat(existing), _flat(extraction)
    changes = [
        f"{key} was {old.get(key)}, now {new.get(key)}"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]
    raise InputError(
        f"contains features extracted with other settings: {'; '.join(changes[:4])}",
        where=f"--out {out}",
        hint="give another folder, or the original settings",
    )


def _flat(extraction: Extraction) -> dict[str, Any]:
    """Return the settings as a flat dictionary, those of streams with the stream's name as prefix."""
    value = extraction.model_dump(mode="json")
    streams = value.pop("streams")
    for name, stream in streams.items():
        value |= {f"{name} {key}": setting for key, setting in stream.items() if key != "projection"}
    return value


def _read_records(out: Path) -> dict[str, VideoRecord]:
    """Return the records in the manifest and the journal."""
    records: dict[str, VideoRecord] = {}
    try:
        videos = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["videos"]
        records = {name: VideoRecord(id=name, **value) for name, value in videos.items()}
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"not a manifest of extracted features: {error}", where=out / MANIFEST, hint="give another --out"
        ) from None
    for line in _lines(out / JOURNAL):
        with contextlib.suppress(
            ValueError, TypeError
        ):  # the last line is incomplete if the process was killed
            record = VideoRecord(**json.loads(line))
            records[record.id] = record
    return records


def _lines(path: Path) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
        yield from file


def _write_manifest(
    out: Path, extraction: Extraction, records: Mapping[str, VideoRecord], command: str
) -> None:
    """Write all records to the manifest and delete the journal."""
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
