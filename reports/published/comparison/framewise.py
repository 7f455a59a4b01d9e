"""Detections of a program that shares no code with tal_bench: logistic regression per time step.

    python framewise.py FOLDER STREAM OUT.csv

Every class has a logistic regression on the features of a step and on their means over the 9 and 33 steps
around it. A detection is a run of steps whose probability is above a threshold; its score is their mean
probability. FOLDER has `annotations.json` (ActivityNet-style) and a folder of `.npy` features [T, C] per
stream; steps are taken to divide the duration of a video evenly. Trained on all videos outside the subset
`test`, on which the detections are. Needs numpy, scipy and scikit-learn.
"""

import csv
import json
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter1d
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

THRESHOLDS = (0.1, 0.2, 0.35, 0.5, 0.7)
WINDOWS = (9, 33)


def read(folder: Path, stream: str, video: str) -> np.ndarray:
    """Return features with their means over the windows [T, C · (1 + windows)]."""
    features = np.load(folder / stream / f"{video}.npy").astype(np.float32)
    means = [uniform_filter1d(features, size, axis=0, mode="nearest") for size in WINDOWS]
    return np.concatenate([features, *means], axis=1)


def inside(entry: dict, label: str, steps: int) -> np.ndarray:
    """Return whether the middle of each step is within a segment of a class [T]."""
    middle = (np.arange(steps) + 0.5) * entry["duration"] / steps
    own = [a["segment"] for a in entry["annotations"] if a["label"] == label]
    return np.any([(start <= middle) & (middle < end) for start, end in own], axis=0) & np.ones(steps, bool)


def segments(probability: np.ndarray, duration: float) -> dict[tuple[float, float], float]:
    """Return the score of every run of steps above a threshold, by its start and end in seconds."""
    found = {}
    for threshold in THRESHOLDS:
        for above, run in groupby(range(len(probability)), key=lambda k: probability[k] >= threshold):
            steps = list(run)
            if above:
                ends = (steps[0] * duration / len(probability), (steps[-1] + 1) * duration / len(probability))
                found[ends] = float(probability[steps].mean())
    return found


def main(folder: Path, stream: str, out: Path) -> None:
    """Train on the training videos and write the detections on the test videos."""
    videos = json.loads((folder / "annotations.json").read_text())["database"]
    test = sorted(name for name, entry in videos.items() if entry["subset"] == "test")
    train = sorted(set(videos) - set(test))
    features = {name: read(folder, stream, name) for name in videos}
    scaler = StandardScaler().fit(np.concatenate([features[name] for name in train]))
    inputs = scaler.transform(np.concatenate([features[name] for name in train]))
    labels = sorted({a["label"] for name in train for a in videos[name]["annotations"]})
    with out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["video", "start", "end", "label", "score"])
        for label in labels:
            target = np.concatenate([inside(videos[n], label, len(features[n])) for n in train])
            model = LogisticRegression(C=0.01, max_iter=200).fit(inputs, target)
            for name in test:
                probability = model.predict_proba(scaler.transform(features[name]))[:, 1]
                for (start, end), score in segments(probability, videos[name]["duration"]).items():
                    table.writerow([name, f"{start:.2f}", f"{end:.2f}", label, f"{score:.4f}"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
