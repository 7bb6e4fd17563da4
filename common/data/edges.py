"""A data set of edges: images, what several annotators drew, and the crops that training sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from common.core.seeding import derive, uniform
from common.data.base import DataError, whole_number
from common.data.edges_scenes import Scene

_ORDER, _CROP = 0x6564676573, 0x63726F70


def to_image(pixels: NDArray[np.uint8]) -> Tensor:
    """[H, W, 3] uint8 -> [3, H, W] float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 127.5 - 1


class EdgeData:
    """Images with boundaries; all images of a split are of one size.

    Args:
        splits: makes the scenes of ``train``, ``val`` and ``test``; called once, when they are first needed.
        fingerprint: changes with the content.
        name, description: for tables and records.
        counts: images a split.
        crop: pixels of a side of training crops.
        resized_crop: a part of 25 to 100 % of the image's area, resized, instead of a plain crop.
        batch_size: of training.
        eval_batch_size: of evaluation.
    """

    mean = std = None
    recordable = False
    num_classes = 2

    def __init__(
        self,
        splits: Callable[[], dict[str, list[Scene]]],
        *,
        fingerprint: str,
        name: str,
        description: str,
        counts: dict[str, int],
        crop: int,
        resized_crop: bool = False,
        batch_size: int = 16,
        eval_batch_size: int = 8,
    ) -> None:
        for option, value in (
            ("crop", crop),
            ("batch_size", batch_size),
            ("eval_batch_size", eval_batch_size),
        ):
            whole_number(value, option, 1)
        self._make = splits
        self.fingerprint, self.name, self.description = fingerprint, name, description
        self.counts, self.crop, self.resized_crop = counts, crop, resized_crop
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size

    @property
    def spec(self) -> dict[str, int]:
        """What networks take from the data."""
        return {"in_channels": 3, "image_size": self.crop}

    @property
    def num_train(self) -> int:
        """Training images."""
        return self.counts["train"]

    @cached_property
    def splits(self) -> dict[str, list[Scene]]:
        """All scenes, checked.

        Raises:
            DataError: an image that is smaller than the crop.
        """
        splits = self._make()
        for split, scenes in splits.items():
            for number, scene in enumerate(scenes):
                if min(scene.image.shape[:2]) < self.crop:
                    size = " x ".join(map(str, scene.image.shape[:2]))
                    raise DataError(
                        f"{self.name}: image {number} of {split} is {size} pixels, less than data.crop={self.crop}; "
                        "set a smaller crop or make the images larger"
                    )
        return splits

    def scenes(self, split: str) -> list[Scene]:
        """Scenes of ``train``, ``val`` or ``test``.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split}; choose {', '.join(self.splits)}")
        return self.splits[split]

    def annotations(self, split: str) -> list[list[NDArray[np.bool_]]]:
        """One [H, W] bool map an annotator, for each image in the order of ``eval_loader``."""
        return [list(scene.annotations) for scene in self.scenes(split)]

    def soft_label(self, split: str, index: int) -> Tensor:
        """[1, H, W] float32 in [0, 1]: the part of the annotators that drew each pixel."""
        return torch.from_numpy(self.scenes(split)[index].annotations.mean(0, dtype=np.float32))[None]

    def train_loader(self, seed: int, steps: int | None = None, batch_size: int | None = None) -> EdgeLoader:
        """Batches of crops; ``steps`` an epoch, None for one pass; ``batch_size`` None for the data's."""
        return EdgeLoader(self, seed, steps, batch_size or self.batch_size)

    def eval_loader(self, split: str) -> Iterator[dict[str, Tensor]]:
        """Whole images: ``x`` [B, 3, H, W] in [-1, 1], ``y`` [B] image numbers."""
        scenes = self.scenes(split)
        for start in range(0, len(scenes), self.eval_batch_size):
            part = scenes[start : start + self.eval_batch_size]
            x = torch.stack([to_image(scene.image) for scene in part])
            yield {"x": x, "y": torch.arange(start, start + len(part))}


class EdgeLoader:
    """Crops of one epoch, each a function of (seed, epoch, place in the epoch).

    A batch has ``x`` [B, 3, c, c] in [-1, 1], ``e`` [B, 1, c, c] soft labels in [0, 1], ``index`` [B] image numbers
    and ``place`` [B], the number of the crop within the epoch.
    """

    def __init__(self, data: EdgeData, seed: int, steps: int | None, batch_size: int) -> None:
        self._data, self._seed, self._epoch, self._size = data, seed, 0, batch_size
        self._steps = steps or max(1, data.num_train // batch_size)
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Chooses order and crops."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        size, total = self._size, self._data.num_train
        rounds = -(-self._steps * size // total)
        order = torch.cat([self._permutation(turn, total) for turn in range(rounds)])
        for step in range(self._steps):
            place = torch.arange(step * size, (step + 1) * size)
            index = order[place]
            draws = uniform(place, 4, self._seed, self._epoch, _CROP)
            crops = [self._crop(int(i), row) for i, row in zip(index, draws.tolist(), strict=True)]
            x, e = (torch.stack(parts) for parts in zip(*crops, strict=True))
            yield {"x": x, "e": e, "index": index, "place": place}

    def _permutation(self, turn: int, total: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive(self._seed, self._epoch, turn, _ORDER))
        return torch.randperm(total, generator=generator)

    def _crop(self, index: int, draws: list[float]) -> tuple[Tensor, Tensor]:
        data = self._data
        x = to_image(data.scenes("train")[index].image)
        e = data.soft_label("train", index)
        height, width, side = *x.shape[1:], data.crop
        if data.resized_crop:
            tall = round(height * (0.25 + 0.75 * draws[3]) ** 0.5)
            wide = round(width * (0.25 + 0.75 * draws[3]) ** 0.5)
        else:
            tall = wide = side
        top, left = int(draws[0] * (height - tall + 1)), int(draws[1] * (width - wide + 1))
        x, e = (part[:, top : top + tall, left : left + wide] for part in (x, e))
        if data.resized_crop:
            x = F.interpolate(x[None], (side, side), mode="bilinear", antialias=True, align_corners=False)[0]
            e = F.interpolate(e[None], (side, side), mode="nearest-exact")[0]
        if draws[2] < 0.5:
            x, e = x.flip(-1), e.flip(-1)
        return x.contiguous(), e.contiguous()
