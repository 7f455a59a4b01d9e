"""Preview of the dataset: MP4 files, a contact sheet and a timeline of labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tal_bench.data.datasets.sprites.render import Frames, render
from tal_bench.data.datasets.sprites.scene import Scene, plan_scene, scene_rng
from tal_bench.data.datasets.sprites.settings import APPEARANCES, LABELS, SpritesSettings

_COLOURS = ((230, 126, 34), (192, 57, 43), (39, 134, 96), (41, 98, 185))
_GREY = (168, 168, 168)
_INK = (40, 40, 40)


def write_videos(out_dir: Path, n: int = 4, settings: SpritesSettings | None = None) -> list[Path]:
    """Render the first ``n`` training videos as MP4 (H.264), with ``contact.png`` and ``timeline.png``.

    The contact sheet has one row per action with four frames, three frames apart. The timeline has one row
    per video, coloured where a class is active and grey where a sprite performs an unlabelled motion.

    Returns:
        Files written.
    """
    settings = settings or SpritesSettings()
    out_dir.mkdir(parents=True, exist_ok=True)
    scenes = [plan_scene(scene_rng(settings.seed, "training", k), settings) for k in range(n)]
    files, rendered = [], []
    for k, scene in enumerate(scenes):
        frames = render(scene, settings.size, settings.fps)
        files.append(out_dir / f"sprites_training_{k:04d}.mp4")
        write_mp4(files[-1], frames, settings.fps)
        rendered.append(frames)
    for name, picture in (
        ("contact.png", contact_sheet(scenes, rendered, settings.fps)),
        ("timeline.png", timeline(scenes, settings.fps)),
    ):
        cv2.imwrite(str(out_dir / name), picture[..., ::-1])
        files.append(out_dir / name)
    return files


def write_mp4(path: Path, frames: Frames, fps: int, quality: int = 16) -> None:
    """Encode RGB frames [N, H, W, 3] with H.264 at a constant quality (0 = best, 51 = worst)."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(quality)})
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def contact_sheet(scenes: list[Scene], videos: list[Frames], fps: int, rows: int = 12) -> NDArray[np.uint8]:
    """Draw one row per action: its name and four frames."""
    lines = []
    for scene, frames in zip(scenes, videos, strict=True):
        for episode in scene.episodes:
            name = f"{episode.appearance} {episode.motion or 'idle'}"
            if episode.label_id is None:
                name += " (unlabelled)"
            middle = int(0.5 * (episode.start + episode.end) * fps)
            shots = [
                cv2.resize(
                    frames[min(middle + step, len(frames) - 1)], (128, 128), interpolation=cv2.INTER_CUBIC
                )
                for step in (-4, -1, 2, 5)
            ]
            title = np.full((128, 230, 3), 255, np.uint8)
            cv2.putText(title, name, (6, 70), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
            lines.append((name, np.hstack([title, *shots])))
    by_name = dict(reversed(lines))
    sheet: NDArray[np.uint8] = np.vstack([by_name[name] for name in sorted(by_name)[:rows]])
    return sheet


def timeline(scenes: list[Scene], fps: int, width: int = 1100) -> NDArray[np.uint8]:
    """Draw one row per video: episodes as thin grey lines, actions as bars."""
    longest = max(scene.frames for scene in scenes) / fps
    scale = (width - 120) / longest
    picture = np.full((84 * len(scenes) + 30, width, 3), 255, np.uint8)
    for row, scene in enumerate(scenes):
        top = 84 * row + 20
        cv2.putText(
            picture, f"video {row}", (8, top + 24), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA
        )
        free = [-1.0, -1.0]
        for e in scene.episodes:
            lane = 0 if e.enter >= free[0] else 1
            free[lane] = e.leave
            y = top + 12 + 34 * lane
            a, b, c, d = (int(100 + scale * t) for t in (e.enter, e.start, e.end, e.leave))
            cv2.line(picture, (a, y), (d, y), _GREY, 1)
            if e.motion is None:
                continue
            labelled = e.label_id is not None
            colour = _COLOURS[APPEARANCES.index(e.appearance)] if labelled else _GREY
            cv2.rectangle(picture, (b, y - 7), (c, y + 7), colour, -1)
            name = LABELS[e.label_id] if e.label_id is not None else e.motion
            cv2.putText(picture, name, (a, y + 19), cv2.FONT_HERSHEY_SIMPLEX, 0.28, _INK, 1, cv2.LINE_AA)
    return picture
