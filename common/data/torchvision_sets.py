"""The official CIFAR sets, by torchvision's own classes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from common.data.base import DataError, Split
from common.data.splits import subset
from common.data.vision import VisionData


def cifar10(
    train_size: int | None = None,
    val_size: int = 0,
    split_seed: int = 0,
    download: bool = True,
    *,
    batch_size: int = 64,
    eval_batch_size: int = 500,
    views: Mapping[str, Any] = {"x": "none"},
    root: str | Path | None = None,
) -> VisionData:
    """CIFAR-10: 50,000 training and 10,000 test images of 32x32, 10 classes.

    Args:
        train_size: training images, stratified and nested; None takes all.
        val_size: validation images, carved out of the training ones.
        split_seed: chooses the training and validation images.
        download: whether to fetch the set (170 MB) when it is not there.
        batch_size: of training.
        eval_batch_size: of evaluation.
        views: batch key -> view.
        root: the data root, which holds ``cifar-10-batches-py``; None takes ``data``.

    Raises:
        DataError: the set is neither there nor can be fetched, or sizes do not fit.
    """
    loaders = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "views": views}
    return _cifar("CIFAR10", train_size, val_size, split_seed, download, root, loaders)


def cifar100(
    train_size: int | None = None,
    val_size: int = 0,
    split_seed: int = 0,
    download: bool = True,
    *,
    batch_size: int = 64,
    eval_batch_size: int = 500,
    views: Mapping[str, Any] = {"x": "none"},
    root: str | Path | None = None,
) -> VisionData:
    """CIFAR-100: 50,000 training and 10,000 test images of 32x32, 100 classes.

    Args:
        train_size: training images, stratified and nested; None takes all.
        val_size: validation images, carved out of the training ones.
        split_seed: chooses the training and validation images.
        download: whether to fetch the set (169 MB) when it is not there.
        batch_size: of training.
        eval_batch_size: of evaluation.
        views: batch key -> view.
        root: the data root, which holds ``cifar-100-python``; None takes ``data``.

    Raises:
        DataError: the set is neither there nor can be fetched, or sizes do not fit.
    """
    loaders = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "views": views}
    return _cifar("CIFAR100", train_size, val_size, split_seed, download, root, loaders)


def _cifar(
    kind: str,
    train_size: int | None,
    val_size: int,
    split_seed: int,
    download: bool,
    root: str | Path | None,
    loaders: dict[str, Any],
) -> VisionData:
    folder = Path(root if root is not None else "data").expanduser().absolute()
    pool, test, classes = _load_once(kind, folder, download)
    title = kind.replace("CIFAR", "CIFAR-")
    train, val = subset(pool, train_size, val_size, split_seed, title)
    return VisionData(
        {"train": train, **({"val": val} if val else {}), "test": test},
        name=kind.lower(),
        description=f"{title} (official images, 32x32), {len(train):,} training images",
        classes=list(classes),
        **loaders,
    )


@lru_cache(maxsize=2)
def _load_once(kind: str, folder: Path, download: bool) -> tuple[Split, Split, tuple[str, ...]]:
    from torchvision import datasets

    make = getattr(datasets, kind)
    try:
        # Looking first keeps torchvision from writing anything where the set already is.
        train = make(str(folder), train=True)
    except (RuntimeError, OSError):
        train = None
    try:
        train = train if train is not None else make(str(folder), train=True, download=download)
        test = make(str(folder), train=False)
    # Fetching fails in as many ways as there are networks.
    except Exception as error:
        title, base = kind.replace("CIFAR", "CIFAR-"), make.base_folder
        reason = f"could not be fetched ({error})" if download else "data.download is false"
        command = f"python -c \"from torchvision.datasets import {kind}; {kind}('{folder}', download=True)\""
        raise DataError(
            f"{title} is not in {folder} (looked for {base}) and {reason}; fetch it with {command}, or use "
            "data=npz data.path=<file>, data=image_folder data.path=<folder> or data=digits"
        ) from error
    pool, held_out = (
        Split(torch.from_numpy(part.data), torch.tensor(part.targets, dtype=torch.int64))
        for part in (train, test)
    )
    return pool, held_out, tuple(train.classes)
