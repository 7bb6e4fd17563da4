"""Made-up images: no file, no meaning, but something to learn. They prove code, not papers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.core.seeding import uniform
from common.data.base import DataError, Split, whole_number
from common.data.views import stream
from common.data.vision import VisionData

_PATTERN, _NOISE = stream("synthetic/pattern"), stream("synthetic/noise")
_COARSE = 4


def _patterns(num_classes: int, image_size: int, channels: int, split_seed: int) -> Tensor:
    # Smooth, so that a shifted or cropped view still looks like its class.
    draws = uniform(torch.arange(num_classes), channels * _COARSE**2, split_seed, _PATTERN).float()
    coarse = draws.view(num_classes, channels, _COARSE, _COARSE)
    return F.interpolate(coarse, size=(image_size, image_size), mode="bilinear", align_corners=False)


def _split(patterns: Tensor, first: int, count: int, noise: float, split_seed: int) -> Split:
    index = torch.arange(first, first + count)
    labels = torch.arange(count) % len(patterns)
    shape = patterns.shape[1:]
    speckle = uniform(index, shape.numel(), split_seed, _NOISE).float().view(count, *shape)
    pixels = (1 - noise) * patterns[labels] + noise * speckle
    return Split((pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous(), labels)


def synthetic(
    num_classes: int = 10,
    train_size: int = 64,
    val_size: int = 64,
    test_size: int = 64,
    image_size: int = 8,
    channels: int = 1,
    noise: float = 0.5,
    split_seed: int = 0,
    *,
    batch_size: int = 64,
    eval_batch_size: int = 500,
    views: Mapping[str, Any] = {"x": "none"},
    root: str | Path | None = None,
) -> VisionData:
    """One smooth random pattern a class, under noise of each image's own; a function of the options alone.

    Args:
        num_classes: C.
        train_size: training images, at least one a class; a smaller set is the beginning of a larger one.
        val_size: validation images, 0 for none.
        test_size: test images.
        image_size: pixels of a side.
        channels: channels of an image.
        noise: share of the noise in a pixel, in [0, 1]; at 1 there is nothing to learn.
        split_seed: chooses patterns and noise.
        batch_size: of training.
        eval_batch_size: of evaluation.
        views: batch key -> view.
        root: not needed; all sources take it.

    Raises:
        DataError: an option out of its range.
    """
    least = {"num_classes": 1, "train_size": 1, "val_size": 0, "test_size": 1, "image_size": 1, "channels": 1}
    given = (num_classes, train_size, val_size, test_size, image_size, channels)
    for (option, bound), value in zip(least.items(), given, strict=True):
        whole_number(value, option, bound)
    if not 0 <= noise <= 1:
        raise DataError(f"data.noise={noise} has to lie between 0 and 1")
    patterns = _patterns(num_classes, image_size, channels, split_seed)
    # Test and validation come first and far apart, so that the training size does not move them.
    counts = {"test": (0, test_size), "val": (1 << 40, val_size), "train": (1 << 41, train_size)}
    splits = {k: _split(patterns, first, n, noise, split_seed) for k, (first, n) in counts.items() if n}
    return VisionData(
        splits,
        name="synthetic",
        description=f"made-up patterns ({image_size}x{image_size}), {train_size:,} training images",
        classes=num_classes,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        views=views,
    )
