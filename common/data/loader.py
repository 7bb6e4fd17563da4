"""Batches of views, without worker processes: one gather a batch costs less than handing a batch over."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from common.core.method import Batch
from common.core.seeding import derive
from common.data.views import View, stream


class EpochSampler:
    """Where Lightning tells a loader which epoch it is, after a resume as well."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch."""
        self.epoch = epoch


class ViewLoader:
    """Yields ``{x, ..., y, index}``: views [B, C, H, W] float32 in [0, 1], labels [B], sample numbers [B].

    The order is a permutation of (seed, epoch), or the given one without a seed. A last batch of a single sample is left
    out in training, because batch normalisation cannot be trained on it; which sample that is changes every epoch.

    Args:
        views: batch key -> prepared view.
        y: [N] labels.
        batch_size: samples a batch.
        seed: None for evaluation.
    """

    def __init__(self, views: dict[str, View], y: Tensor, batch_size: int, seed: int | None = None) -> None:
        self._views, self._y, self._batch_size, self._seed = views, y, batch_size, seed
        self.sampler = EpochSampler()

    def __len__(self) -> int:
        full, rest = divmod(len(self._y), self._batch_size)
        return full + int(rest > (0 if self._seed is None or full == 0 else 1))

    def __iter__(self) -> Iterator[Batch]:
        epoch, seed = self.sampler.epoch, self._seed or 0
        if self._seed is None:
            order = torch.arange(len(self._y))
        else:
            order = torch.randperm(len(self._y), generator=torch.Generator().manual_seed(derive(seed, epoch)))
        for index in order.split(self._batch_size)[: len(self)]:
            batch = {key: view(index, seed, epoch, stream(key)) for key, view in self._views.items()}
            yield {**batch, "y": self._y[index], "index": index}
