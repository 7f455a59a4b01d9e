"""Compare the mAP of every trained model of a study in fp32 and bf16.

`python tests/benchmarks/precisions.py STUDY_DIR`
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tal_bench.data.dataset import open_cached
from tal_bench.inference import scoring
from tal_bench.inference.trained_models import TrainedModel, models_of_study
from tal_bench.models.checkpoint import load_model
from tal_bench.training.device import Device
from tal_bench.training.prediction import predict


def average_maps(model: TrainedModel, devices: Sequence[Device]) -> list[float]:
    """Return the average mAP in percent on the test videos for each device."""
    assert model.dataset is not None
    data = open_cached(model.dataset, model.detector.reads, model.limit)
    videos = data.videos("test")
    ids = [video.meta.id for video in videos]
    net, _ = load_model(model.file, model.card)
    averages = []
    for device in devices:
        found = list(predict(net, model.detector, videos, model.decode, device))
        detections, truth = scoring.tables(found, videos, data)
        averages.append(100 * scoring.average_precision(data.spec, detections, truth, ids).average)
    return averages


def main() -> None:
    """Print the difference bf16 - fp32 by row and seed, and over all models."""
    devices = Device("cpu", "fp32"), Device("cpu", "bf16")
    differences: dict[str, list[float]] = defaultdict(list)
    for model in models_of_study(Path(sys.argv[1]))[1]:
        full, half = average_maps(model, devices)
        differences[model.row].append(half - full)
    for row, values in differences.items():
        print(f"{row:24} {' '.join(f'{x:+.2f}' for x in values)}  mean {statistics.mean(values):+.2f}")
    every = [x for values in differences.values() for x in values]
    print(
        f"{len(every)} models: mean {statistics.mean(every):+.3f}, sd {statistics.stdev(every):.3f}, "
        f"{sum(abs(x) <= 0.1 for x in every)} within 0.1, largest {max(map(abs, every)):.2f} mAP"
    )


if __name__ == "__main__":
    main()
