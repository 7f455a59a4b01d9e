"""Features of all videos of a training in the memory of a GPU, where batches are gathered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tal_bench.data.batches import Crops, labels_of
from tal_bench.data.dataset import Video
from tal_bench.training.device import Device
from tal_bench.types import Batch


def features_nbytes(videos: Sequence[Video]) -> int:
    """Return the size of the features of all videos in fp32."""
    channels: int = sum(x.shape[1] for x in videos[0].features.values())
    return 4 * channels * sum(video.steps for video in videos)


class ResidentFeatures:
    """Features of videos on a device: batches are gathered there, without reading or copying features again.

    Args:
        videos: Videos, whose features are read and copied now.
        device: Device.

    Raises:
        DataError: A feature file is malformed.
        torch.OutOfMemoryError: The GPU has too little memory.
    """

    def __init__(self, videos: Sequence[Video], device: Device) -> None:
        self._device = device
        self._first: dict[Video, int] = {}
        self._padding = 0
        for video in videos:
            self._first[video] = self._padding
            self._padding += video.steps
        self._streams = {name: self._uploaded(videos, name) for name in videos[0].features}

    def _uploaded(self, videos: Sequence[Video], name: str) -> Tensor:
        """Return a stream of all videos one after the other, [ΣT + 1, C]; the last row is padding."""
        channels = videos[0].features[name].shape[1]
        rows = torch.empty(self._padding + 1, channels, device=self._device.torch)
        rows[self._padding] = 0.0
        for video in videos:
            first = self._first[video]
            values = torch.from_numpy(video.crop(name, 0, video.steps))
            rows[first : first + video.steps].copy_(values)
        return rows

    def __call__(self, drawn: Iterable[Crops]) -> Iterator[Batch]:
        """Yield the batches on the device, as `collate` makes them."""
        return map(self._gathered, drawn)

    def _gathered(self, crops: Crops) -> Batch:
        device = self._device
        batch = device.move(device.pin(labels_of(crops)))
        starts = torch.tensor([self._first[crop.video] + crop.start for crop in crops.crops])
        return replace(batch, features=self.gather(device.send(starts), batch.mask))

    def gather(self, starts: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return the streams [B, C, T] of crops that begin at rows ``starts`` [B] and have a mask [B, T]."""
        steps = torch.arange(mask.shape[1], device=mask.device)
        rows = (starts[:, None] + steps).where(mask, self._padding)
        return {
            name: stream.index_select(0, rows.view(-1)).view(*rows.shape, -1).transpose(1, 2)
            for name, stream in self._streams.items()
        }
