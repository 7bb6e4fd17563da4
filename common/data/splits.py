"""Stratified, nested splits: who is in a smaller training set is in every larger one."""

from __future__ import annotations

import torch
from torch import Tensor

from common.core.seeding import uniform
from common.data.base import DataError, Split, whole_number
from common.data.views import stream

_WITHIN, _TIES = stream("split/within"), stream("split/ties")


def nested_order(labels: Tensor, seed: int, part: str) -> Tensor:
    """Orders samples so that every beginning of the order holds the classes in their proportions.

    Within a class the order is random; the k-th of n samples of a class is placed at (k + 1/2) / n.

    Args:
        labels: [N] int64.
        seed: of the split.
        part: what the order is for; different parts are independent.

    Returns:
        [N] int64, a permutation.
    """
    index = torch.arange(len(labels))
    shuffled = uniform(index, 1, seed, stream(part), _WITHIN).squeeze(1).argsort(stable=True)
    grouped = shuffled[labels[shuffled].argsort(stable=True)]
    counts = torch.bincount(labels)
    first = counts.cumsum(0) - counts
    classes = labels[grouped]
    place = (torch.arange(len(labels)) - first[classes] + 0.5) / counts[classes]
    ties = uniform(index, 1, seed, stream(part), _TIES).squeeze(1).argsort(stable=True)
    return grouped[ties[place[ties].argsort(stable=True)]]


def carve(labels: Tensor, count: int, seed: int, part: str) -> tuple[Tensor, Tensor]:
    """Takes a stratified sample.

    Returns:
        The indices taken [count], and all others [N - count], each in nested order.
    """
    order = nested_order(labels, seed, part)
    return order[:count], order[count:]


def subset(
    pool: Split, train_size: int | None, val_size: int, split_seed: int, where: str
) -> tuple[Split, Split | None]:
    """Cuts training and validation samples out of a pool.

    The validation samples depend on ``val_size`` and ``split_seed`` alone, so that training sets of any size
    leave them out; a smaller training set is the beginning of a larger one.

    Args:
        pool: everything that is not for testing.
        train_size: samples to train on, None for all that validation leaves.
        val_size: samples to validate on, 0 for none.
        split_seed: chooses who goes where.
        where: name of the data set, for the message.

    Raises:
        DataError: there are not enough samples.
    """
    whole_number(val_size, "val_size", 0)
    if train_size is None and val_size == 0:
        return pool, None
    if val_size >= len(pool):
        raise DataError(
            f"data.val_size={val_size} leaves nothing of the {len(pool)} images of {where} to train on"
        )
    chosen, rest = carve(pool.y, val_size, split_seed, "val")
    available = len(rest)
    size = available if train_size is None else whole_number(train_size, "train_size", 1)
    if size > available:
        beside = f" beside {val_size} for validation" if val_size else ""
        raise DataError(
            f"data.train_size={size} is more than the {available} images that {where} has{beside}"
        )
    train = rest[nested_order(pool.y[rest], split_seed, "train")[:size]]
    val = pool.take(chosen) if val_size else None
    return pool.take(train), val


def make_splits(
    pool: Split,
    test: Split | None,
    val: Split | None,
    *,
    train_size: int | None,
    val_size: int,
    test_fraction: float,
    split_seed: int,
    where: str,
) -> dict[str, Split]:
    """Puts splits together from what a source has.

    Samples to validate and to test on are put in nested order where they are given, too: files are often sorted by
    class, and a measurement of the first so many images would see a single one.

    Args:
        pool: samples to train on.
        test: samples to test on; None carves ``test_fraction`` out of the pool.
        val: samples to validate on; None carves ``val_size`` out of the pool.
        train_size: see ``subset``.
        val_size: see ``subset``.
        test_fraction: share of the pool, in (0, 1).
        split_seed: chooses who goes where.
        where: name of the data set, for the message.

    Raises:
        DataError: sizes that do not fit.
    """
    if test is None:
        count = round(len(pool) * test_fraction) if 0 < test_fraction < 1 else 0
        if not 0 < count < len(pool):
            raise DataError(
                f"data.test_fraction={test_fraction} of the {len(pool)} images of {where} leaves no image to "
                "test on or none to train on; give a fraction between 0 and 1 that does"
            )
        taken, rest = carve(pool.y, count, split_seed, "test")
        test, pool = pool.take(taken), pool.take(rest)
    else:
        test = _mixed(test, "test")
    if val is not None and val_size:
        raise DataError(f"data.val_size={val_size} has to be 0: {where} brings validation images of its own")
    train, carved = subset(pool, train_size, val_size, split_seed, where)
    val = _mixed(val, "val") if val is not None else carved
    return {"train": train, **({"val": val} if val is not None else {}), "test": test}


def _mixed(split: Split, part: str) -> Split:
    # No seed of the user's: what is measured does not depend on who was trained on.
    return split.take(nested_order(split.y, 0, part))
