"""Batches as a function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from common.core.seeding import uniform
from common.data.canvas import Canvas
from common.data.views import View, stream

_SHUFFLE = stream("shuffle")


class EpochSampler:
    """Order of the samples in an epoch.

    Args:
        count: N.
        seed: of the run; None keeps the samples in their own order.
    """

    def __init__(self, count: int, seed: int | None) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    @property
    def sampler(self) -> EpochSampler:
        """Itself: Lightning looks at ``loader.sampler`` and at ``loader.batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch comes next; Lightning calls this, also after resuming."""
        self.epoch = int(epoch)

    def order(self) -> Tensor:
        """[N] int64, a permutation that depends on (seed, epoch) alone."""
        index = torch.arange(self.count)
        if self.seed is None:
            return index
        return uniform(index, 1, self.seed, self.epoch, _SHUFFLE).squeeze(1).argsort(stable=True)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(self.order().tolist())


class ViewLoader:
    """Iterable of batches ``{x: [B, C, H, W] float32 in [0, 1], (x_teacher, ...), y: [B], index: [B]}``.

    It keeps no state but the epoch's number: iterating twice without ``sampler.set_epoch`` gives the same
    batches twice. The last batch may be smaller. When training, a last batch of a single sample is left out,
    because batch normalisation cannot train on it; another sample is left out in every epoch.

    Args:
        canvas: the images, with the margin that the views need.
        labels: [N] int64.
        batch_size: most samples of a batch.
        views: batch key -> view.
        seed: of the run; None means evaluation: no shuffling, every sample.
    """

    def __init__(
        self,
        canvas: Canvas,
        labels: Tensor,
        batch_size: int,
        views: Mapping[str, View],
        seed: int | None = None,
    ) -> None:
        self._canvas, self._labels, self._views = canvas, labels, dict(views)
        self.batch_size = batch_size
        self.sampler = EpochSampler(len(labels), seed)
        self.batch_sampler = self.sampler
        single = seed is not None and 1 < batch_size < len(labels) and len(labels) % batch_size == 1
        self._used = len(labels) - single

    def __len__(self) -> int:
        return -(-self._used // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        order = self.sampler.order()
        seed, epoch = self.sampler.seed or 0, self.sampler.epoch
        # One call an epoch: drawing batch by batch costs more than cutting the windows.
        draws = {
            key: uniform(order, view.draws, seed, epoch, stream(key)) for key, view in self._views.items()
        }
        labels = self._labels[order]
        for start in range(0, self._used, self.batch_size):
            part = slice(start, min(start + self.batch_size, self._used))
            index = order[part]
            batch = {key: view(self._canvas, index, draws[key][part]) for key, view in self._views.items()}
            yield {**batch, "y": labels[part], "index": index}
